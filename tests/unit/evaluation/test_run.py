"""Whole evaluations of adapters that were really trained, on a tiny model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.peft_folders import tiny_model
from tests.unit.evaluation.conftest import THINGS, Loaded, Scene, label_lines, word_tokenizer, write_jsonl
from ual_registry.air.adapter import Adapter
from ual_registry.air.codec import encode
from ual_registry.air.model import Statement
from ual_registry.air.schema import schema_problems
from ual_registry.air.write import write
from ual_registry.errors import NumericalError, TransferError
from ual_registry.evaluation.controls import random_same_norm, scaled
from ual_registry.evaluation.items import read_documents, read_exact, read_labels
from ual_registry.evaluation.plots import draw
from ual_registry.evaluation.recovery import Label
from ual_registry.evaluation.report import Evaluation
from ual_registry.evaluation.report_card import evaluation_statement
from ual_registry.evaluation.run import Baselines, Data, evaluate, score_arm
from ual_registry.evaluation.side_effects import measure_side_effects
from ual_registry.evaluation.tasks import BitsPerByte, ExactMatch, LabelLikelihood
from ual_registry.models.attach import attach

RESAMPLES = 500
ALL = range(len(THINGS))


def labels_data(folder: Path, **more: Any) -> Data:
    return Data(test=read_labels(write_jsonl(folder / "test.jsonl", label_lines(ALL))), **more)


def run(scene: Scene, name: str, data: Data, **baselines: str) -> Evaluation:
    others = Baselines(
        native=scene.adapter(baselines["native"]) if "native" in baselines else None,
        wrong_task=scene.adapter(baselines["wrong"]) if "wrong" in baselines else None,
        source=(lambda: scene.loaded, scene.adapter(baselines["source"])) if "source" in baselines else None,
    )
    return evaluate(scene.loaded, scene.adapter(name), LabelLikelihood(), data, baselines=others, resamples=RESAMPLES)


def values(found: Evaluation, metric: str) -> dict[str, float]:
    (report,) = [own for own in found.metrics if own.metric == metric]
    return {arm.arm: arm.value.value for arm in report.arms}


def test_an_adapter_against_itself_recovers_everything(scene: Scene, tmp_path: Path) -> None:
    found = run(scene, "native", labels_data(tmp_path), native="native", wrong="wrong")
    for report in found.metrics:
        arm = report.arm("adapter")
        assert arm is not None
        assert arm.recovered is not None
        assert (arm.recovered.value, arm.recovered.low, arm.recovered.high) == (1.0, 1.0, 1.0)
    assert found.labels == {"gold_nll": Label.WORKS, "accuracy": Label.WORKS}
    assert (found.label, found.notes, found.identity_error) == (Label.WORKS, (), 0.0)
    assert [arm.arm for arm in found.metrics[0].arms] == [
        "base",
        "adapter",
        "native",
        "random-1",
        "random-2",
        "random-3",
        "sign-flipped",
        "wrong-task",
    ]
    accuracy = values(found, "accuracy")
    assert accuracy["adapter"] == 1
    assert max(accuracy[name] for name in ("base", "random-1", "random-2", "random-3", "wrong-task")) < 0.7


def test_the_adapter_of_another_task_does_not_work(scene: Scene, tmp_path: Path) -> None:
    found = run(scene, "wrong", labels_data(tmp_path), native="native")
    assert found.label in (Label.NONE, Label.HARMFUL)


def test_the_adapter_turned_round_does_harm(scene: Scene, tmp_path: Path) -> None:
    turned = scaled(scene.adapter("native"), -1.0)
    data = labels_data(tmp_path)
    found = evaluate(
        scene.loaded,
        turned,
        LabelLikelihood(),
        data,
        baselines=Baselines(native=scene.adapter("native")),
        resamples=RESAMPLES,
    )
    assert (found.labels["gold_nll"], found.label) == (Label.HARMFUL, Label.HARMFUL)


def test_a_random_adapter_is_never_said_to_work(scene: Scene, tmp_path: Path) -> None:
    found = evaluate(
        scene.loaded,
        random_same_norm(scene.adapter("native"), 77),
        LabelLikelihood(),
        labels_data(tmp_path),
        baselines=Baselines(native=scene.adapter("native")),
        resamples=RESAMPLES,
    )
    assert found.label in (Label.NONE, Label.HARMFUL)


def test_without_a_native_adapter_the_note_says_so(scene: Scene, tmp_path: Path) -> None:
    found = run(scene, "native", labels_data(tmp_path))
    assert found.notes == (
        "gold_nll: no recovered gain, no native adapter was measured",
        "accuracy: no recovered gain, no native adapter was measured",
    )
    assert found.labels["gold_nll"] is Label.PARTIAL


def test_the_dose_is_chosen_on_dev_and_reported_on_test(scene: Scene, tmp_path: Path) -> None:
    dev = read_labels(write_jsonl(tmp_path / "dev.jsonl", label_lines(range(6))))
    strong = scaled(scene.adapter("native"), 2.0)
    data = labels_data(tmp_path, dev=dev)
    baselines = Baselines(native=scene.adapter("native"))
    found = evaluate(scene.loaded, strong, LabelLikelihood(), data, baselines=baselines, resamples=RESAMPLES)
    assert found.dose is not None
    assert [point.gamma for point in found.dose.points] == [-1.0, 0.0, 0.25, 0.5, 1.0, 2.0]
    losses = {
        gamma: score_arm(scene.loaded, LabelLikelihood(), dev.items, scaled(strong, gamma))[0].value
        for gamma in (-1.0, 0.0, 0.25, 0.5, 1.0, 2.0)
    }
    assert {point.gamma: point.values["gold_nll"] for point in found.dose.points} == losses
    assert found.dose.chosen == min((gamma for gamma in losses if gamma >= 0), key=losses.__getitem__)
    assert found.notes == (
        "6 items of dev are too few to choose a dose: expected at least 10",
        "6 items of dev are test items too, which the dose was chosen on",
    )


def test_a_dose_of_one_half_has_an_arm_and_a_verdict_of_its_own(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ual_registry.evaluation import run as module

    monkeypatch.setattr(module, "DOSES", (0.0, 0.5))
    dev = read_labels(write_jsonl(tmp_path / "dev.jsonl", label_lines(range(6))))
    found = run(scene, "native", labels_data(tmp_path, dev=dev), native="native")
    assert found.dose is not None
    assert found.dose.chosen == 0.5
    arm = found.metrics[0].arm("adapter x 0.5")
    assert arm is not None
    expected = score_arm(
        scene.loaded, LabelLikelihood(), labels_data(tmp_path).test.items, scaled(scene.adapter("native"), 0.5)
    )
    assert arm.value.value == expected[0].value
    assert set(found.dosed_labels) == {"gold_nll", "accuracy"}


def test_where_every_dose_is_worse_than_none_zero_is_chosen(scene: Scene, tmp_path: Path) -> None:
    dev = read_labels(write_jsonl(tmp_path / "dev.jsonl", label_lines(range(6))))
    turned = scaled(scene.adapter("native"), -1.0)
    found = evaluate(scene.loaded, turned, LabelLikelihood(), labels_data(tmp_path, dev=dev), resamples=RESAMPLES)
    assert found.dose is not None
    assert (found.dose.chosen, found.dosed_labels) == (0.0, {})


@pytest.mark.parametrize(
    ("things", "notes"),
    [
        (range(9), ("9 different items are too few for a verdict: expected at least 10",)),
        (
            [*range(9), *range(9)],
            (
                "9 items say what another one says, so the intervals are narrower than they should be",
                "9 different items are too few for a verdict: expected at least 10",
            ),
        ),
    ],
)
def test_of_a_few_items_nothing_is_said(
    scene: Scene, tmp_path: Path, things: Sequence[int], notes: tuple[str, ...]
) -> None:
    test = read_labels(write_jsonl(tmp_path / "test.jsonl", label_lines(things)))
    found = run(scene, "native", Data(test=test), native="native")
    assert found.labels == {"gold_nll": None, "accuracy": None}
    assert (found.label, found.dosed_labels, found.notes) == (None, {}, notes)


def test_ten_items_are_enough_for_a_verdict(scene: Scene, tmp_path: Path) -> None:
    test = read_labels(write_jsonl(tmp_path / "test.jsonl", label_lines(range(10))))
    found = run(scene, "native", Data(test=test), native="native")
    assert found.labels["gold_nll"] is Label.WORKS
    assert not [note for note in found.notes if "too few" in note]


def test_a_source_adapter_that_gains_nothing_makes_the_transfer_void(scene: Scene, tmp_path: Path) -> None:
    turned = scaled(scene.adapter("native"), -1.0)
    found = evaluate(
        scene.loaded,
        scene.adapter("native"),
        LabelLikelihood(),
        labels_data(tmp_path),
        baselines=Baselines(native=scene.adapter("native"), source=(lambda: scene.loaded, turned)),
        resamples=RESAMPLES,
    )
    assert "gold_nll: the source adapter gains nothing on its own base, so the transfer is void" in found.notes
    assert found.labels["gold_nll"] is None


def test_source_arms_are_measured_on_the_source_base(scene: Scene, tmp_path: Path) -> None:
    found = run(scene, "weak", labels_data(tmp_path), source="native")
    (loss, accuracy) = found.source
    assert [arm.arm for arm in loss.arms] == ["source-base", "source-adapter"]
    assert accuracy.arms[1].value.value == 1
    assert loss.arms[0].value.value == values(found, "gold_nll")["base"]


def test_bits_per_byte_of_text_that_an_adapter_learned_fall(scene: Scene, tmp_path: Path) -> None:
    texts = [{"text": f"{line['prompt']} {line['label']}"} for line in label_lines(ALL)]
    test = read_documents(write_jsonl(tmp_path / "texts.jsonl", texts))
    learned = scene.adapter("texts")
    before, after = (score_arm(scene.loaded, BitsPerByte(), test.items, own)[0] for own in (None, learned))
    with attach(scene.loaded.model, learned):
        ids = [scene.loaded.tokenizer(own["text"])["input_ids"] for own in texts]
        losses = [
            scene.loaded.model(input_ids=torch.tensor([[0, *own]]), labels=torch.tensor([[0, *own]])).loss.item()
            * len(own)
            for own in ids
        ]
    total = math.fsum(losses) / math.log(2) / sum(len(own["text"]) for own in texts)
    assert after.value == pytest.approx(total, abs=1e-5)
    assert after.value < 0.7 * before.value


def test_exact_match_of_a_trained_adapter_is_perfect(scene: Scene, tmp_path: Path) -> None:
    lines = [{"prompt": own["prompt"], "reference": own["label"]} for own in label_lines(ALL)]
    test = read_exact(write_jsonl(tmp_path / "exact.jsonl", lines))
    found = evaluate(
        scene.loaded,
        scene.adapter("native"),
        ExactMatch(),
        Data(test=test),
        baselines=Baselines(native=scene.adapter("native")),
        resamples=RESAMPLES,
    )
    hits = values(found, "exact_match")
    assert (hits["adapter"], hits["base"] < 0.5, found.label) == (1.0, True, Label.WORKS)


# Side effects


def test_side_effects_are_bits_and_divergence_over_whole_passes(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ual_registry.evaluation import likelihood

    monkeypatch.setattr(likelihood, "_LOGIT_BYTES", 1)  # eight positions at once, so the second text has segments
    texts = ["the dark thing3", "of the light of the dark of the light of the dark thing4"]
    generic = read_documents(write_jsonl(tmp_path / "generic.jsonl", [{"text": text} for text in texts]))
    adapter, model = scene.adapter("weak"), scene.loaded.model
    bits, divergences = [[], []], []
    for text in texts:
        ids = torch.tensor([[0, *scene.loaded.tokenizer(text)["input_ids"]]])
        with torch.no_grad():
            before = torch.log_softmax(model(input_ids=ids).logits[0].double(), dim=1)[:-1]
            with attach(model, adapter):
                after = torch.log_softmax(model(input_ids=ids).logits[0].double(), dim=1)[:-1]
        for column, scores in enumerate((before, after)):
            bits[column].append(-float(scores.gather(1, ids[0, 1:, None]).sum()) / math.log(2))
        divergences.extend((before.exp() * (before - after)).sum(dim=1).tolist())
    size = sum(len(text) for text in texts)
    found = measure_side_effects(
        scene.loaded, adapter, generic.items, data_digest=generic.digest, seed=0, resamples=RESAMPLES
    )
    assert (found.documents, found.data_digest) == (2, generic.digest)
    assert found.bits_per_byte.value == pytest.approx(sum(bits[0]) / size, abs=1e-5)
    assert found.change.value == pytest.approx((sum(bits[1]) - sum(bits[0])) / size, abs=1e-5)
    assert found.divergence.value == pytest.approx(math.fsum(divergences) / len(divergences), abs=1e-5)


# What is refused


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
def test_a_seed_that_is_none_is_refused_before_anything_is_measured(scene: Scene, tmp_path: Path, seed: Any) -> None:
    said: list[str] = []
    with pytest.raises(TransferError) as caught:
        evaluate(
            scene.loaded, scene.adapter("native"), LabelLikelihood(), labels_data(tmp_path), seed=seed, say=said.append
        )
    assert caught.value.message == f"seed {seed!r}: expected a whole number from 0 to 4294967295"
    assert said == []


def test_an_adapter_without_effect_is_refused(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(TransferError) as caught:
        evaluate(scene.loaded, scaled(scene.adapter("native"), 0.0), LabelLikelihood(), labels_data(tmp_path))
    assert caught.value.problem_code == "no-effect"


@pytest.mark.parametrize(("architecture", "name"), [("bert", "BertForMaskedLM"), ("t5", "T5ForConditionalGeneration")])
def test_a_model_that_is_no_causal_one_is_refused(scene: Scene, tmp_path: Path, architecture: str, name: str) -> None:
    loaded = Loaded(tiny_model(architecture, name), word_tokenizer())
    with pytest.raises(TransferError) as caught:
        evaluate(loaded, scene.adapter("native"), LabelLikelihood(), labels_data(tmp_path))
    assert caught.value.message == f"{name}: is no causal language model"


def test_a_module_that_never_ran_is_named(scene: Scene, tmp_path: Path) -> None:
    class Skipping:
        """Scores without running the model."""

        name = loss = "skip"
        is_plain = True

        def score(self, _loaded: Any, _items: Any) -> tuple[()]:
            return ()

    with pytest.raises(TransferError) as caught:
        score_arm(scene.loaded, Skipping(), labels_data(tmp_path).test.items, scene.adapter("native"))
    assert caught.value.message == (
        "14 of 14 modules that carry factors were never run, model.layers.0.self_attn.k_proj first"
    )


def test_a_base_that_changes_while_it_runs_is_refused(scene: Scene, tmp_path: Path) -> None:
    model = scene.loaded.model
    draw_again = model.lm_head.register_forward_hook(lambda _m, _i, output: output + torch.randn_like(output))
    try:
        with pytest.raises(NumericalError) as caught:
            evaluate(scene.loaded, scene.adapter("native"), LabelLikelihood(), labels_data(tmp_path), resamples=10)
    finally:
        draw_again.remove()
    assert caught.value.message.startswith("the base model does not give the same numbers twice (dose 0 differs by ")


def test_an_update_that_is_too_large_is_blamed_and_not_the_base(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(NumericalError) as caught:
        evaluate(scene.loaded, scaled(scene.adapter("native"), 1e30), LabelLikelihood(), labels_data(tmp_path))
    assert caught.value.message == (
        "adapter: LlamaForCausalLM: its logits are not finite, and with the base model alone it is not so"
    )
    assert caught.value.context == {"arm": "adapter"}


def test_a_source_base_that_cannot_be_run_is_told_before_anything_is_measured(scene: Scene, tmp_path: Path) -> None:
    said: list[str] = []

    def broken() -> Any:
        raise TransferError("base model old: it has no tokenizer, and text is needed", code="no-tokenizer")

    baselines = Baselines(source=(broken, scene.adapter("native")))
    with pytest.raises(TransferError, match="base model old"):
        evaluate(
            scene.loaded,
            scene.adapter("weak"),
            LabelLikelihood(),
            labels_data(tmp_path),
            baselines=baselines,
            say=said.append,
        )
    assert said == []


def test_everything_is_the_same_the_second_time(scene: Scene, tmp_path: Path) -> None:
    data = labels_data(tmp_path)
    one, other = (run(scene, "weak", data, native="native", wrong="wrong") for _ in range(2))
    assert one == other


# Report card and picture


def statement_of(found: Evaluation) -> Statement:
    return evaluation_statement(
        found,
        materials={"adapter": "sha256:" + "a" * 64},
        builder_version="1.2.3",
        created_at="2030-01-02T03:04:05Z",
    )


@pytest.fixture(scope="module")
def judged(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("judged")
    dev = read_labels(write_jsonl(folder / "dev.jsonl", label_lines(range(3))))
    generic = read_documents(write_jsonl(folder / "generic.jsonl", [{"text": "the dark"}, {"text": "of light"}]))
    return run(
        scene, "native", labels_data(folder, dev=dev, generic=generic), native="native", wrong="wrong", source="native"
    )


def test_the_report_card_is_legal_provenance_and_holds_every_number(
    judged: Evaluation, scene: Scene, tmp_path: Path
) -> None:
    statement = statement_of(judged)
    adapter = scene.adapter("native")
    path = tmp_path / "judged.air"
    write(Adapter(replace(adapter.manifest, provenance=(statement,)), adapter.tensors), path)
    (document,) = encode(replace(adapter.manifest, provenance=(statement,)))["provenance"]
    assert list(schema_problems("1.0/provenance.json", document, root="statement")) == []
    results = document["byproducts"]["results"]
    assert {key: value for key, value in results[0].items() if key in ("arm", "metric", "value", "n")} == {
        "arm": "adapter",
        "metric": "recovered_gain",
        "value": 1.0,
        "n": len(THINGS),
    }
    found = {(result["arm"], result["metric"]): result for result in results}
    assert len(found) == len(results)
    for report in (*judged.metrics, *judged.source):
        for arm in report.arms:
            own = found[arm.arm, report.metric]
            got = [own[key] for key in ("value", "low", "high")]
            assert got == pytest.approx([arm.value.value, arm.value.low, arm.value.high], rel=1e-5)
    assert document["byproducts"]["label"] == "works"
    assert document["parameters"]["settings"]["labels"] == {"gold_nll": "works", "accuracy": "works"}
    assert document["created_at"] == "2030-01-02T03:04:05Z"


def test_the_plain_recovered_gain_is_that_of_the_worst_metric(judged: Evaluation) -> None:
    loss, accuracy = judged.metrics

    def with_gain(report: Any, value: float) -> Any:
        arms = tuple(
            replace(arm, recovered=replace(arm.recovered, value=value)) if arm.arm == "adapter" else arm
            for arm in report.arms
        )
        return replace(report, arms=arms)

    mixed = replace(
        judged,
        metrics=(with_gain(loss, 0.9), with_gain(accuracy, 0.4)),
        labels={"gold_nll": Label.WORKS, "accuracy": Label.PARTIAL},
        label=Label.PARTIAL,
    )
    first = statement_of(mixed).byproducts["results"][0]
    assert (first["metric"], first["value"]) == ("recovered_gain", 0.4)


def test_without_headroom_the_report_card_has_no_recovered_gain_and_no_label(scene: Scene, tmp_path: Path) -> None:
    statement = statement_of(replace(run(scene, "native", labels_data(tmp_path)), label=None))
    metrics = {result["metric"] for result in statement.byproducts["results"]}
    assert metrics == {"gold_nll", "gain_gold_nll", "accuracy", "gain_accuracy"}
    assert "label" not in statement.byproducts


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_picture_is_drawn(judged: Evaluation, tmp_path: Path, suffix: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"picture{suffix}"
    draw(judged, path)
    data = path.read_bytes()
    assert data.startswith(magic)
    if suffix == ".svg":
        draw(judged, path)
        assert path.read_bytes() == data
        texts = data.decode()
        for text in ("adapter", "random-2", "wrong-task", "gold_nll, 95 % interval", "labels, 18 items: works"):
            assert f">{text}<" in texts
