"""Transfers carried out: the numbers against dense references, and the result in real target models."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ual_registry as ual
from tests.handmade import base_model, entry, floats, llama_base, method, small_adapter
from tests.peft_folders import PeftFolders, outputs
from tests.reference import projection as reference
from tests.reference.lora import entry_delta
from ual_registry.air.adapter import Adapter
from ual_registry.air.codec import encode
from ual_registry.air.document import MANIFEST_SCHEMA
from ual_registry.air.effect import EFFECT_KEY
from ual_registry.air.model import Lineage, Manifest, Method, Parent
from ual_registry.air.schema import schema_problems
from ual_registry.air.tensor import Tensor
from ual_registry.digest import Digest
from ual_registry.errors import MissingExtraError, NumericalError, RuleError, TransferError
from ual_registry.projection.methods import SHAPE_METHODS
from ual_registry.tensors import entry_factors, from_torch, to_torch
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.run import run_transfer

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made

LLAMA_MODULES = {
    "self_attn.q_proj": ("attention_query",),
    "self_attn.k_proj": ("attention_key",),
    "self_attn.v_proj": ("attention_value",),
    "self_attn.o_proj": ("attention_output",),
    "mlp.up_proj": ("mlp_up",),
    "mlp.down_proj": ("mlp_down",),
    "mlp.gate_proj": ("mlp_gate",),
}
FUSED = ("attention_query", "attention_key", "attention_value")
MODULES: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "llama": ("model.layers.{}.", LLAMA_MODULES),
    "gemma3_text": ("model.layers.{}.", LLAMA_MODULES),
    "gpt2": (
        "transformer.h.{}.",
        {
            "attn.c_attn": FUSED,
            "attn.c_proj": ("attention_output",),
            "mlp.c_fc": ("mlp_up",),
            "mlp.c_proj": ("mlp_down",),
        },
    ),
    "gpt_neox": (
        "gpt_neox.layers.{}.",
        {
            "attention.query_key_value": FUSED,
            "attention.dense": ("attention_output",),
            "mlp.dense_h_to_4h": ("mlp_up",),
            "mlp.dense_4h_to_h": ("mlp_down",),
        },
    ),
    "roberta": (
        "roberta.encoder.layer.{}.",
        {
            "attention.self.query": ("attention_query",),
            "attention.self.key": ("attention_key",),
            "attention.self.value": ("attention_value",),
            "attention.output.dense": ("attention_output",),
            "intermediate.dense": ("mlp_up",),
            "output.dense": ("mlp_down",),
        },
    ),
}
"""Written by hand, so that a mistake in a binder is seen: module paths and the roles of their rows."""


def join(parts: list[np.ndarray], architecture: str, heads: int) -> np.ndarray:
    """Put query, key and value together as the architecture stores them."""
    if architecture == "gpt_neox":
        width = len(parts[0]) // heads
        blocks = [part[head * width : (head + 1) * width] for head in range(heads) for part in parts]
        return np.concatenate(blocks)
    return np.concatenate(parts)


def layer_of(sources: int, targets: int, layer: int) -> int:
    """Return the proportional layer, halves upwards."""
    return int(np.floor(layer * (sources - 1) / max(targets - 1, 1) + 0.5))


def expected_deltas(
    adapter: Adapter, architecture: str, shapes: dict[str, tuple[int, int]], *, layers: int, how: str, dropped: set[str]
) -> dict[str, np.ndarray]:
    """Return what every module of the target must add, by dense projection of every source entry.

    Args:
        adapter: The source.
        architecture: The target's.
        shapes: (out, in) of every module of the target by path, fused modules whole.
        layers: The target's blocks.
        how: The method.
        dropped: Roles that stay behind.
    """
    entries = {(item.layer, item.role): item for item in adapter.entries}
    sources = adapter.manifest.base_model.stacks[0].num_layers
    prefix, modules = MODULES[architecture]
    found = {}
    for layer in range(layers):
        for path, roles in modules.items():
            rows, columns = shapes[prefix.format(layer) + path]
            rows //= len(roles)
            parts = []
            for role in roles:
                source = entries.get((layer_of(sources, layers, layer), role))
                if source is None or role in dropped:
                    parts.append(np.zeros((rows, columns)))
                    continue
                matrix = entry_delta(adapter, source)
                is_kept = matrix.shape == (rows, columns)
                parts.append(matrix if is_kept else reference.fit(how, matrix, source.rank, columns, rows))
            if any(part.any() for part in parts):
                found[prefix.format(layer) + path] = join(parts, architecture, heads=4)
    return found


def peft_layers(model: Any) -> dict[str, Any]:
    return {
        name.removeprefix("base_model.model."): layer
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }


def load(target: Any, folder: Path) -> Any:
    """Load a PEFT folder into a real target, and check that the model holds exactly what the file holds."""
    import peft
    import safetensors.torch

    model = peft.PeftModel.from_pretrained(target.model(), str(folder)).eval()
    stored = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    held = peft.get_peft_model_state_dict(model)
    assert held.keys() == stored.keys()
    assert all(torch.equal(held[name], stored[name]) for name in stored)
    return model


ROTATED = {"attention_query", "attention_key"}
TRANSFERS: dict[str, tuple[str, str, str, dict[str, Any], str, set[str]]] = {
    "llama to larger gemma3": (
        "llama",
        "plain",
        "gemma3_text",
        {"hidden_size": 24, "num_hidden_layers": 3, "intermediate_size": 40},
        "drop",
        set(),
    ),
    "llama with patterns to smaller llama": (
        "llama",
        "patterns",
        "llama",
        {"hidden_size": 8, "num_hidden_layers": 1},
        "drop",
        set(),
    ),
    "llama to fused gpt2": ("llama", "plain", "gpt2", {}, "drop", ROTATED),
    "llama to fused gpt2 with query and key": ("llama", "plain", "gpt2", {"n_embd": 24}, "project", set()),
    "llama to interleaved gpt_neox": (
        "llama",
        "patterns",
        "gpt_neox",
        {"hidden_size": 24, "num_hidden_layers": 3},
        "project",
        set(),
    ),
    "gpt2 to llama": ("gpt2", "plain", "llama", {}, "drop", ROTATED),
    "gpt2 to larger gpt2": ("gpt2", "patterns", "gpt2", {"n_embd": 24, "n_layer": 3}, "drop", set()),
    "gpt_neox to gpt2": ("gpt_neox", "plain", "gpt2", {"n_embd": 32}, "project", set()),
    "bert to fused gpt2, where all three parts are kept": ("bert", "patterns", "gpt2", {}, "drop", set()),
    "bert to interleaved gpt_neox": ("bert", "plain", "gpt_neox", {}, "project", set()),
    "bert to larger roberta": ("bert", "patterns", "roberta", {"hidden_size": 24}, "drop", set()),
}


@pytest.mark.parametrize("how", SHAPE_METHODS)
@pytest.mark.parametrize("case", TRANSFERS)
def test_a_real_target_adds_what_the_dense_reference_says(
    peft_folders: PeftFolders, target: Callable[..., Any], tmp_path: Path, case: str, how: str
) -> None:
    source, option, architecture, changes, rotary, dropped = TRANSFERS[case]
    folder, goal = peft_folders.get(source, option), target(architecture, **changes)
    with ual.from_peft(folder.path, base=folder.base) as adapter:
        result = ual.transfer(adapter, goal.folder, method=how, rotary=rotary)
        digest = ual.write(result.adapter, tmp_path / "out.air")
        report = ual.validate(tmp_path / "out.air")
        assert [(problem.code, problem.is_warning) for problem in report.problems] == [("unpinned-base", True)]
        with ual.read(tmp_path / "out.air") as written:
            ual.to_peft(written, tmp_path / "peft")
            # Writing what was read gives the same bytes, so the result is complete in its file.
            assert ual.write(written, tmp_path / "again.air") == digest

        model = load(goal, tmp_path / "peft").double()
        layers = peft_layers(model)
        shapes = {path: tuple(layer.get_base_layer().weight.shape) for path, layer in layers.items()}
        if architecture == "gpt2":
            shapes = {path: (shape[1], shape[0]) for path, shape in shapes.items()}
        missing = {
            MODULES[architecture][0].format(layer) + path
            for layer in range(result.adapter.manifest.base_model.stacks[0].num_layers)
            for path in MODULES[architecture][1]
        } - shapes.keys()
        named = dict(goal.model().named_modules())
        shapes |= {path: tuple(named[path].weight.shape) for path in missing}
        depth = result.adapter.manifest.base_model.stacks[0].num_layers
        expected = expected_deltas(adapter, architecture, shapes, layers=depth, how=how, dropped=dropped)
    assert layers.keys() == expected.keys()
    for path, layer in layers.items():
        with torch.no_grad():
            delta = layer.get_delta_weight("default").numpy()
        actual = delta.T if architecture == "gpt2" else delta
        # Factors are stored as float32 after float64: half a unit in the last place of each of two factors, over sums
        # of at most fifteen products of balanced size.
        assert reference.norm(actual - expected[path]) <= 2e-6 * reference.norm(expected[path])


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "qwen2", "bert", "t5"])
@pytest.mark.parametrize("option", ["plain", "patterns"])
def test_a_transfer_to_the_own_base_changes_no_bit_and_no_logit(
    peft_folders: PeftFolders, tmp_path: Path, architecture: str, option: str
) -> None:
    """The number R of the identity is one by construction: there is nothing that differs."""
    folder = peft_folders.get(architecture, option)
    with ual.from_peft(folder.path, base=folder.base) as adapter:
        result = ual.transfer(adapter, folder.base, method="interpolate")
        plain = {name: tensor for name, tensor in adapter.tensors.items() if not name.startswith("extra.")}
        assert {name: (t.dtype, t.shape, t.to_bytes()) for name, t in result.adapter.tensors.items()} == {
            name: (t.dtype, t.shape, t.to_bytes()) for name, t in plain.items()
        }
        old = [(e.label, e.rank, e.scaling, e.source, e.slice) for e in adapter.entries]
        assert [(e.label, e.rank, e.scaling, e.source, e.slice) for e in result.adapter.entries] == old
        assert {e.action for e in result.report.entries} == {"kept"}
        assert result.report.energy_share == pytest.approx(1.0, rel=1e-12)  # a quotient of equal sums
        ual.to_peft(result.adapter, tmp_path / "peft")

    if adapter.manifest.extra:
        return  # heads of BERT have no role, stay behind, and are part of the logits
    # PEFT multiplies by alpha over rank, the same double on both sides.
    assert torch.equal(outputs(folder.load(tmp_path / "peft"), architecture), folder.logits)


def test_kept_entries_keep_their_bytes_beside_projected_ones(
    peft_folders: PeftFolders, target: Callable[..., Any]
) -> None:
    folder = peft_folders.get("llama", "patterns")
    with ual.from_peft(folder.path, base=folder.base) as adapter:
        result = ual.transfer(adapter, target("gemma3_text", intermediate_size=40).folder)
        kept = {item.source for item in result.report.entries if item.action == "kept"}
        assert {label.split(".")[-1] for label in kept} == {
            "attention_query",
            "attention_key",
            "attention_value",
            "attention_output",
        }
        before = {item.label: item for item in adapter.entries}
        for item in result.adapter.entries:
            if item.label in kept:
                old = before[item.label]
                assert (item.rank, item.scaling) == (old.rank, old.scaling)
                for name, was in ((item.lora_A, old.lora_A), (item.lora_B, old.lora_B)):
                    assert result.adapter.tensors[name].to_bytes() == adapter.tensors[was].to_bytes()
            else:
                assert item.scaling == 1.0


def llama_target(**changes: Any) -> Any:
    return llama_base(num_key_value_heads=2, **changes)


def test_the_result_says_where_it_comes_from() -> None:
    """The whole manifest, by hand: GPT-NeoX to a Llama whose MLP is wider."""
    annotations = {"example.k": 1, EFFECT_KEY: {}}  # what the source did is not what the result does
    source = small_adapter(name="label", tags=("t",), annotations=annotations, description="what it does")
    digest = Digest.of_bytes(b"the source's file")
    plan = make_plan(source.manifest, llama_target(intermediate_size=8), target_id="org/llama", rotary="project")

    result = run_transfer(source, plan, method="truncate", source_digest=digest)

    manifest = result.adapter.manifest
    assert list(schema_problems(MANIFEST_SCHEMA, encode(sealed(manifest)), root="manifest")) == []
    assert manifest.base_model == plan.target
    assert (manifest.base_model.id, manifest.base_model.architecture) == ("org/llama", "llama")
    assert manifest.method == Method(
        type="lora",
        task_type="CAUSAL_LM",
        rank=2,
        alpha=2.0,
        scaling_rule="alpha/rank",
        dropout=0.0,
        bias="none",
        dora=False,
    )
    kept = (manifest.name, manifest.description, manifest.tags, dict(manifest.annotations))
    assert kept == ("label", "what it does", ("t",), {"example.k": 1})
    assert (manifest.extra, manifest.features, manifest.origin, manifest.created_at) == ((), (), None, None)
    assert manifest.lineage == Lineage(parents=(Parent(digest=str(digest), relation="projected_from"),))
    assert [(e.label, e.source, e.slice, e.rank, e.scaling) for e in manifest.entries] == [
        ("layers.0.attention_key", "model.layers.0.self_attn.k_proj", None, 2, 2.0),
        ("layers.0.attention_query", "model.layers.0.self_attn.q_proj", None, 2, 2.0),
        ("layers.0.mlp_up", "model.layers.0.mlp.up_proj", None, 2, 1.0),
    ]

    energies = [reference.norm(entry_delta(source, item)) ** 2 for item in source.entries]
    values = np.linalg.svd(entry_delta(source, source.entries[2]), compute_uv=False)
    ranks = {
        item.role: reference.effective_rank(np.linalg.svd(entry_delta(source, item), compute_uv=False)[:2])
        for item in source.entries
    }
    assert len(energies) == 3
    assert values.shape == (4,)
    (statement,) = manifest.provenance
    byproducts = dict(statement.byproducts)
    entries = byproducts.pop("entries")
    assert (statement.type, statement.builder, statement.parameters, statement.materials, byproducts) == (
        "projection",
        {"name": "ual-registry", "version": importlib.metadata.version("ual-registry")},
        {"method": "truncate", "layer_map": "proportional", "layers": {"single": [0, 1]}, "rotary": "project"},
        (
            {"name": "source adapter", "digest": str(digest)},
            {"name": "source base config", "digest": source.manifest.base_model.config_digest},
            {"name": "target base config", "digest": str(llama_target(intermediate_size=8).digest)},
        ),
        {
            "kept": 2,
            "projected": 1,
            "dropped": 1,
            "dropped_because": {"a tensor without a role cannot be projected": 1},
            "energy_share": 1.0,
        },
    )
    assert entries == {
        f"layers.0.{role}": {
            "source": f"layers.0.{role}",
            "energy_kept": 1.0,
            "norm_ratio": 1.0,
            "effective_rank": pytest.approx(ranks[role], rel=1e-5),  # stored with six digits
        }
        for role in ("attention_query", "attention_key", "mlp_up")
    }


def sealed(manifest: Manifest) -> Manifest:
    """Fill in what the writer fills in, so that the document can be checked."""
    some = str(Digest.of_bytes(b""))
    return replace(manifest, tensor_digest=some, manifest_digest=some)


def test_numbers_in_the_record_have_six_digits(air_file: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**llama_target(intermediate_size=5).document, "hidden_size": 3}))
    result = ual.transfer(air_file, tmp_path / "config.json", method="interpolate")
    (statement,) = result.adapter.manifest.provenance
    (measures,) = statement.byproducts["entries"].values()
    (report,) = result.report.entries
    for field in ("energy_kept", "norm_ratio", "effective_rank"):
        assert measures[field] == float(f"{getattr(report, field):.6g}")
    assert statement.byproducts["energy_share"] == float(f"{result.report.energy_share:.6g}")


def test_the_parent_is_the_file_that_was_read(air_file: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(llama_target().document))
    expected = (Parent(digest=str(Digest.of_file(air_file)), relation="projected_from"),)
    assert ual.transfer(air_file, tmp_path / "config.json").adapter.manifest.parents == expected
    with ual.read(air_file) as adapter:
        assert ual.transfer(adapter, tmp_path / "config.json").adapter.manifest.parents == expected


def test_the_energy_share_counts_every_source_entry_once_and_the_dropped_ones_as_lost(
    peft_folders: PeftFolders, target: Callable[..., Any]
) -> None:
    folder = peft_folders.get("llama")
    with ual.from_peft(folder.path, base=folder.base) as adapter:
        result = ual.transfer(adapter, target("gpt2", n_embd=12, n_layer=3).folder, method="truncate")
        total = reached = 0.0
        for item in adapter.entries:
            matrix = entry_delta(adapter, item)
            total += reference.norm(matrix) ** 2
            if item.role in ROTATED or item.role == "mlp_gate":
                continue
            columns, rows = {"mlp_up": (12, 48), "mlp_down": (48, 12)}.get(item.role, (12, 12))
            fitted = reference.truncate(matrix, columns, rows)
            reached += reference.norm(matrix) ** 2 * reference.energy_kept("truncate", matrix, fitted)
    # Float64 on both sides; sums of a few hundred products.
    assert result.report.energy_share == pytest.approx(reached / total, rel=1e-10)
    assert 0.1 < result.report.energy_share < 0.9


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
def test_results_are_stored_as_the_source_is(dtype: str) -> None:
    source = small_adapter()
    tensors = {name: from_torch(to_torch(t), dtype) if t.dtype == "F32" else t for name, t in source.tensors.items()}
    plan = make_plan(source.manifest, llama_target(intermediate_size=8))
    found = run_transfer(
        replace(source, tensors=tensors), plan, method="svd", source_digest=Digest.of_bytes(b"")
    ).adapter
    assert {tensor.dtype for tensor in found.tensors.values()} == {dtype}


def adapter_of(dtype: str, lora_A: Tensor, lora_B: Tensor, **changes: Any) -> Adapter:
    """Return an adapter of one value projection of 4 features, rank 1."""
    own = entry("attention_value", 4, 4, rank=1, source="m", **changes)
    manifest = Manifest(
        air_version="1.0", kind="adapter", base_model=base_model(), method=method(rank=1), entries=(own,)
    )
    return Adapter(manifest, {own.lora_A: lora_A, own.lora_B: lora_B})


def numbers(dtype: str, shape: tuple[int, int], *values: float) -> Tensor:
    return from_torch(torch.tensor(values, dtype=torch.float64).reshape(shape), dtype)


def run(adapter: Adapter, how: str = "svd", **changes: Any) -> Any:
    plan = make_plan(adapter.manifest, llama_target(**changes))
    return run_transfer(adapter, plan, method=how, source_digest=Digest.of_bytes(b""))


def test_a_result_that_does_not_fit_its_dtype_is_refused() -> None:
    """1000 times 60000 over two factors is 7746 each, and fits; the scaling of 1000 in ``lora_B`` alone does not."""
    big = adapter_of("F16", numbers("F16", (1, 4), 1, 1, 1, 1), numbers("F16", (4, 1), *[6e4] * 4), scaling=1000.0)
    assert {t.dtype for t in run(big, "svd", hidden_size=6).adapter.tensors.values()} == {"F16"}
    with pytest.raises(NumericalError) as caught:
        run(big, "truncate", hidden_size=6)
    assert caught.value.message == "layers.0.attention_value.lora_B: a number is not finite in F16"
    assert caught.value.hint == "store the result in a wider dtype"
    assert caught.value.context == {"tensor": "layers.0.attention_value.lora_B"}


@pytest.mark.parametrize("values", [(1e200, 1e200), (1e200, 1e-200), (1e160, 1.0)])
def test_a_norm_that_leaves_float64_is_refused(values: tuple[float, float]) -> None:
    first, second = (numbers("F64", shape, *[value] * 4) for shape, value in zip(((1, 4), (4, 1)), values, strict=True))
    with pytest.raises(NumericalError) as caught:
        run(adapter_of("F64", first, second), hidden_size=6)
    assert caught.value.message == "layers.0.attention_value: its norm does not fit float64"


@pytest.mark.parametrize("how", SHAPE_METHODS)
def test_the_smallest_numbers_are_carried(how: str) -> None:
    tiny = adapter_of("F32", numbers("F32", (1, 4), *[1e-45] * 4), numbers("F32", (4, 1), *[1e-45] * 4))
    (report,) = run(tiny, how, hidden_size=6).report.entries
    assert (report.energy_kept, report.effective_rank) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_factor_that_is_not_finite_is_refused(value: float, tmp_path: Path) -> None:
    bad = Tensor.of_bytes("F32", (4, 1), struct.pack("<4f", 1, value, 1, 1))
    adapter = adapter_of("F32", floats(1, 4), bad)
    with pytest.raises(NumericalError) as caught:
        run(adapter)
    assert caught.value.message == "layers.0.attention_value.lora_B: holds a NaN or an infinity"
    (tmp_path / "config.json").write_text(json.dumps(llama_target().document))
    with pytest.raises(RuleError, match=r"layers\.0\.attention_value\.lora_B: holds a NaN or an infinity"):
        ual.transfer(adapter, tmp_path / "config.json")


def test_a_zero_adapter_is_carried_and_measures_zero() -> None:
    zero = Tensor.of_bytes("F32", (4, 1), bytes(16))
    result = run(adapter_of("F32", floats(1, 4), zero), hidden_size=6)
    assert result.report.energy_share == 0.0
    (report,) = result.report.entries
    assert (report.energy_kept, report.norm_ratio, report.effective_rank) == (0.0, 0.0, 0.0)
    assert not any(any(tensor.to_bytes()) for name, tensor in result.adapter.tensors.items() if "lora_B" in name)


def test_a_method_that_is_none_is_refused(air_file: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(llama_target().document))
    with pytest.raises(TransferError) as caught:
        ual.transfer(air_file, tmp_path / "config.json", method="magic")
    known = "svd, truncate, interpolate, copy, subspace, vocab, activations, residual, predictions, distill, auto"
    assert caught.value.message == f"method 'magic': expected one of {known}"
    assert (caught.value.problem_code, caught.value.exit_code) == ("unknown-method", 5)


def test_without_torch_the_extra_is_named(air_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps(llama_target().document))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as caught:
        ual.transfer(air_file, tmp_path / "config.json")
    assert caught.value.message == "transfer needs the extra 'torch', which is not installed"
    assert caught.value.hint == "pip install 'ual-registry[torch]'"


def test_tensors_cross_the_border_bit_for_bit() -> None:
    for dtype, kind in (
        ("F16", torch.float16),
        ("BF16", torch.bfloat16),
        ("F32", torch.float32),
        ("F64", torch.float64),
    ):
        tensor = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).to(kind)
        stored = from_torch(tensor.T, dtype)  # not contiguous
        assert (stored.dtype, stored.shape) == (dtype, (5, 3))
        assert torch.equal(to_torch(stored), tensor.T)


def test_the_factors_of_an_entry_carry_its_scaling() -> None:
    source = small_adapter()
    for item in source.entries:
        found = entry_factors(source, item)
        assert found.lora_A.dtype is torch.float64
        np.testing.assert_array_equal(reference.delta(found.lora_A, found.lora_B), entry_delta(source, item))
