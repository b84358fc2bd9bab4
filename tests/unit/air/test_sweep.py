"""One sweep over a file finds what reading its tensors one by one finds."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ual_registry.air.scan import scan_tensors
from ual_registry.air.sweep import WINDOW_BYTES, plan_route, sweep
from ual_registry.air.tensor import DTYPE_BYTES, FileSource, Segment, Tensor, TensorInfo
from ual_registry.errors import StorageError

_NAN = {"F16": b"\x00\x7e", "BF16": b"\xc0\x7f", "F32": b"\x00\x00\xc0\x7f", "F64": b"\x00" * 6 + b"\xf8\x7f"}
_ODD_NAMES = ["%s", "100%", 'a"b', "\\u0000", "\x00", 'x"\x00"]', "é", "\U0001f600"]


def table(lengths: dict[str, tuple[str, int]]) -> dict[str, TensorInfo]:
    """Lay tensors out as AIR does: wide dtypes first, then by name."""
    infos, end = {}, 0
    for name, (dtype, length) in sorted(lengths.items(), key=lambda item: (-DTYPE_BYTES[item[1][0]], item[0])):
        infos[name] = TensorInfo(dtype, (length,), end, end + length * DTYPE_BYTES[dtype])
        end = infos[name].end
    return infos


def expected(source: FileSource, infos: dict[str, TensorInfo], start: int, checked: set[str]) -> object:
    tensors = {
        name: Tensor(info.dtype, info.shape, (Segment(source, start + info.start, info.end - info.start),))
        for name, info in infos.items()
    }
    return scan_tensors(tensors, check_finite=checked, threads=1)


tables = st.dictionaries(
    st.sampled_from(_ODD_NAMES) | st.text("abc.", min_size=1, max_size=3),
    st.tuples(st.sampled_from(["F16", "BF16", "F32", "F64", "U8"]), st.sampled_from([0, 0, 1, 2, 7, 8, 9, 40])),
    max_size=9,
)


@given(tables, st.data(), st.sampled_from([8, 16, 64, WINDOW_BYTES]), st.sampled_from([0, 8, 100]))
@settings(max_examples=150, deadline=None)
def test_a_sweep_finds_what_reading_one_by_one_finds(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: dict[str, tuple[str, int]],
    data: st.DataObject,
    window_bytes: int,
    start: int,
) -> None:
    infos = table(lengths)
    floats = sorted(name for name, info in infos.items() if info.dtype in _NAN)
    checked = data.draw(st.sets(st.sampled_from(floats)) if floats else st.just(set()))
    content = bytearray(index % 97 for index in range(start + max((info.end for info in infos.values()), default=0)))
    for name in data.draw(st.sets(st.sampled_from(floats)) if floats else st.just(set())):
        info = infos[name]
        places = range(info.start, info.end, DTYPE_BYTES[info.dtype])
        for place in data.draw(st.sets(st.sampled_from(places)) if places else st.just(set())):
            content[start + place : start + place + DTYPE_BYTES[info.dtype]] = _NAN[info.dtype]
    path = tmp_path_factory.getbasetemp() / "swept"
    path.write_bytes(content)
    source = FileSource(path)
    route = plan_route(infos, checked, window_bytes=window_bytes)
    assert route is not None
    assert sweep(source, start, route) == expected(source, infos, start, checked)
    source.close()


def test_numbers_that_could_lie_across_two_windows_are_not_swept() -> None:
    infos = {"a": TensorInfo("U8", (1,), 0, 1), "b": TensorInfo("F32", (1,), 1, 5)}
    assert plan_route(infos, {"b"}) is None


def test_a_file_that_became_shorter_ends_a_sweep(tmp_path: Path) -> None:
    path, infos = tmp_path / "x", table({"a": ("F32", 4)})
    path.write_bytes(struct.pack("<4f", 1, 2, 3, 4))
    source, route = FileSource(path), plan_route(infos, {"a"})
    assert route is not None
    path.write_bytes(b"short")
    with pytest.raises(StorageError) as caught:
        sweep(source, 0, route)
    assert (caught.value.message, caught.value.hint) == (
        f"cannot read {path}: 16 bytes expected at 0, got 5",
        "the file changed while it was read; try again",
    )
    path.write_bytes(struct.pack("<4f", 1, 2, 3, 4))
    assert sweep(source, 0, route) == expected(source, infos, 0, {"a"})
    source.close()
    with pytest.raises(StorageError, match="it was closed"):
        sweep(source, 0, route)
