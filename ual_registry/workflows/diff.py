"""Compare two adapters: manifests field by field, tensors by digest, updates by their factors.

Manifests and tensors are compared without torch. Only where the factors of an entry differ in their bytes is there
something to compute, and only that needs the torch half: in plain Python the same takes minutes for an adapter of
rank 64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.changes import Change, changes_of, only_entries
from ual_registry.air.model import Entry
from ual_registry.air.read import verify
from ual_registry.air.tensor import Tensor
from ual_registry.digest import Digest
from ual_registry.workflows.extras import has_torch, need_torch
from ual_registry.workflows.reading import read_adapter
from ual_registry.workflows.references import locate

__all__ = ["Difference", "EntryComparison", "Side", "TensorComparison", "Verdict", "diff"]

_EPSILON = {"BF16": 2.0**-7, "F16": 2.0**-10, "F32": 2.0**-23, "F64": 2.0**-52}
"""Distance from 1 to the next larger number, by dtype (IEEE 754)."""

_ROUNDINGS = 4
"""How many epsilons of the coarsest stored dtype count as rounding: two factors on either side.

Storing a factor moves each of its numbers by half an epsilon at most. Where the terms of the product nearly cancel one
another, rounding can come to more than this, and is then told as a difference.
"""

_FLOOR = 1e-12
"""What the computation in float64 itself may leave, as a ratio."""


class Verdict(StrEnum):
    """What the comparison of one entry's updates came to."""

    IDENTICAL = "identical"
    ROUNDING = "rounding"
    DIFFERENT = "different"
    INCOMPARABLE = "incomparable"
    NOT_COMPUTED = "not_computed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two adapters.

    Attributes:
        reference: What the user named it by.
        path: The file.
        digest: Its digest.
    """

    reference: str
    path: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryComparison:
    """One entry that both adapters have.

    Attributes:
        entry: Its place, such as ``layers.3.attention_query``.
        verdict: ``identical`` where factors and scaling are the same to the bit, ``rounding`` within the tolerance,
            ``incomparable`` where the shapes differ, ``not_computed`` where torch was not used.
        relative_difference: ``|A - B|_F / |A|_F`` of the updates with their scaling; absent where it was not computed,
            or where the first update is zero and the second is not.
        tolerance: Up to which the difference is taken for rounding; absent where nothing was computed.
    """

    entry: str
    verdict: Verdict
    relative_difference: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorComparison:
    """Every tensor of either file, by its name in the file.

    Attributes:
        equal_count: How many have the same dtype, shape and bytes in both.
        changed: Those that differ.
        only_in_first: Those that the second file lacks.
        only_in_second: Those that the first file lacks.
    """

    equal_count: int
    changed: tuple[str, ...]
    only_in_first: tuple[str, ...]
    only_in_second: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What two adapters differ in.

    Attributes:
        is_same: Whether both files have the same bytes.
        first: One adapter.
        second: The other.
        changes: Fields of the manifests, the digests in them left out, as are entries that one of them lacks.
        only_in_first: Entries that the second adapter lacks.
        only_in_second: Entries that the first adapter lacks.
        tensors: The tensors, compared by digest.
        entries: The entries that both have.
    """

    is_same: bool
    first: Side
    second: Side
    changes: tuple[Change, ...]
    only_in_first: tuple[str, ...]
    only_in_second: tuple[str, ...]
    tensors: TensorComparison
    entries: tuple[EntryComparison, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every update that could be compared was."""
        return all(entry.verdict is not Verdict.NOT_COMPUTED for entry in self.entries)


def diff(first: str, second: str, *, updates: bool | None = None) -> Difference:
    """Compare the adapters that two references mean.

    The tensors of both are read and compared with their digest first. Entries whose factors and scaling are the same
    to the bit differ by 0 without any arithmetic.

    Args:
        first: A reference.
        second: Another one.
        updates: Whether to compute how far updates are apart; by default where it is needed and torch is there.

    Raises:
        MissingExtraError: Updates must be computed and torch is not installed.
        UALError: A reference means nothing, or a file is not legal AIR.
    """
    paths = [locate(reference) for reference in (first, second)]
    with read_adapter(paths[0]) as one, read_adapter(paths[1]) as two:
        for adapter in (one, two):
            verify(adapter, check_finite=False)
        digests = (_digests(one.tensors), _digests(two.tensors))
        sides = [_side(reference, path) for reference, path in zip((first, second), paths, strict=True)]
        return Difference(
            is_same=sides[0].digest == sides[1].digest,
            first=sides[0],
            second=sides[1],
            changes=changes_of(one.manifest, two.manifest),
            only_in_first=tuple(entry.label for entry in only_entries(one.manifest, two.manifest)),
            only_in_second=tuple(entry.label for entry in only_entries(two.manifest, one.manifest)),
            tensors=_tensors(*digests),
            entries=tuple(_entries(one, two, digests, updates)),
        )


def _side(reference: str, path: Path) -> Side:
    return Side(reference=reference, path=str(path), digest=str(Digest.of_file(path)))


TensorDigests = Mapping[str, tuple[str, tuple[int, ...], Digest]]


def _digests(tensors: Mapping[str, Tensor]) -> TensorDigests:
    return {name: (tensor.dtype, tensor.shape, Digest.of_chunks(tensor.chunks())) for name, tensor in tensors.items()}


def _tensors(first: TensorDigests, second: TensorDigests) -> TensorComparison:
    shared = sorted(first.keys() & second.keys())
    changed = tuple(name for name in shared if first[name] != second[name])
    return TensorComparison(
        equal_count=len(shared) - len(changed),
        changed=changed,
        only_in_first=tuple(sorted(first.keys() - second.keys())),
        only_in_second=tuple(sorted(second.keys() - first.keys())),
    )


def _entries(
    one: Adapter, two: Adapter, digests: tuple[TensorDigests, TensorDigests], updates: bool | None
) -> Iterator[EntryComparison]:
    others = {entry.key: entry for entry in two.entries}
    for entry in one.entries:
        other = others.get(entry.key)
        if other is None:
            continue
        if all(digests[0][a] == digests[1][b] for a, b in zip(_factors(entry), _factors(other), strict=True)):
            yield _same_factors(one, entry, other)
        elif (entry.in_features, entry.out_features) != (other.in_features, other.out_features):
            yield EntryComparison(entry=entry.label, verdict=Verdict.INCOMPARABLE)
        elif _may_compute(updates):
            yield _computed(one, entry, two, other)
        else:
            yield EntryComparison(entry=entry.label, verdict=Verdict.NOT_COMPUTED)


def _factors(entry: Entry) -> tuple[str, str]:
    return entry.lora_A, entry.lora_B


def _same_factors(one: Adapter, entry: Entry, other: Entry) -> EntryComparison:
    """Compare updates of the same factors: what is left is the ratio of their scalings."""
    if entry.scaling == other.scaling:
        return EntryComparison(entry=entry.label, verdict=Verdict.IDENTICAL, relative_difference=0.0, tolerance=0.0)
    if any(_is_zero(one.tensors[name]) for name in _factors(entry)):
        return _judged(entry, 0.0, _FLOOR)  # zero times any scaling, as a fresh lora_B is
    ratio = abs(1 - other.scaling / entry.scaling) if entry.scaling else None
    return _judged(entry, ratio, _FLOOR)


def _is_zero(tensor: Tensor) -> bool:
    return not any(chunk.strip(b"\0") for chunk in tensor.chunks())


def _judged(entry: Entry, difference: float | None, tolerance: float) -> EntryComparison:
    is_close = difference is not None and difference <= tolerance
    return EntryComparison(
        entry=entry.label,
        verdict=Verdict.ROUNDING if is_close else Verdict.DIFFERENT,
        relative_difference=difference,
        tolerance=tolerance,
    )


def _may_compute(updates: bool | None) -> bool:
    if updates is False:
        return False
    if updates:
        need_torch("comparing updates")
    return has_torch()


def _computed(one: Adapter, entry: Entry, two: Adapter, other: Entry) -> EntryComparison:
    # The torch half is loaded where there is something to compute.
    from ual_registry.projection.difference import relative_difference  # noqa: PLC0415
    from ual_registry.tensors import entry_factors  # noqa: PLC0415

    difference = relative_difference(entry_factors(one, entry), entry_factors(two, other))
    dtypes = [one.tensors[name].dtype for name in _factors(entry)]
    dtypes += [two.tensors[name].dtype for name in _factors(other)]
    tolerance = max(_FLOOR, _ROUNDINGS * max(_EPSILON[dtype] for dtype in dtypes))
    return _judged(entry, difference, tolerance)
