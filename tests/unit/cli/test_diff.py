"""``ual diff``: fields, tensors and updates of two adapters, as text and as one document."""

from __future__ import annotations

import importlib.util
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import entry, floats, small_adapter, small_entries
from tests.reference import lora as reference
from tests.unit.cli.conftest import Result, Ual
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.air.read import read
from ual_registry.air.tensor import Tensor
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.workflows.diff import diff

UP_A, UP_B = "layers.0.mlp_up.lora_A", "layers.0.mlp_up.lora_B"


def other(
    name: str, *, tensors: dict[str, Tensor] | None = None, up: dict[str, Any] | None = None, **fields: Any
) -> None:
    """Write a variant of the small adapter: other tensors, another mlp_up entry, other manifest fields."""
    entries = list(small_entries())
    entries[2] = replace(entries[2], **(up or {}))
    made = small_adapter(
        **{"name": "label", "domain": "medical", "license": "MIT", "entries": tuple(entries), **fields}
    )
    write(Adapter(made.manifest, {**made.tensors, **(tensors or {})}), Path(name))


def digest_of(name: str) -> str:
    return str(Digest.of_file(Path(name)))


def deltas(name: str, index: int = 2) -> Any:
    with read(name) as adapter:
        return reference.entry_delta(adapter, adapter.entries[index])


def same(label: str) -> dict[str, Any]:
    return {"entry": label, "verdict": "identical", "relative_difference": 0.0, "tolerance": 0.0}


ATTENTION = [same("layers.0.attention_key"), same("layers.0.attention_query")]


def test_the_same_bytes_differ_in_nothing(ual: Ual) -> None:
    ual("add", "small.air", "--name", "med")
    digest = digest_of("small.air")
    result = ual("diff", "small.air", "med@1")
    assert result == Result(0, f"A  small.air  {digest}\nB  med@1      {digest}\n\nthe same bytes\n", "")
    document = ual("diff", "small.air", "./small.air", "--json").document
    side = {"path": "small.air", "digest": digest}
    assert document == {
        "is_same": True,
        "first": {"reference": "small.air", **side},
        "second": {"reference": "./small.air", **side},
        "changes": [],
        "only_in_first": [],
        "only_in_second": [],
        "tensors": {"equal_count": 6, "changed": [], "only_in_first": [], "only_in_second": []},
        "entries": [*ATTENTION, same("layers.0.mlp_up")],
        "is_complete": True,
    }


def test_changed_fields_and_tensors_are_told_in_words(ual: Ual) -> None:
    other("new.air", tensors={UP_B: floats(6, 2, start=6)}, domain="x" * 80, license=None, description="d")
    expected = reference.relative_difference(deltas("small.air"), deltas("new.air"))
    assert ual("diff", "small.air", "new.air") == Result(
        1,
        f"A  small.air  {digest_of('small.air')}\n"
        f"B  new.air    {digest_of('new.air')}\n"
        "\n"
        "manifest\n"
        f'  changed  manifest.domain: "medical" -> "{"x" * 55} ...\n'
        '  removed  manifest.license: "MIT"\n'
        '  added    manifest.description: "d"\n'
        "\n"
        "tensors: 5 equal, 1 changed\n"
        "  changed    layers.0.mlp_up.lora_B\n"
        "updates: 2 identical, 1 different\n"
        "  entry            |A - B| / |A|\n"
        f"  layers.0.mlp_up  {expected:.3g}\n",
        "",
    )


def test_the_difference_of_updates_is_that_of_the_dense_ones(ual: Ual) -> None:
    other("new.air", tensors={UP_A: floats(2, 4, start=-3)})
    result = ual("diff", "small.air", "new.air", "--json")
    (found,) = [item for item in result.document["entries"] if item["verdict"] != "identical"]
    expected = reference.relative_difference(deltas("small.air"), deltas("new.air"))
    # Float64 on both sides, over a few dozen numbers of size 1 to 10.
    assert found["relative_difference"] == pytest.approx(expected, rel=1e-13)
    assert found == {
        "entry": "layers.0.mlp_up",
        "verdict": "different",
        "relative_difference": found["relative_difference"],
        "tolerance": 4 * 2.0**-23,  # four epsilons of F32
    }
    assert (result.code, result.document["is_same"], result.document["is_complete"]) == (1, False, True)
    assert result.document["tensors"]["changed"] == [UP_A]


