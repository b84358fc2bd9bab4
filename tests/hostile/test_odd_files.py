"""Files that are no files, files that change while they are read, and headers that would fill the memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.handmade import small_adapter
from tests.hostile.fuzzing import ROOT
from ual_registry.air.canonical import MAX_VALUES, parse_json
from ual_registry.air.read import read, verify
from ual_registry.air.tensor import FileSource
from ual_registry.air.write import write
from ual_registry.errors import DigestMismatchError, FormatError, StorageError
from ual_registry.workflows.validate import validate


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.air")
    start = time.perf_counter()
    (problem,) = validate(tmp_path / "a.air").problems
    assert (problem.code, problem.message) == ("storage", f"cannot read {tmp_path / 'a.air'}: it is no regular file")
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(device: str) -> None:
    with pytest.raises(StorageError) as caught:
        FileSource(Path(device))
    assert caught.value.message == f"cannot read {device}: it is no regular file"


def test_a_link_is_followed_and_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    write(small_adapter(), tmp_path / "a.air")
    (tmp_path / "link.air").symlink_to("a.air")
    (tmp_path / "circle.air").symlink_to("circle.air")
    assert validate(tmp_path / "link.air").ok
    (problem,) = validate(tmp_path / "circle.air").problems
    assert problem.message == f"cannot read {tmp_path / 'circle.air'}: Too many levels of symbolic links"


def test_a_file_cut_short_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.air"
    write(small_adapter(), path)
    with read(path) as adapter:
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(StorageError) as caught:
            [tensor.to_bytes() for tensor in adapter.tensors.values()]
    assert caught.value.hint == "the file changed while it was read; try again"


def test_bytes_that_change_in_place_while_a_file_is_read_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.air"
    write(small_adapter(), path)
    with read(path) as adapter:
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(bytes([path.read_bytes()[-1] ^ 1]))
        with pytest.raises(DigestMismatchError) as caught:
            verify(adapter)
    assert caught.value.problem_code == "tensor-digest"


def test_a_file_that_is_replaced_while_it_is_read_is_the_one_that_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.air"
    write(small_adapter(name="old"), path)
    with read(path) as adapter:
        write(small_adapter(name="new"), tmp_path / "b.air")
        (tmp_path / "b.air").replace(path)
        verify(adapter)
        assert adapter.manifest.name == "old"
    with read(path) as adapter:
        assert adapter.manifest.name == "new"


def test_a_name_with_dots_is_a_label_and_leads_nowhere(tmp_path: Path) -> None:
    write(small_adapter(name="../../etc/passwd", domain="/dev/zero"), tmp_path / "a.air")
    assert validate(tmp_path / "a.air").ok
    assert [item.name for item in tmp_path.iterdir()] == ["a.air"]


def test_a_text_of_too_many_values_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(FormatError) as caught:
        parse_json(b"[" + b"[]," * MAX_VALUES + b"[]]", what="text")
    assert caught.value.problem_code == "too-many-values"
    assert caught.value.message == f"text: more than {MAX_VALUES} commas and opening brackets"


@pytest.mark.parametrize("rest", ["[]," * 33_000_000 + "[]}", "x" * 1000])
def test_a_header_of_any_size_is_judged_in_bounded_memory(tmp_path: Path, rest: str) -> None:
    body = ('{"a":[' + rest).encode()[:99_000_000]
    (tmp_path / "a.air").write_bytes(len(body).to_bytes(8, "little") + body)
    code = "import sys; from ual_registry.cli.main import run; run(['validate', sys.argv[1]])"
    code += "; from tests.hostile.fuzzing import peak_bytes; print(peak_bytes())"
    command = [sys.executable, "-c", code, str(tmp_path / "a.air")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    # The header itself has nearly 100 MB, and is held once as bytes.
    assert int(done.stdout.split()[-1]) < 200 * 10**6
