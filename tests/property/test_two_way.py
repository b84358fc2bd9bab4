"""Laws of the two-way tools: a folder is the file again, and nothing differs from itself."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.handmade import entry, small_adapter
from ual_registry.air.adapter import Adapter
from ual_registry.air.changes import ChangeKind, changes_of
from ual_registry.air.layers import layer_strip
from ual_registry.air.model import Extra
from ual_registry.air.read import read
from ual_registry.air.tensor import Tensor
from ual_registry.air.write import write
from ual_registry.interop.folder import from_folder, to_folder
from ual_registry.workflows.diff import Verdict, diff

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
floats_32 = st.floats(-1e3, 1e3, width=32)


@st.composite
def tensors(draw: st.DrawFn, rows: int, columns: int) -> Tensor:
    dtype, letter = draw(st.sampled_from([("F32", "f"), ("F64", "d"), ("F16", "e")]))
    numbers = draw(st.lists(floats_32, min_size=rows * columns, max_size=rows * columns))
    return Tensor.of_bytes(dtype, (rows, columns), struct.pack(f"<{len(numbers)}{letter}", *numbers))


@st.composite
def adapters(draw: st.DrawFn) -> Adapter:
    rank = draw(st.integers(1, 3))
    scaling = draw(st.floats(-1e6, 1e6))
    name = draw(texts)
    made = small_adapter(
        name=draw(st.none() | texts),
        description=draw(st.none() | texts),
        tags=tuple(draw(st.lists(texts, max_size=3))),
        annotations=draw(st.dictionaries(st.sampled_from(["org.a", "org.b-c"]), values, max_size=2)),
        entries=(entry("mlp_up", 4, 6, rank=rank, scaling=scaling),),
        extra=(Extra(tensor=f"extra.{name}", name=name),),
    )
    return Adapter(
        made.manifest,
        {
            "layers.0.mlp_up.lora_A": draw(tensors(rank, 4)),
            "layers.0.mlp_up.lora_B": draw(tensors(6, rank)),
            f"extra.{name}": Tensor.of_bytes("U8", (2,), draw(st.binary(min_size=2, max_size=2))),
        },
    )


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


@given(adapters())
@settings(max_examples=60, deadline=None)
def test_a_file_that_was_unpacked_and_packed_has_the_same_bytes(adapter: Adapter) -> None:
    with folder() as place:
        write(adapter, place / "first.air")
        with read(place / "first.air") as stored:
            to_folder(stored, place / "folder")
        with from_folder(place / "folder") as unpacked:
            write(unpacked, place / "second.air")
        assert (place / "second.air").read_bytes() == (place / "first.air").read_bytes()


@given(adapters())
@settings(max_examples=40, deadline=None)
def test_nothing_differs_from_itself(adapter: Adapter) -> None:
    with folder() as place:
        write(adapter, place / "a.air")
        found = diff(str(place / "a.air"), str(place / "a.air"))
    assert (found.is_same, found.is_complete, found.changes) == (True, True, ())
    assert (found.only_in_first, found.only_in_second, found.tensors.changed) == ((), (), ())
    assert (found.tensors.only_in_first, found.tensors.only_in_second) == ((), ())
    assert found.tensors.equal_count == 3
    assert {(item.verdict, item.relative_difference) for item in found.entries} == {(Verdict.IDENTICAL, 0.0)}


@given(
    st.lists(st.floats(1, 2), min_size=20, max_size=20),
    st.floats(0.5, 2),
    st.sampled_from(["BF16", "F16", "F32", "F64"]),
)
@settings(max_examples=60, deadline=None)
def test_a_number_moved_between_the_factors_is_rounding(numbers: list[float], scale: float, dtype: str) -> None:
    """Factors of positive numbers, so that no terms cancel one another."""
    import torch

    from ual_registry.tensors import from_torch, to_torch

    lora_a = from_torch(torch.tensor(numbers[:8], dtype=torch.float64).reshape(2, 4), dtype)
    lora_b = from_torch(torch.tensor(numbers[8:], dtype=torch.float64).reshape(6, 2), dtype)
    moved = (to_torch(lora_a).double() * scale, to_torch(lora_b).double() / scale)
    made = small_adapter(entries=(entry("mlp_up", 4, 6),), extra=(), features=())
    names = ("layers.0.mlp_up.lora_A", "layers.0.mlp_up.lora_B")
    with folder() as place:
        write(Adapter(made.manifest, dict(zip(names, (lora_a, lora_b), strict=True))), place / "a.air")
        stored = [from_torch(factor, dtype) for factor in moved]
        write(Adapter(made.manifest, dict(zip(names, stored, strict=True))), place / "b.air")
        (found,) = diff(str(place / "a.air"), str(place / "b.air")).entries
    assert found.verdict in (Verdict.ROUNDING, Verdict.IDENTICAL)


@given(adapters(), adapters())
@settings(max_examples=100)
def test_what_is_added_one_way_is_removed_the_other(first: Adapter, second: Adapter) -> None:
    there, back = (changes_of(one.manifest, two.manifest) for one, two in ((first, second), (second, first)))
    turned = {ChangeKind.ADDED: ChangeKind.REMOVED, ChangeKind.REMOVED: ChangeKind.ADDED}
    reversed_ = [
        replace(change, kind=turned.get(change.kind, change.kind), before=change.after, after=change.before)
        for change in back
    ]
    assert sorted(map(repr, there)) == sorted(map(repr, reversed_))


@given(st.integers(1, 200), st.integers(1, 9), st.data())
def test_a_strip_has_a_character_for_each_group_of_layers(depth: int, per_character: int, data: st.DataObject) -> None:
    layers = data.draw(st.sets(st.integers(0, depth - 1), min_size=1))
    strip = layer_strip(tuple(sorted(layers)), depth, per_character)
    assert len(strip) == -(-depth // per_character)
    for index, letter in enumerate(strip):
        group = set(range(index * per_character, min((index + 1) * per_character, depth)))
        assert letter == {len(group): "#", 0: "."}.get(len(group & layers), "+")
