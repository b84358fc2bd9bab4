"""Two lanes give the digests that hashlib gives, whether by the C extension or without it."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ual_registry.air import lanes
from ual_registry.air.lanes import TwoLanes, advance_in_python, start_in_python

_LENGTHS = st.sampled_from([0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 129]) | st.integers(0, 700)
_EXTENSION = pytest.mark.skipif(lanes.advance is advance_in_python, reason="the extension is not here")


@st.composite
def lane(draw: st.DrawFn) -> tuple[bytes, list[int], list[int]]:
    """Return the bytes of a lane, where its messages end, and where it is cut into three calls."""
    lengths = draw(st.lists(_LENGTHS, max_size=6))
    ends = [sum(lengths[: place + 1]) for place in range(len(lengths))]
    data = bytes(index * 7 % 251 for index in range(ends[-1] if ends else 0)) + draw(st.binary(max_size=70))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), min_size=2, max_size=2)))
    return data, ends, [0, *cuts, len(data)]


def calls(made: tuple[bytes, list[int], list[int]]) -> list[tuple[bytes, tuple[int, ...]]]:
    """Return what a lane is given by each call; an end between two calls belongs to the first of them."""
    data, ends, cuts = made
    given, done = [], 0
    for start, stop in pairwise(cuts):
        own = [end - start for end in ends[done:] if end <= stop]
        done += len(own)
        given.append((data[start:stop], tuple(own)))
    return given


@pytest.mark.parametrize(
    ("start", "advance"),
    [
        pytest.param(start_in_python, advance_in_python, id="python"),
        pytest.param(lanes.start, lanes.advance, id="extension", marks=_EXTENSION),
    ],
)
@given(first=lane(), second=lane())
def test_messages_have_their_digests_however_they_come(start, advance, first, second) -> None:
    states = start(), start()
    found = [b"", b""]

    for (data, ends), (data_2, ends_2) in zip(calls(first), calls(second), strict=True):
        new = advance(states[0], data, ends, states[1], memoryview(data_2), ends_2)
        found = [old + own for old, own in zip(found, new, strict=True)]

    expected = [
        b"".join(hashlib.sha256(data[start:end]).digest() for start, end in pairwise([0, *ends]))
        for data, ends, _ in (first, second)
    ]
    assert found == expected


def test_a_long_lane_beside_a_short_one_has_its_digest() -> None:
    data = bytes(range(256)) * 5000
    both = TwoLanes()

    for start in range(0, len(data), 100_001):
        part = data[start : start + 100_001]
        both.take(part, (), part[:10], (10,))
    both.take(b"", (0,), b"", ())

    assert both.digests(0) == [hashlib.sha256(data).hexdigest()]
    assert both.digests(1) == [
        hashlib.sha256(data[start : start + 10]).hexdigest() for start in range(0, len(data), 100_001)
    ]


@_EXTENSION
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((b"ab", (3,)), ValueError, "ends must rise within the data"),
        ((b"ab", (2, 1)), ValueError, "ends must rise within the data"),
        ((b"ab", (-1,)), OverflowError, "can't convert negative value to size_t"),
        ((b"ab", ("1",)), TypeError, "an integer is required"),
    ],
)
def test_ends_that_mean_nothing_are_refused(arguments, error, message) -> None:
    with pytest.raises(error) as caught:
        lanes.advance(lanes.start(), *arguments, lanes.start(), b"", ())
    assert str(caught.value) == message


@_EXTENSION
def test_a_state_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        lanes.advance(bytearray(3), b"", (), lanes.start(), b"", ())
    assert str(caught.value) == "a state must come from start()"
