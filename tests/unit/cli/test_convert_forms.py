"""``ual convert`` to and from the unpacked folder, and from what the predecessor wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.legacy_files import document, pair_tensors, write_document, write_pair
from tests.unit.cli.conftest import Result, Ual
from ual_registry.air.read import read
from ual_registry.cli.output import size_text

ONE_FACTOR = (
    "hint: this is a file of ual-adapter 0.1, which kept one factor of each module; convert the PEFT folder instead"
)


def size(name: str) -> str:
    return size_text(Path(name).stat().st_size)


def tensor_digest(name: str) -> str:
    with read(name) as adapter:
        return adapter.manifest.tensor_digest


def test_an_air_file_is_unpacked_and_packed_again(ual: Ual) -> None:
    digest = tensor_digest("small.air")
    assert ual("convert", "small.air", "unpacked", "--to", "folder") == Result(
        0,
        f"wrote unpacked (3 entries, 1 tensors without a role, {size('unpacked/tensors.safetensors')})\n"
        f"tensors {digest}\n",
        "",
    )
    Path("unpacked/notes.txt").write_text("mine")
    assert ual("convert", "unpacked", "again.air") == Result(
        0,
        f"wrote again.air (3 entries, 1 tensors without a role, {size('again.air')})\ntensors {digest}\n",
        "left behind, no part of the adapter: notes.txt\n",
    )
    assert Path("again.air").read_bytes() == Path("small.air").read_bytes()


def test_a_registered_adapter_is_unpacked_over_an_older_folder(ual: Ual) -> None:
    ual("add", "small.air", "--name", "med")
    assert ual("convert", "med", "unpacked", "--to", "folder").code == 0
    again = ual("convert", "med", "unpacked", "--to", "folder")
    assert (again.code, again.err.splitlines()[0]) == (11, "error [exists]: cannot write unpacked: it exists already")
    assert ual("convert", "med", "unpacked", "--to", "folder", "--force").code == 0
    refused = ual("convert", "med", "peft", "--to", "folder", "--force")
    message = "error [exists]: cannot replace peft: it is a folder with other things in it"
    assert (refused.code, refused.err.splitlines()[0]) == (11, message)


def test_an_edit_by_hand_is_sealed_or_refused(ual: Ual) -> None:
    ual("convert", "small.air", "unpacked", "--to", "folder")
    manifest = json.loads(Path("unpacked/manifest.json").read_text())
    Path("unpacked/manifest.json").write_text(json.dumps({**manifest, "description": "edited"}))
    assert ual("convert", "unpacked", "edited", "--to", "air").code == 0
    assert ual("validate", "edited").code == 0
    assert ual("show", "./edited", "--json").document["manifest"]["description"] == "edited"
    Path("unpacked/manifest.json").write_text(json.dumps({**manifest, "description": 7}))
    assert ual("convert", "unpacked", "broken2.air") == Result(
        3, "", 'error [schema]: unpacked/manifest.json: manifest.description: 7 is not of type "string"\n'
    )
    assert not Path("broken2.air").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (2, ("convert", "unpacked", "x.air", "--base", "base")),
        (2, ("convert", "small.air", "x", "--to", "folder", "--name", "n")),
        (3, ("show", "unpacked")),
        (3, ("convert", "unpacked", "x", "--to", "peft")),
        (3, ("convert", "unpacked", "x", "--to", "folder")),
        (11, ("convert", "unpacked", "small.air")),
    ],
)
def test_an_unpacked_folder_is_no_other_thing(ual: Ual, code: int, words: tuple[str, ...]) -> None:
    ual("convert", "small.air", "unpacked", "--to", "folder")
    result = ual(*words)
    assert (result.code, result.out) == (code, "")
    if code == 3:
        assert result.err == (
            "error [folder]: unpacked: is an unpacked adapter, expected an AIR file or the name of a registered "
            "adapter\nhint: it becomes an AIR file again by 'ual convert unpacked FILE.air'\n"
        )


def test_a_document_of_the_predecessor_becomes_an_air_file(ual: Ual) -> None:
    write_document(Path("old.air"), document(domain="law"))
    result = ual("convert", "old.air", "new.air", "--base", "base", "--base-revision", "c0ffee", "--name", "n")
    assert result == Result(
        0,
        f"wrote new.air (1 entries, {size('new.air')})\ntensors {tensor_digest('new.air')}\n",
        "lost: tensors that had no role were dropped when the file was made, without a record\n"
        "lost: alpha 4 stands in the file alone; nothing ties it to the factors\n"
        "lost: dropout was not recorded and is written as 0\n"
        "lost: module paths were not recorded; those of the architecture were taken\n",
    )
    assert ual("validate", "new.air", "--strict").code == 0
    shown = ual("show", "new.air").out
    assert "\nname       n\ndomain     law\n" in shown
    assert "\nconversion by ual-registry 0.1.0: from_format ual-adapter 0.1, to_format air\n" in shown
    assert "\n  lost: dropout was not recorded and is written as 0\n" in shown
    assert ual("convert", "new.air", "back").code == 0  # and on to PEFT


def test_without_a_base_the_predecessors_file_cannot_be_placed(ual: Ual) -> None:
    write_document(Path("old.air"), document())
    result = ual("convert", "old.air", "new.air")
    assert (result.code, result.err.splitlines()[0]) == (
        4,
        "error [no-base]: old.air: which base model was it trained on?",
    )


def test_a_pair_of_the_predecessor_is_refused_by_name(ual: Ual) -> None:
    write_pair(Path(), "old", pair_tensors())
    for name in ("old.weights.safetensors", "old.metadata.json"):
        result = ual("convert", name, "new.air", "--base", "base")
        assert (result.code, result.out) == (3, "")
        assert result.err.startswith(f"error [legacy-overwritten]: {name}: holds one factor of each module ")


def test_show_names_the_predecessors_formats(ual: Ual) -> None:
    write_document(Path("old.air"), document())
    write_pair(Path(), "old", pair_tensors())
    assert ual("show", "old.air").err.endswith(
        "hint: this is a JSON file of ual-adapter 0.1: 'ual convert old.air FILE.air --base BASE' first\n"
    )
    for name in ("./old.weights.safetensors", "./old.metadata.json"):
        result = ual("show", name)
        assert (result.code, result.err.splitlines()[1]) == (3, ONE_FACTOR)
