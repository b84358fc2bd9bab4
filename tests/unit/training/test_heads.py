"""Every kind of head trains, is written as an AIR file, and reads back; a base without the head is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch.nn import functional

from tests.unit.training.tiny import config, difference, prepared, run, save_base, texts
from ual_registry.air.read import read
from ual_registry.errors import TrainingError
from ual_registry.interop.to_peft import to_peft
from ual_registry.models.loaded import LoadedBase
from ual_registry.training.factors import factors_on, lora_config, targets_of
from ual_registry.training.forms import Example
from ual_registry.training.heads import load_for_training
from ual_registry.training.objective import batch_loss
from ual_registry.training.rows import NO_LABEL

LABELS = ("bird", "cat", "dog")


def labelled(count: int = 48) -> list[Example]:
    """Return texts whose label stands in them."""
    return [Example(text=f"the {LABELS[index % 3]} number {index}", label=LABELS[index % 3]) for index in range(count)]


def answers(count: int = 40) -> list[Example]:
    """Return prompts with their completions."""
    return [Example(prompt=f"{own.text} say", completion=f"the cat {index}") for index, own in enumerate(texts(count))]


CASES: dict[str, tuple[str, str, list[Example]]] = {
    "gpt2": ("gpt2", "causal", texts()),
    "bert": ("bert", "masked", texts()),
    "bert with labels": ("bert", "classification", labelled()),
    "llama with labels": ("llama", "classification", labelled()),
    "t5": ("t5", "seq2seq", answers()),
    "prompts": ("llama", "causal", answers()),
}


def loaded(kind: str, head: str, folder: Path) -> LoadedBase:
    """Return a base model with a head."""
    save_base(folder / kind, kind)
    return load_for_training(folder / kind, head, labels=LABELS if head == "classification" else ())


@pytest.mark.parametrize("case", CASES)
def test_a_head_trains_and_reads_back(case: str, tmp_path: Path) -> None:
    kind, head, examples = CASES[case]
    base = loaded(kind, head, tmp_path)
    before = {name: own.clone() for name, own in base.model.state_dict().items()}
    result = run(base, tmp_path / "run", examples, head=head, steps=12, evaluate_every=4, learning_rate=1e-2)
    proof = result.record.proof
    assert proof is not None
    assert proof.verdict == "better"
    assert proof.reload_error < 1e-5
    assert (proof.bits_after is None) == (head in {"classification", "masked"})
    assert {entry.role for entry in result.adapter.entries} >= {"attention_query", "mlp_up", "mlp_down"}
    after = base.model.state_dict()
    assert [*before] == [*after]
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("case", ["bert with labels", "llama with labels"])
def test_a_head_for_labels_is_carried_by_the_file(case: str, tmp_path: Path) -> None:
    kind, head, examples = CASES[case]
    base = loaded(kind, head, tmp_path)
    result = run(base, tmp_path / "run", examples, head=head, steps=30, evaluate_every=10, learning_rate=2e-2)
    (statement,) = result.adapter.manifest.provenance
    assert statement.parameters["settings"]["labels"] == LABELS
    assert len(result.adapter.manifest.extra) == (4 if kind == "bert" else 1)
    with read(result.path) as adapter:
        to_peft(adapter, tmp_path / "peft")
    words = base.text_tokenizer(["the cat number 1"], return_tensors="pt")["input_ids"]
    found = []
    for own in (base, load_for_training(tmp_path / kind, head, labels=LABELS, seed=5)):
        wrapped: Any = peft.PeftModel.from_pretrained(own.model, str(tmp_path / "peft")).eval()
        found.append(wrapped(input_ids=words).logits)
    assert torch.allclose(*found, atol=1e-5)  # another random head stood in the second
    assert found[0].std() > 1e-3


@pytest.mark.parametrize("case", ["bert", "t5", "bert with labels"])
def test_how_a_step_is_cut_changes_nothing_for_other_heads(case: str, tmp_path: Path) -> None:
    kind, head, examples = CASES[case]
    base = loaded(kind, head, tmp_path)
    for module in base.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the base's own; it draws by micro-batch
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    quiet = {"head": head, "learning_rate": 1e-3, "steps": 4}
    one = run(base, tmp_path / "one", examples, **quiet)
    other = run(base, tmp_path / "other", examples, batch_size=1, accumulation=8, **quiet)
    losses = [[loss for _, loss in own.record.losses] for own in (one, other)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)
    assert difference(one, other) < 2e-5


def test_the_loss_of_a_decoder_is_that_of_the_model(tmp_path: Path) -> None:
    base = loaded("t5", "seq2seq", tmp_path)
    batch = {"input_ids": torch.arange(2, 10).reshape(2, 4), "labels": torch.tensor([[5, 6, 1], [7, 1, NO_LABEL]])}
    found = batch_loss(base.model, base.model, "seq2seq", batch)
    assert found.positions == 5
    assert float(found.total) / 5 == pytest.approx(float(base.model(**batch).loss), rel=1e-5)


def test_the_loss_of_labels_is_their_cross_entropy(tmp_path: Path) -> None:
    base = loaded("bert", "classification", tmp_path)
    ids, labels = torch.arange(2, 10).reshape(2, 4), torch.tensor([2, 0])
    found = batch_loss(base.model, base.model, "classification", {"input_ids": ids, "labels": labels})
    expected = functional.cross_entropy(base.model(input_ids=ids).logits, labels, reduction="sum")
    assert (found.positions, float(found.total)) == (2, pytest.approx(float(expected), rel=1e-6))


def test_only_factors_and_a_fresh_head_are_trained(tmp_path: Path) -> None:
    base = loaded("bert", "classification", tmp_path)
    own = config(head="classification")
    with factors_on(base, lora_config(base, targets_of(base, own), own), seed=0) as model:
        names = [name for name, value in model.named_parameters() if value.requires_grad]
    others = [name for name in names if ".lora_" not in name]
    assert [name.replace(".modules_to_save.default", "").removeprefix("base_model.model.") for name in others] == [
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    ]


def test_factors_follow_from_the_seed_alone(llama: LoadedBase) -> None:
    own, found = config(), []
    for seed in (0, 0, 1):
        torch.rand(3)  # what was drawn before must not matter
        with factors_on(llama, lora_config(llama, targets_of(llama, own), own), seed=seed) as model:
            found.append(next(value.clone() for name, value in model.named_parameters() if "lora_A" in name))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_tied_weights_stay_tied_and_untrained(tmp_path: Path) -> None:
    base = loaded("gpt2", "causal", tmp_path)
    run(base, tmp_path / "run", steps=2)
    assert base.model.lm_head.weight is base.model.transformer.wte.weight


@pytest.mark.parametrize(
    ("kind", "head", "message", "hint"),
    [
        ("bert", "causal", "that finds the next token", "heads of this model type: masked, classification"),
        ("bert", "seq2seq", "that answers a text with a text", "heads of this model type: masked, classification"),
        ("llama", "masked", "that finds masked tokens", "heads of this model type: causal, classification"),
        ("t5", "causal", "that finds the next token", "heads of this model type: seq2seq, classification"),
    ],
)
def test_a_base_without_the_head_is_refused(kind: str, head: str, message: str, hint: str, tmp_path: Path) -> None:
    save_base(tmp_path / kind, kind)
    with pytest.raises(TrainingError) as caught:
        load_for_training(tmp_path / kind, head)
    name = f"{tmp_path / kind / 'config.json'}"
    assert str(caught.value).endswith(f"model_type {kind!r} has no head {message}"), name
    assert (caught.value.problem_code, caught.value.hint) == ("no-head", hint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"roles": ("cross_attention_query",)}, "role 'cross_attention_query': llama has no module with it"),
        ({"layers": (7,)}, "layer 7: llama has layers 0 to 1"),
        ({"rank_pattern": {"mlp_up": 2}, "roles": ("mlp_down",)}, "setting rank_pattern.mlp_up: there is no such"),
    ],
)
def test_settings_that_do_not_fit_the_base_are_refused(
    changes: dict[str, Any], message: str, llama: LoadedBase, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError) as caught:
        run(llama, tmp_path / "run", **changes)
    assert str(caught.value).startswith(message)


def test_a_run_needs_a_gpu_only_where_one_is_asked_for(llama: LoadedBase, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(TrainingError) as caught:
        run(llama, tmp_path / "run", device="cuda")
    assert str(caught.value) == "setting device: expected a device that is there, got cuda"
    with pytest.raises(TrainingError) as caught:
        run(llama, tmp_path / "run", precision="float16")
    assert str(caught.value) == "setting precision: expected float32 or bfloat16 on a CPU, got float16"


def test_bfloat16_trains_on_a_cpu_too(llama_folder: Path, tmp_path: Path) -> None:
    base = load_for_training(llama_folder, "causal", dtype=torch.bfloat16)
    result = run(base, tmp_path / "run", precision="bfloat16", learning_rate=1e-2)
    assert result.record.proof is not None
    assert result.record.proof.verdict == "better"
    assert {own.dtype for own in result.adapter.tensors.values()} == {"F32"}
    assert prepared(base, config()).train
