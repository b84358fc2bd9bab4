"""What a training is held to: how a step is cut up changes nothing, the base stays, the result is what was trained."""

from __future__ import annotations

import json
import math
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch.nn import functional

from tests.unit.training.tiny import config, difference, prepared, run, tensors, texts
from ual_registry.air.effect import effect_of
from ual_registry.air.read import read, verify
from ual_registry.dispatch.acting import AdapterLoader, EffectProof
from ual_registry.dispatch.mixing import MixingModel
from ual_registry.errors import TrainingError
from ual_registry.interop.to_peft import to_peft
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase
from ual_registry.training.estimate import estimate
from ual_registry.training.heads import load_for_training
from ual_registry.training.log import read_log
from ual_registry.training.objective import batch_loss, trained_positions
from ual_registry.training.rows import NO_LABEL, rows_digest
from ual_registry.training.run import TrainingResult
from ual_registry.workflows.validate import validate

WHOLE = {"learning_rate": 1e-3, "batching": "shuffled", "batch_size": 8, "accumulation": 1, "evaluate_every": 6}
"""Every step is one batch."""


@pytest.fixture(scope="module")
def one(llama: LoadedBase, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """A run whose steps are not cut."""
    return run(llama, tmp_path_factory.mktemp("whole") / "run", **WHOLE)


@pytest.mark.parametrize("cut", [(4, 2), (2, 4), (1, 8)])
def test_how_a_step_is_cut_into_micro_batches_changes_nothing(
    cut: tuple[int, int], one: TrainingResult, llama: LoadedBase, tmp_path: Path
) -> None:
    size, accumulation = cut
    other = run(llama, tmp_path / "other", **{**WHOLE, "batch_size": size, "accumulation": accumulation})
    lengths = {len(row.input_ids) for row in prepared(llama, config()).train}
    assert len(lengths) > 10  # otherwise a mean of means would be the mean, too
    assert difference(one, other) < 1e-6  # AdamW makes rounding of small gradients larger, by the learning rate
    assert [loss for _, loss in one.record.losses] == pytest.approx([loss for _, loss in other.record.losses], abs=1e-5)


@pytest.mark.parametrize("batching", ["shuffled", "packed"])
def test_how_rows_are_put_together_changes_nothing(batching: str, llama: LoadedBase, tmp_path: Path) -> None:
    grouped = run(llama, tmp_path / "grouped", max_length=64)
    other = run(llama, tmp_path / "other", batching=batching, max_length=64)
    assert difference(grouped, other) < 1e-5
    assert grouped.record.tokens == other.record.tokens
    assert grouped.record.trained_tokens == other.record.trained_tokens


def test_the_same_seed_gives_the_same_file_but_for_what_is_measured_and_another_gives_another(
    llama: LoadedBase, tmp_path: Path
) -> None:
    one, same = (run(llama, tmp_path / name, dropout=0.2) for name in ("one", "same"))
    other = run(llama, tmp_path / "other", dropout=0.2, seed=1)
    assert one.adapter.manifest.tensor_digest == same.adapter.manifest.tensor_digest
    assert difference(one, other) > 1e-3
    (first,), (second,) = (own.adapter.manifest.provenance for own in (one, same))
    differs = {name for name, value in first.byproducts.items() if value != second.byproducts[name]}
    assert differs <= {"wall_time_s", "tokens_per_s", "peak_memory_bytes"}
    bare = [replace(own.adapter.manifest, provenance=(), manifest_digest="") for own in (one, same)]
    assert bare[0] == bare[1]
    assert replace(first, byproducts={}) == replace(second, byproducts={})


@pytest.mark.parametrize("batching", ["grouped", "packed"])
def test_halved_weights_are_trained_and_read_back_exactly(batching: str, llama_folder: Path, tmp_path: Path) -> None:
    base = load_for_training(llama_folder, "causal", dtype=torch.bfloat16)
    result = run(base, tmp_path / "run", precision="bfloat16", batching=batching, max_length=64)
    proof = result.record.proof
    assert proof is not None
    assert (proof.verdict, proof.reload_error, proof.logit_change > 1e-2) == ("better", 0.0, True)


def test_the_second_factor_learns_as_many_times_faster_as_asked_for(llama: LoadedBase, tmp_path: Path) -> None:
    once = {"steps": 1, "schedule": "constant", "warmup_steps": 0, "held_out_share": 0.0}
    largest = []
    for name, ratio in (("plain", None), ("faster", 16.0)):
        found = tensors(run(llama, tmp_path / name, lora_plus_ratio=ratio, **once))
        largest.append({own: float(value.abs().max()) for own, value in found.items() if "lora_B" in own})
    assert largest[0]
    for name, size in largest[0].items():
        assert largest[1][name] == pytest.approx(16 * size, rel=1e-4)


def test_every_row_is_trained_on_once_in_an_epoch(llama: LoadedBase, tmp_path: Path) -> None:
    result = run(llama, tmp_path / "run", steps=None, epochs=2.0, batch_size=3, accumulation=3)
    data = prepared(llama, config()).report.train
    assert data.rows % 9 != 0  # so that the last step is smaller
    assert result.record.tokens == 2 * data.tokens
    assert result.record.trained_tokens == 2 * data.trained_tokens
    assert (result.record.steps, result.record.steps_per_epoch) == (
        2 * math.ceil(data.rows / 9),
        math.ceil(data.rows / 9),
    )


def test_the_loss_is_the_mean_over_the_tokens_of_a_step(llama: LoadedBase, tmp_path: Path) -> None:
    own = config(batch_size=200, accumulation=1, steps=1)
    rows = prepared(llama, own).train
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([list(row.input_ids)])
            scores = torch.log_softmax(llama.model(input_ids=ids).logits[0].double(), dim=-1)
            for place, label in enumerate(row.labels):
                if label != NO_LABEL:
                    total, count = total - float(scores[place - 1, label]), count + 1
    result = run(llama, tmp_path / "run", batch_size=200, accumulation=1, steps=1)
    assert result.record.trained_tokens == count
    assert result.record.losses == ((1, pytest.approx(total / count, rel=1e-5)),)


def test_only_the_needed_logits_are_made_and_the_loss_is_the_same(llama: LoadedBase) -> None:
    labels = torch.full((2, 8), NO_LABEL)
    labels[0, 5], labels[1, 6] = 7, 9
    ids = torch.arange(16).reshape(2, 8)
    seen: list[int] = []
    hook = llama.model.lm_head.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    found = batch_loss(llama.model, llama.model, "causal", {"input_ids": ids, "labels": labels})
    hook.remove()
    logits = llama.model(input_ids=ids).logits
    expected = functional.cross_entropy(logits[[0, 1], [4, 5]], torch.tensor([7, 9]), reduction="sum")
    assert seen == [2]
    assert found.positions == trained_positions("causal", labels) == 2
    assert float(found.total) == pytest.approx(float(expected), rel=1e-6)


def test_a_batch_without_labels_has_no_loss_and_reaches_the_parameters(llama: LoadedBase) -> None:
    labels = torch.full((1, 4), NO_LABEL)
    weight = llama.model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    found = batch_loss(llama.model, llama.model, "causal", {"input_ids": torch.arange(4)[None], "labels": labels})
    (gradient,) = torch.autograd.grad(found.total, [weight])
    weight.requires_grad_(False)
    assert (float(found.total.detach()), found.positions, float(gradient.abs().max())) == (0.0, 0, 0.0)


def test_the_base_model_is_as_before(llama: LoadedBase, tmp_path: Path) -> None:
    before = {name: own.clone() for name, own in llama.model.state_dict().items()}
    cached = llama.model.config.use_cache
    run(llama, tmp_path / "run", dropout=0.1)
    after = llama.model.state_dict()
    assert [*before] == [*after]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (llama.model.training, llama.model.config.use_cache) == (False, cached)
    assert not any(own.requires_grad for own in llama.model.parameters())


def test_the_result_is_a_legal_file_that_reads_like_the_trained_model(llama: LoadedBase, tmp_path: Path) -> None:
    result = run(llama, tmp_path / "run")
    verify(result.adapter)
    assert [problem.code for problem in validate(result.path).problems] == ["unpinned-base"]
    proof = result.record.proof
    assert proof is not None
    assert (proof.verdict, proof.reload_error < 1e-5, proof.logit_change > 1e-3) == ("better", True, True)
    assert proof.size_bytes == result.path.stat().st_size
    ids = torch.arange(2, 12)[None]
    with torch.no_grad(), read(result.path) as adapter:
        to_peft(adapter, tmp_path / "peft")
        with attach(llama.model, adapter):
            attached = llama.model(input_ids=ids).logits
        wrapped: Any = peft.PeftModel.from_pretrained(llama.model, str(tmp_path / "peft"))
        assert torch.allclose(wrapped(input_ids=ids).logits, attached, atol=1e-5)
        wrapped.unload()


def test_what_is_held_out_is_measured_as_bits_of_its_bytes(llama: LoadedBase, tmp_path: Path) -> None:
    result = run(llama, tmp_path / "run")
    proof, held_out = result.record.proof, prepared(llama, config()).report.held_out
    assert proof is not None
    assert proof.loss_after is not None
    nats = proof.loss_after * held_out.trained_tokens
    assert proof.bits_after == pytest.approx(nats / math.log(2) / held_out.size_bytes)
    assert (proof.loss_before, proof.loss_after) == (
        result.record.held_out[0][1],
        min(own[1] for own in result.record.held_out),
    )


def test_the_best_factors_are_the_result_and_the_last_where_that_is_asked_for(
    llama: LoadedBase, tmp_path: Path
) -> None:
    rough = {"learning_rate": 0.1, "steps": 3, "schedule": "constant", "warmup_steps": 0, "evaluate_every": 1}
    best = run(llama, tmp_path / "best", **rough)
    last = run(llama, tmp_path / "last", keep="last", **rough)
    assert best.record.held_out == last.record.held_out
    losses = dict(best.record.held_out[1:])
    assert best.record.best_step == min(losses, key=lambda step: losses[step]) < 3
    assert last.record.best_step == 3
    assert difference(best, last) > 1e-3


def test_a_training_that_made_nothing_better_says_so(llama: LoadedBase, tmp_path: Path) -> None:
    result = run(llama, tmp_path / "run", learning_rate=1e-30, steps=2, schedule="constant", warmup_steps=0)
    proof = result.record.proof
    assert proof is not None
    assert (proof.verdict, proof.logit_change) == ("no better", 0.0)
    (statement,) = result.adapter.manifest.provenance
    assert statement.byproducts["verdict"] == "no better"


def test_patience_ends_a_run_that_no_longer_gets_better(llama: LoadedBase, tmp_path: Path) -> None:
    rough = {"learning_rate": 1.0, "steps": 50, "schedule": "constant", "warmup_steps": 0, "evaluate_every": 1}
    result = run(llama, tmp_path / "run", patience=2, **rough)
    assert result.record.steps == result.record.best_step + 2 < 50


def test_nothing_held_out_is_not_measured(llama: LoadedBase, tmp_path: Path) -> None:
    result = run(llama, tmp_path / "run", held_out_share=0.0)
    proof = result.record.proof
    assert proof is not None
    assert (proof.verdict, proof.loss_before, proof.bits_after) == ("not measured", None, None)
    assert result.record.held_out == ()
    assert result.record.best_step == 6


def test_the_record_says_what_went_in_and_how_it_went(llama: LoadedBase, tmp_path: Path) -> None:
    result = run(llama, tmp_path / "run", exclude=("mlp_gate",), rslora=True)
    (statement,) = result.adapter.manifest.provenance
    data = prepared(llama, config())
    assert statement.type == "training"
    assert statement.materials == (
        {"name": "base config", "digest": llama.base.config_digest},
        {"name": "base weights", "digest": llama.base.weights_digest},
        {"name": "examples", "digest": str(data.report.digest)},
        {"name": "rows", "digest": str(rows_digest(data.train, data.held_out))},
    )
    named = {key: value for key, value in statement.parameters.items() if key != "settings"}
    assert named == {
        "steps": 6,
        "epochs": pytest.approx(6 / 7, rel=1e-5),
        "batch_size": 8,
        "learning_rate": 5e-3,
        "schedule": "cosine",
        "warmup_steps": 1,
        "seed": 0,
        "max_length": 1024,
    }
    settings = statement.parameters["settings"]
    assert (settings["rslora"], settings["exclude"], settings["micro_batch"]) == (True, ("mlp_gate",), 4)
    assert {"tokens", "tokens_per_s", "wall_time_s", "peak_memory_bytes", "environment", "curve", "eval_curve"} <= {
        *statement.byproducts
    }
    assert [point["step"] for point in statement.byproducts["curve"]] == [1, 2, 3, 4, 5, 6]
    assert [point["step"] for point in statement.byproducts["eval_curve"]] == [0, 3, 6]
    assert {*statement.byproducts["environment"]} == {
        "python", "torch", "transformers", "peft", "accelerate", "processor", "cores", "memory", "device", "threads",
    }  # fmt: skip
    assert "mlp_gate" not in {entry.role for entry in result.adapter.entries}
    assert {entry.scaling for entry in result.adapter.entries} == {4.0}


def test_the_result_records_its_effect_and_has_it_when_it_is_loaded(one: TrainingResult, llama: LoadedBase) -> None:
    effect = effect_of(one.adapter.manifest)
    assert effect is not None
    assert (effect.dtype, effect.is_of(llama.base), len(effect.token_ids)) == ("float32", True, 16)
    # PEFT measured it on the trained model; here it is measured by other means on what is read back.
    loader = AdapterLoader(MixingModel(llama.model), llama.base)
    again = loader.measure(one.adapter, "one")
    assert [own.token for own in again.changes] == [own.token for own in effect.changes]
    assert [own.change for own in again.changes] == pytest.approx([own.change for own in effect.changes], abs=1e-4)
    assert loader.load(one.adapter, "one").effect is EffectProof.AS_RECORDED


def test_an_embedding_that_is_trained_leaves_an_effect_too(llama: LoadedBase, tmp_path: Path) -> None:
    result = run(llama, tmp_path / "run", roles=("token_embedding", "mlp_down"))
    effect = effect_of(result.adapter.manifest)
    assert effect is not None
    assert {entry.role for entry in result.adapter.entries} == {"token_embedding", "mlp_down"}
    assert max(effect.token_ids) < llama.model.config.vocab_size


def test_ranks_and_scalings_can_differ_by_role_and_by_module(llama: LoadedBase, tmp_path: Path) -> None:
    path = "model.layers.1.mlp.down_proj"
    result = run(
        llama,
        tmp_path / "run",
        roles=("attention_query", "mlp_down"),
        rank_pattern={"attention_query": 2, path: 3, "mlp_down": 4},  # the first that names a module counts
        alpha_pattern={path: 12.0, "attention_query": 8.0, "model.layers.0.self_attn.q_proj": 1.0},
    )
    found = {entry.source: (entry.rank, entry.scaling) for entry in result.adapter.entries}
    assert found == {
        "model.layers.0.self_attn.q_proj": (2, 4.0),
        "model.layers.1.self_attn.q_proj": (2, 4.0),
        "model.layers.0.mlp.down_proj": (4, 2.0),
        path: (3, 4.0),
    }


@pytest.mark.parametrize("changes", [{"dora": True}, {"lora_plus_ratio": 16.0}, {"gradient_checkpointing": True}])
def test_further_ways_train_too(changes: dict[str, Any], llama: LoadedBase, tmp_path: Path) -> None:
    plain, other = run(llama, tmp_path / "plain"), run(llama, tmp_path / "other", **changes)
    proof = other.record.proof
    assert proof is not None
    assert (proof.verdict, proof.reload_error < 1e-5) == ("better", True)
    if "gradient_checkpointing" in changes:
        assert difference(plain, other) < 1e-6
        assert not llama.model.is_activation_checkpointing
    else:
        assert (("dora" in changes) == (tensors(plain).keys() != tensors(other).keys())) is True


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "warmup-stable-decay"])
def test_the_learning_rate_goes_as_asked(schedule: str, llama: LoadedBase, tmp_path: Path) -> None:
    run(llama, tmp_path / "run", schedule=schedule, steps=10, warmup_steps=2, decay_share=0.4, learning_rate=1.0e-3)
    rates = [line["learning_rate"] for line in read_log(tmp_path / "run" / "log.jsonl") if line["event"] == "step"]
    expected = {
        "constant": [0, 0.5, *[1] * 8],
        "linear": [0, 0.5, *[1 - step / 8 for step in range(8)]],
        "cosine": [0, 0.5, *[(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]],
        "warmup-stable-decay": [0, 0.5, *[1] * 4, *[(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]],
    }
    assert rates == pytest.approx([rate * 1e-3 for rate in expected[schedule]])


@pytest.mark.parametrize("limit", [1e-3, None])
def test_gradients_are_clipped_to_a_norm(
    limit: float | None, llama: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def watched(own: torch.optim.AdamW, *args: Any) -> Any:
        grads = [item.grad.flatten() for group in own.param_groups for item in group["params"] if item.grad is not None]
        norms.append(float(torch.linalg.vector_norm(torch.cat(grads))))
        return step(own, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    run(llama, tmp_path / "run", max_gradient=limit)
    found = [event["grad_norm"] for event in read_log(tmp_path / "run" / "log.jsonl") if event["event"] == "step"]
    assert min(found) > 1e-3  # otherwise nothing would have to be clipped
    assert norms == pytest.approx([limit or norm for norm in found], rel=1e-3)


def test_the_log_tells_every_step_and_look(llama: LoadedBase, tmp_path: Path) -> None:
    result = run(llama, tmp_path / "run")
    lines = list(read_log(tmp_path / "run" / "log.jsonl"))
    events = [(line["event"], line["step"]) for line in lines]
    steps = [("step", step) for step in range(1, 7)]
    assert events == [("held_out", 0), *steps[:3], ("held_out", 3), *steps[3:], ("held_out", 6), ("end", 6)]
    losses = [(line["step"], line["loss"]) for line in lines if line["event"] == "step"]
    assert losses == list(result.record.losses)
    assert {*lines[1]} == {
        "event", "step", "elapsed_s", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_s",
    }  # fmt: skip


def test_what_is_computed_again_is_not_kept(llama: LoadedBase) -> None:
    found = [
        estimate(llama, prepared(llama, own), own).activations_bytes
        for own in (config(), config(gradient_checkpointing=True))
    ]
    assert found[1] < found[0] * 0.7


def test_the_process_around_a_training_is_not_disturbed(llama: LoadedBase, tmp_path: Path) -> None:
    random.seed(3)
    torch.manual_seed(3)
    expected = (random.random(), torch.rand(2).tolist())
    random.seed(3)
    torch.manual_seed(3)
    heard = signal.getsignal(signal.SIGTERM)
    run(llama, tmp_path / "run", dropout=0.1, steps=2)
    assert (random.random(), torch.rand(2).tolist()) == expected
    assert signal.getsignal(signal.SIGTERM) is heard


def test_an_adapter_is_never_put_on_another(llama: LoadedBase, tmp_path: Path) -> None:
    wrapped: Any = peft.get_peft_model(llama.model, peft.LoraConfig(target_modules=["q_proj"]))
    try:
        with pytest.raises(TrainingError) as caught:
            run(llama, tmp_path / "run")
    finally:
        wrapped.unload().requires_grad_(False)
    assert str(caught.value) == "base model llama: carries an adapter already"
    assert caught.value.problem_code == "already-adapted"


def test_no_pickle_is_written(llama: LoadedBase, tmp_path: Path) -> None:
    run(llama, tmp_path / "run")
    endings = {path.suffix for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert endings == {".air", ".json", ".jsonl", ".safetensors"}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["kind"] == "ual training run"


def test_texts_have_many_lengths() -> None:
    assert len({len(own.text or "") for own in texts()}) > 20