def scaled(tensor: Tensor, factor: float) -> Tensor:
    numbers = struct.unpack(f"<{tensor.size_bytes // 4}f", tensor.to_bytes())
    return Tensor.of_bytes("F32", tensor.shape, struct.pack(f"<{len(numbers)}f", *(n * factor for n in numbers)))


def test_scaling_is_folded_so_that_moving_a_number_between_factors_is_rounding(ual: Ual) -> None:
    changed = {UP_A: scaled(floats(2, 4, start=4), 3.0), UP_B: scaled(floats(6, 2, start=5), 1 / 0.7)}
    other("new.air", tensors=changed, up={"scaling": 2.0 * 0.7 / 3.0})
    result = ual("diff", "small.air", "new.air")
    assert result.code == 1  # other bytes all the same
    assert "updates: 2 identical, 1 equal up to rounding\n" in result.out
    assert result.out.endswith(" (rounding)\n")
    found = ual("diff", "small.air", "new.air", "--json").document["entries"][2]
    assert (found["verdict"], found["relative_difference"] <= found["tolerance"]) == ("rounding", True)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (2.0, 3.0, (0.5, "different")),
        (2.0, 2.0 + 2**-50, (2.0**-51, "rounding")),
        (0.0, 1.0, (None, "different")),
    ],
)
def test_the_same_factors_under_another_scaling_differ_by_its_ratio(
    ual: Ual, monkeypatch: pytest.MonkeyPatch, before: float, after: float, expected: tuple[float | None, str]
) -> None:
    difference, verdict = expected
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)  # no arithmetic on tensors
    other("old.air", up={"scaling": before})
    other("new.air", up={"scaling": after})
    result = ual("diff", "old.air", "new.air", "--json")
    assert result.document["changes"] == [
        {"kind": "changed", "path": "manifest.entries[2].scaling", "before": before, "after": after}
    ]
    assert result.document["entries"] == [
        *ATTENTION,
        {"entry": "layers.0.mlp_up", "verdict": verdict, "relative_difference": difference, "tolerance": 1e-12},
    ]
    assert result.document["is_complete"] is True
    if difference is None:
        assert ual("diff", "old.air", "new.air").out.endswith("  layers.0.mlp_up  A is zero\n")


def test_a_zero_update_is_the_same_under_any_scaling(ual: Ual) -> None:
    zero = {UP_B: Tensor.of_bytes("F32", (6, 2), bytes(48))}
    other("old.air", tensors=zero)
    other("new.air", tensors=zero, up={"scaling": 5.0})
    found = ual("diff", "old.air", "new.air", "--json").document["entries"][2]
    assert (found["verdict"], found["relative_difference"]) == ("rounding", 0.0)


def test_entries_and_tensors_of_one_side_are_listed(ual: Ual) -> None:
    key, query, _ = small_entries()
    lean = small_adapter(entries=(key, query), extra=(), features=())
    names = {name for item in (key, query) for name in item.tensor_names().values()}
    write(Adapter(lean.manifest, {name: lean.tensors[name] for name in names}), Path("lean.air"))
    tensors = ["extra.base_model.model.score.weight", UP_A, UP_B]
    there = ual("diff", "small.air", "lean.air", "--json").document
    back = ual("diff", "lean.air", "small.air", "--json").document
    assert (there["only_in_first"], there["only_in_second"]) == (["layers.0.mlp_up"], [])
    assert (back["only_in_first"], back["only_in_second"]) == ([], ["layers.0.mlp_up"])
    assert (there["tensors"]["only_in_first"], back["tensors"]["only_in_second"]) == (tensors, tensors)
    text = ual("diff", "lean.air", "small.air").out
    assert "\nentries only in B\n  layers.0.mlp_up\n" in text
    assert "\ntensors: 3 equal, 0 changed, 3 only in B\n" in text
    assert f"  only in B  {UP_B}\n" in text
    assert f"  only in A  {UP_B}\n" in ual("diff", "small.air", "lean.air").out


def test_updates_of_other_shapes_are_not_compared(ual: Ual) -> None:
    from tests.handmade import base_model

    (stack,) = base_model().stacks
    wide = base_model(stacks=(replace(stack, intermediate_size=8),))
    other("wide.air", tensors={UP_B: floats(8, 2)}, up={"out_features": 8}, base_model=wide)
    result = ual("diff", "small.air", "wide.air", "--json")
    assert result.document["entries"][2] == {
        "entry": "layers.0.mlp_up",
        "verdict": "incomparable",
        "relative_difference": None,
        "tolerance": None,
    }
    assert ual("diff", "small.air", "wide.air").out.endswith("  layers.0.mlp_up  of other shapes\n")


