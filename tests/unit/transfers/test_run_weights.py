"""Transfers by weights: the record, what is measured, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ground_truth.materials import LLAMA, adapter_of, byte_tokenizer, save, strong_model
from tests.unit.transfers.bases import gpt2, llama
from tests.unit.transfers.test_run_activations import random_adapter
from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.errors import BaseMismatchError, NoCounterpartError, NumericalError, TransferError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.projection.aligned import Norm
from ual_registry.projection.difference import relative_difference
from ual_registry.projection.factors import Factors, norm
from ual_registry.projection.recompress import energy_kept, recompress, stack
from ual_registry.projection.subspace import subspace
from ual_registry.projection.truncate import truncate
from ual_registry.tensors import entry_factors
from ual_registry.transfers.layers import LayerChoice
from ual_registry.transfers.outputs import slot_weight
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.report import LEFT_OUT_KEY, MEASURES_KEY, WARNINGS_KEY
from ual_registry.transfers.run import run_transfer
from ual_registry.transfers.run_weights import WEIGHT_METHODS, run_weights
from ual_registry.transfers.weight_fit import WeightOptions

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

SOURCE = Digest.of_bytes(b"source")
Bases = tuple[LoadedBase, LoadedBase]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    folder = tmp_path_factory.mktemp("bases")
    gpt2(folder)
    byte_tokenizer().save_pretrained(folder / "gpt2")
    return llama(folder), load_base_model(folder / "gpt2")


def carried(bases: Bases, method: str, *, adapter: Adapter | None = None, **options: Any) -> Any:
    given = adapter or random_adapter(bases[0])
    plan = make_plan(given.manifest, bases[1].config, target_revision="0" * 40)
    return run_weights(given, plan, *bases, method=method, source_digest=SOURCE, options=WeightOptions(**options))


def test_the_record_of_shared_tokens_says_what_went_in_and_what_was_measured(bases: Bases, tmp_path: Path) -> None:
    found = carried(bases, "vocab")
    write(found.adapter, tmp_path / "out.air")
    assert validate_file(tmp_path / "out.air").problems == ()
    with read(tmp_path / "out.air") as stored:
        (statement,) = stored.manifest.provenance
        assert stored.manifest.base_model.weights_digest == bases[1].base.weights_digest
    r2 = found.report.settings["anchor_r2"]
    assert statement.parameters == {
        "method": "vocab",
        "layer_map": "proportional",
        "layers": {"single": (0, 1, 1)},
        "rotary": "drop",
        "settings": {
            "anchors": "both",
            "shared_tokens": 256,
            "anchor_r2": tuple(r2),
            "penalties": (1.0, 1.0),  # two random models have nothing in common
            "gate": 0.0,
            "norm": "keep",
        },
    }
    assert max(r2) < 0.3
    assert [material["name"] for material in statement.materials] == [
        "source adapter",
        "source base config",
        "target base config",
        "source base weights",
        "target base weights",
    ]
    assert statement.byproducts["dropped_because"] == {
        "rotary position embedding differs between the bases": 4,
        "the target's MLP has no gate": 2,
    }
    measures = statement.annotations[MEASURES_KEY]
    assert set(measures["layers.2.mlp_down"]) == {"neuron_cosine", "neurons_paired"}
    assert set(measures["layers.0.attention_value"]) == {"head_cosine", "heads_paired"}
    assert measures["layers.0.mlp_up"]["neurons_paired"] == 0.5  # 48 neurons for 96
    (warning,) = statement.annotations[WARNINGS_KEY]
    assert warning.startswith("the tables of the two bases predict ")
    assert warning.endswith("% of each other on tokens held out; do not expect an effect")
    with attach(bases[1].model, found.adapter) as attached:
        bases[1].model(input_ids=torch.tensor([[1, 2, 3]]))
    assert attached.used == set(attached.modules)


def test_subspaces_are_used_and_how_much_hangs_on_signs_is_said(bases: Bases) -> None:
    adapter = random_adapter(bases[0])
    found = carried(bases, "subspace", adapter=adapter, k=7)
    assert found.report.settings == {"k": 7}
    assert len(found.report.entries) == 12
    source, target = (base.binding.slots() for base in bases)
    for layer, role in ((0, "attention_value"), (2, "mlp_down")):
        own = source[None, (0, 1, 1)[layer], role, None]
        entry = next(e for e in adapter.entries if (e.layer, e.role) == (own[1].layer, role))
        weights = slot_weight(bases[0], *own)[0], slot_weight(bases[1], *target[None, layer, role, None])[0]
        expected = subspace(entry_factors(adapter, entry), *weights, 7)
        made = next(e for e in found.adapter.entries if (e.layer, e.role) == (layer, role))
        got = entry_factors(found.adapter, made)
        torch.testing.assert_close(
            got.lora_B @ got.lora_A, (expected.lora_B @ expected.lora_A).double(), rtol=1e-5, atol=1e-6
        )
    report = found.report.entries[0]
    assert set(report.measures) == {"subspace_energy", "sign_variance"}
    assert report.energy_kept == report.measures["subspace_energy"]
    assert 0 < report.measures["sign_variance"] <= 2


def test_norms_can_be_restored(bases: Bases) -> None:
    kept, restored = (carried(bases, "vocab", norm=norm) for norm in (Norm.KEEP, Norm.RESTORE))
    assert [entry.norm_ratio for entry in restored.report.entries] == pytest.approx([1.0] * 12, rel=1e-6)
    assert max(entry.norm_ratio for entry in kept.report.entries) < 0.9  # maps of what is hardly alike shrink


def test_what_is_not_alike_enough_gets_nothing(bases: Bases) -> None:
    with pytest.raises(NoCounterpartError) as caught:
        carried(bases, "vocab", gate=0.99)
    assert caught.value.message == (
        "no entry of the adapter can be carried to gpt2: nothing in the target's layer is like what it belongs to"
    )
    gate = 0.1
    found = carried(bases, "vocab", gate=gate)
    assert all(
        measure > gate
        for entry in found.report.entries
        for name, measure in entry.measures.items()
        if name.endswith("_cosine")
    )


def test_copying_between_other_shapes_is_refused(bases: Bases) -> None:
    with pytest.raises(TransferError) as caught:
        carried(bases, "copy")
    assert caught.value.problem_code == "not-one-lineage"
    assert caught.value.message == (
        "layers.0.attention_value: shape (24, 24) in gpt2 does not match (16, 32) in the source; an update can be "
        "copied between equal shapes alone"
    )


def test_copying_between_unrelated_weights_is_refused_and_the_worst_named(bases: Bases, tmp_path: Path) -> None:
    other = changed(bases[0], tmp_path, lambda name, value: value.flip(0) if "layers.1.mlp.up" in name else value)
    with pytest.raises(TransferError) as caught:
        carried((bases[0], other), "copy")
    cosine = caught.value.context["cosine"]
    assert caught.value.problem_code == "not-one-lineage"
    assert caught.value.message == (
        "llama and changed are not of one lineage: 1 of 14 modules have weights whose cosine is not above 0.9, the "
        f"lowest {cosine:.3f} at layers.1.mlp_up"
    )
    found = carried((bases[0], other), "copy", threshold=-0.9)
    assert found.report.plan.counts() == {"kept": 14, "projected": 0, "dropped": 0}
    assert found.report.settings == {"threshold": -0.9}


def changed(base: LoadedBase, folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> LoadedBase:
    """Return a model of the same config whose weights are others."""
    model = strong_model("LlamaForCausalLM", LLAMA)
    model.load_state_dict({name: change(name, value.clone()) for name, value in base.model.state_dict().items()})
    return load_base_model(save(model, folder / "changed"))


@pytest.mark.parametrize("method", WEIGHT_METHODS)
@pytest.mark.parametrize("is_target", [False, True])
def test_weights_that_are_not_finite_are_named(method: str, is_target: bool, bases: Bases, tmp_path: Path) -> None:
    def damage(name: str, value: torch.Tensor) -> torch.Tensor:
        if name == "model.layers.1.self_attn.v_proj.weight":
            value[3, 4] = float("nan")
        return value

    damaged = changed(bases[0], tmp_path, damage)
    pair = (bases[0], damaged) if is_target else (damaged, bases[0])
    with pytest.raises(NumericalError) as caught:
        carried(pair, method, any_base=True)
    assert caught.value.message == "model.layers.1.self_attn.v_proj: its weight is not finite (base model changed)"


def test_tables_that_are_not_finite_are_refused(bases: Bases, tmp_path: Path) -> None:
    def damage(name: str, value: torch.Tensor) -> torch.Tensor:
        return value.index_fill(0, torch.tensor([7]), float("inf")) if "embed_tokens" in name else value

    with pytest.raises(NumericalError) as caught:
        carried((changed(bases[0], tmp_path, damage), bases[1]), "vocab", any_base=True)
    assert caught.value.message == "rows of 1 shared tokens are not finite"


@pytest.mark.parametrize("method", WEIGHT_METHODS)
def test_an_adapter_without_effect_is_refused(method: str, bases: Bases) -> None:
    with pytest.raises(TransferError) as caught:
        carried(bases, method, adapter=random_adapter(bases[0], size=0.0))
    assert caught.value.problem_code == "no-effect"


@pytest.mark.parametrize("method", WEIGHT_METHODS)
def test_another_base_than_the_adapter_s_is_refused(method: str, bases: Bases, tmp_path: Path) -> None:
    other = llama(tmp_path, rms_norm_eps=1e-5)
    adapter = random_adapter(bases[0])
    plan = make_plan(adapter.manifest, bases[1].config)
    with pytest.raises(BaseMismatchError) as caught:
        run_weights(adapter, plan, other, bases[1], method=method, source_digest=SOURCE)
    assert caught.value.message == (
        f"base model llama: digest of its config is {other.base.config_digest}, the adapter is for llama with "
        f"{bases[0].base.config_digest}"
    )


def test_a_method_that_needs_no_weights_is_refused(bases: Bases) -> None:
    with pytest.raises(TransferError) as caught:
        carried(bases, "svd")
    assert (caught.value.message, caught.value.problem_code) == (
        "method 'svd': expected one of copy, subspace, vocab",
        "unknown-method",
    )


def test_a_base_without_tokenizer_has_no_shared_tokens(bases: Bases) -> None:
    with pytest.raises(TransferError) as caught:
        carried((bases[0], replace(bases[1], tokenizer=None)), "vocab")
    assert caught.value.message == "base model gpt2: it has no tokenizer, and text is needed"


class OneToken:
    """A tokenizer that knows few letters.

    Attributes:
        letters: Its letters, by id.
    """

    all_special_ids = ()

    def __init__(self, letters: str) -> None:
        self.letters = letters

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [0]}

    def get_vocab(self) -> dict[str, int]:
        return {letter: index for index, letter in enumerate(self.letters)}

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(self.letters[index] for index in ids)

    def batch_decode(self, rows: list[list[int]], **_: Any) -> list[str]:
        return [self.decode(row) for row in rows]

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.letters[index] for index in ids]


@pytest.mark.parametrize(
    ("letters", "message"),
    [
        ("xy", "the tokenizers of llama and gpt2 have no token in common"),
        ("ax", "the tokenizers of llama and gpt2 have one token in common: expected at least two"),
    ],
)
def test_bases_without_shared_tokens_are_refused(letters: str, message: str, bases: Bases) -> None:
    pair = replace(bases[0], tokenizer=OneToken("abc")), replace(bases[1], tokenizer=OneToken(letters))
    with pytest.raises(TransferError) as caught:
        carried(pair, "vocab")
    assert (caught.value.message, caught.value.problem_code) == (message, "no-shared-tokens")


def test_fewer_shared_tokens_than_features_are_said(bases: Bases) -> None:
    pair = replace(bases[0], tokenizer=OneToken("abcdefgh")), replace(bases[1], tokenizer=OneToken("hgfedcba"))
    found = carried(pair, "vocab")
    assert found.report.settings["shared_tokens"] == 8
    assert found.report.warnings[0] == (
        "8 shared tokens for maps from up to 32 features: in some directions the penalty alone decides"
    )


def test_a_base_without_output_table_is_aligned_by_its_embeddings(bases: Bases, tmp_path: Path) -> None:
    bases[1].model.transformer.save_pretrained(tmp_path / "body")
    bases[1].tokenizer.save_pretrained(tmp_path / "body")
    body = load_base_model(tmp_path / "body")
    assert carried((bases[0], body), "vocab").report.plan.counts()["projected"] == 12
    with pytest.raises(TransferError) as caught:
        carried((bases[0], body), "vocab", anchors="unembedding")
    assert (caught.value.message, caught.value.problem_code) == (
        "base model body: GPT2Model has no output table",
        "no-table",
    )


def test_pooled_layers_are_added_up_and_recorded(bases: Bases, tmp_path: Path) -> None:
    deep = llama(tmp_path, num_hidden_layers=5)
    adapter = random_adapter(deep)
    plan = make_plan(adapter.manifest, bases[0].config, layers=LayerChoice(policy="pool"), target_revision="0" * 40)
    assert plan.pools == {None: ((0, 1, 2), (3, 4))}
    found = run_weights(adapter, plan, deep, bases[0], method="vocab", source_digest=SOURCE)
    assert found.report.plan.counts() == {"kept": 0, "projected": 35, "dropped": 0}
    report = next(entry for entry in found.report.entries if entry.target == "layers.1.mlp_up")
    assert report.source == "layers.3.mlp_up + layers.4.mlp_up"
    assert set(report.carried) == {"layers.3.mlp_up", "layers.4.mlp_up"}
    assert set(report.measures) == {"neuron_cosine", "neurons_paired", "pool_energy"}
    assert 0 < report.measures["pool_energy"] < 1
    write(found.adapter, tmp_path / "out.air")
    assert validate_file(tmp_path / "out.air").problems == ()
    (statement,) = found.adapter.manifest.provenance
    assert statement.parameters["layer_map"] == "proportional, pooled"
    assert statement.parameters["layers"] == {"single": [0, 4]}
    assert statement.parameters["settings"]["layer_pools"] == {"single": [[0, 1, 2], [3, 4]]}
    assert {entry.rank for entry in found.adapter.entries} == {3}
    assert all(norm(entry_factors(found.adapter, entry)) > 0 for entry in found.adapter.entries)


def test_methods_of_shapes_alone_add_up_pooled_layers_too(bases: Bases, tmp_path: Path) -> None:
    deep = llama(tmp_path, num_hidden_layers=3)
    adapter = random_adapter(deep)
    plan = make_plan(adapter.manifest, bases[1].config, layers=LayerChoice(policy="pool", found={None: (0, 0, 2)}))
    assert plan.pools == {None: ((0, 1), (0,), (2,))}
    found = run_transfer(adapter, plan, method="truncate", source_digest=SOURCE)
    own = {entry.label: truncate(entry_factors(adapter, entry), 24, 96) for entry in adapter.entries}
    made = {entry.label: entry_factors(found.adapter, entry) for entry in found.adapter.entries}
    whole = stack([own["layers.0.mlp_up"].scaled(0.5), own["layers.1.mlp_up"]])
    assert apart(made["layers.0.mlp_up"], recompress(whole, 3)) < 1e-6  # the result is stored in float32
    assert apart(made["layers.1.mlp_up"], own["layers.0.mlp_up"].scaled(0.5)) < 1e-6
    assert apart(made["layers.2.mlp_up"], own["layers.2.mlp_up"]) < 1e-6
    reports = {entry.target: entry for entry in found.report.entries}
    assert reports["layers.0.mlp_up"].measures == {"pool_energy": pytest.approx(energy_kept(whole, 3))}
    assert reports["layers.2.mlp_up"].measures == {}


def apart(one: Factors, other: Factors) -> float:
    found = relative_difference(one.to_float64(), other.to_float64())
    assert found is not None
    return found


def test_other_roles_than_those_of_attention_and_mlp_are_left_out(bases: Bases, tmp_path: Path) -> None:
    settings = {**LLAMA, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "num_experts": 2}
    model = strong_model("Qwen2MoeForCausalLM", {**settings, "num_experts_per_tok": 1})
    source = load_base_model(save(model, tmp_path / "source"))
    with torch.no_grad():
        model.lm_head.weight.mul_(1.01)
    target = load_base_model(save(model, tmp_path / "target"))
    wanted = {"attention_value", "shared_mlp_up"}
    modules = [module for module in source.binding.modules.values() if module.slots[0].role in wanted]
    shapes = {module.path: module.matrix_shape for module in modules}
    factors = {path: (torch.randn(3, width), torch.randn(height, 3)) for path, (height, width) in shapes.items()}
    adapter = adapter_of(source, modules, factors)
    found = carried((source, target), "vocab", adapter=adapter)
    assert [entry.target for entry in found.report.entries] == [
        "layers.0.attention_value",
        "layers.1.attention_value",
    ]
    assert found.report.left_out == {
        f"layers.{layer}.shared_mlp_up": "shared tokens say nothing of what it reads or writes" for layer in (0, 1)
    }
    assert found.adapter.manifest.provenance[0].annotations[LEFT_OUT_KEY] == found.report.left_out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors": "words"}, "anchors 'words': expected one of embedding, unembedding, both"),
        ({"norm": "functional"}, "norm 'functional': expected one of keep, restore"),
        ({"k": 0}, "k: got 0, which is out of range"),
        ({"threshold": 1.0}, "threshold: got 1.0, which is out of range"),
        ({"penalties": ()}, "penalties: got (), which is out of range"),
        ({"penalties": (-1.0,)}, "penalties: got (-1.0,), which is out of range"),
        ({"gate": 1.0}, "gate: got 1.0, which is out of range"),
    ],
)
def test_options_that_mean_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TransferError) as caught:
        WeightOptions(**changes)
    assert (caught.value.message, caught.value.problem_code) == (message, "bad-option")