def test_adapters_without_a_common_entry_say_so(ual: Ual) -> None:
    only = entry("mlp_up", 4, 6, layer=1, lora_A="layers.1.mlp_up.lora_A", lora_B="layers.1.mlp_up.lora_B")
    made = small_adapter(entries=(only,), extra=(), features=())
    write(Adapter(made.manifest, {only.lora_A: floats(2, 4), only.lora_B: floats(6, 2)}), Path("new.air"))
    assert ual("diff", "small.air", "new.air").out.endswith("\nupdates: no entry in common\n")


def many(name: str, start: float) -> None:
    """Write an adapter of 30 layers of one role."""
    from tests.handmade import base_model

    (stack,) = base_model().stacks
    entries: list[Entry] = []
    tensors: dict[str, Tensor] = {}
    for layer in range(30):
        label = f"layers.{layer}.mlp_up"
        entries.append(entry("mlp_up", 4, 6, layer=layer, lora_A=f"{label}.lora_A", lora_B=f"{label}.lora_B"))
        tensors |= {f"{label}.lora_A": floats(2, 4), f"{label}.lora_B": floats(6, 2, start=start)}
    deep = base_model(stacks=(replace(stack, num_layers=30),))
    made = small_adapter(base_model=deep, entries=tuple(entries), extra=(), features=())
    write(Adapter(made.manifest, tensors), Path(name))


def test_long_lists_end_unless_more_is_asked_for(ual: Ual) -> None:
    many("old.air", 1)
    many("new.air", 2)
    assert ual("diff", "old.air", "new.air").out.count("  ... and 10 more; -v shows all\n") == 2
    full = ual("diff", "old.air", "new.air", "-v").out
    updates = full.partition("\nupdates: 30 different\n")[2].splitlines()
    assert (full.count("more"), full.count("  changed    "), len(updates)) == (0, 30, 31)


NOTE = (
    "only digests were compared: how far updates are apart needs the extra 'torch' "
    "(pip install 'ual-registry[torch]')\n"
)


def test_without_torch_only_digests_are_compared_and_it_is_said(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    other("new.air", tensors={UP_B: floats(6, 2, start=6)})
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    result = ual("diff", "small.air", "new.air")
    assert (result.code, result.err) == (
        1,
        NOTE,
    )
    assert "updates: 2 identical, 1 with other factors, not computed\n" in result.out
    document = ual("diff", "small.air", "new.air", "--json").document
    assert (document["is_complete"], document["entries"][2]["verdict"]) == (False, "not_computed")
    assert ual("diff", "small.air", "new.air", "--updates") == Result(
        10,
        "",
        "error [missing-extra]: comparing updates needs the extra 'torch', which is not installed\n"
        "hint: pip install 'ual-registry[torch]'\n",
    )
    assert ual("diff", "small.air", "small.air", "--updates").code == 0  # nothing to compute


def test_updates_may_be_left_out(ual: Ual) -> None:
    other("new.air", tensors={UP_B: floats(6, 2, start=6)})
    result = ual("diff", "small.air", "new.air", "--no-updates")
    assert (result.code, result.err) == (1, "")
    assert result.out.endswith("  layers.0.mlp_up  with other factors, not computed\n")
    assert ual("diff", "small.air", "new.air", "--updates").code == 1


def test_changed_tensors_are_no_side_of_a_comparison(ual: Ual) -> None:
    data = bytearray(Path("small.air").read_bytes())
    data[-1] ^= 1
    Path("bent.air").write_bytes(data)
    result = ual("diff", "small.air", "bent.air", "--json")
    assert (result.code, result.document["error"]["code"]) == (3, "tensor-digest")


def test_a_bug_and_a_difference_share_a_code_and_are_told_apart(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    other("new.air", domain="law")
    differs = ual("diff", "small.air", "new.air", "--json")
    assert (differs.code, differs.document["is_same"], differs.err) == (1, False, "")

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("what nobody thought of")

    monkeypatch.setattr("ual_registry.cli.diff.diff", broken)
    bug = ual("diff", "small.air", "new.air", "--json")
    assert (bug.code, bug.document["error"]["code"]) == (1, "internal")
    assert bug.err.startswith("internal error: ")


def test_the_workflow_takes_references(folder: Path) -> None:
    found = diff("small.air", "small.air")
    assert (found.is_same, found.is_complete, found.changes) == (True, True, ())
    assert json.loads(json.dumps(found.first.reference)) == "small.air"
