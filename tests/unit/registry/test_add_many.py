"""Many files at once: in batches, in their order, and whatever is wrong with one of them is told of it alone."""

from __future__ import annotations

import datetime
import random
from pathlib import Path

import pytest

from tests.faults.model import EMPTY, after, choose, snapshot
from tests.unit.registry.conftest import Files
from ual_registry.digest import Digest
from ual_registry.errors import RegistryError
from ual_registry.registry import adding
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.registry import Registry
from ual_registry.workflows import store

NOW = datetime.timedelta(0)


def told(registry: Registry, jobs: list[tuple[Path, AddOrder]]) -> list[tuple[str, str, int | str]]:
    """Add and return file, name and number of what was added, and the code of what was not."""
    found = []
    for outcome in registry.add_many(jobs):
        file = Path(outcome.path).name
        if outcome.result is not None:
            assert outcome.error is None
            found.append((file, outcome.result.name, outcome.result.number))
        else:
            assert outcome.error is not None
            found.append((file, "", outcome.error.problem_code))
    return found


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_files_get_their_numbers_in_their_order_whatever_the_batches(
    registry: Registry, files: Files, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(adding, "_BATCH_FILES", batch)
    paths = [files.make() for _ in range(5)]
    jobs = [(path, AddOrder(name="ab"[index % 2], aliases=["newest"])) for index, path in enumerate(paths)]

    assert told(registry, jobs) == [
        ("1.air", "a", 1),
        ("2.air", "b", 1),
        ("3.air", "a", 2),
        ("4.air", "b", 2),
        ("5.air", "a", 3),
    ]
    adapters = snapshot(registry)["adapters"]
    assert {name: adapter["aliases"] for name, adapter in adapters.items()} == {"a": {"newest": 3}, "b": {"newest": 2}}


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_says_what_its_files_say_one_after_the_other(registry: Registry, files: Files, seed: int) -> None:
    """Names, owners, tags and aliases come again and again, also for bytes that the same batch brings twice."""
    chance, state = random.Random(seed), EMPTY
    known = [(str(path), str(Digest.of_file(path))) for path in (files.make() for _ in range(8))]
    for size in (1, 12, 30):
        actions = []
        while len(actions) < size:
            action = choose(chance, EMPTY, known)  # an empty registry can only be added to
            actions.append(action)
            state = after(state, action)
        jobs = [
            (
                Path(own["path"]),
                AddOrder(name=own["name"], aliases=own["aliases"], tags=own["tags"], owner=own["owner"]),
            )
            for own in actions
        ]
        assert all(outcome.error is None for outcome in registry.add_many(jobs))
        assert snapshot(registry) == state
    assert registry.fsck().faults == ()


def test_a_batch_costs_the_same_number_of_statements_however_many_files(
    registry: Registry, files: Files, statements: list[str]
) -> None:
    registry.add(files.make(), name="first")  # the base model is made once
    spent = []
    for count in (2, 40):
        jobs = [(files.make(), AddOrder(name=f"{count}-{index}", tags={"team": "a"})) for index in range(count)]
        statements.clear()
        assert all(outcome.error is None for outcome in registry.add_many(jobs))
        spent.append(len(statements))
    assert spent[0] == spent[1]


def test_bytes_that_are_gone_come_back_with_others(registry: Registry, files: Files) -> None:
    path, other = files.make(), files.make()
    registry.add(path, name="a")
    registry.yank("a@1", why="old")
    registry.gc(grace=NOW, apply=True, yanked=True)
    assert not registry.blobs.place(Digest.of_file(path)).exists()

    assert told(registry, [(other, AddOrder(name="b")), (path, AddOrder(name="c"))]) == [
        ("2.air", "b", 1),
        ("1.air", "c", 1),
    ]
    assert registry.fsck().faults == ()


def test_the_same_file_twice_is_one_revision(registry: Registry, files: Files) -> None:
    path = files.make()
    order = AddOrder(name="a", tags={"run": "1"})
    results = [outcome.result for outcome in registry.add_many([(path, order), (path, order)])]
    assert [(result.number, result.is_new) for result in results if result] == [(1, True), (1, False)]


def test_one_that_cannot_be_read_or_is_illegal_stops_no_other(registry: Registry, files: Files, tmp_path: Path) -> None:
    good, cut, other = files.make(), files.make(), files.make()
    cut.write_bytes(cut.read_bytes()[:-1])
    order = AddOrder(name="a")
    jobs = [(tmp_path / "none.air", order), (good, order), (cut, order), (other, order)]
    assert told(registry, jobs) == [
        ("none.air", "", "storage"),
        ("1.air", "a", 1),
        ("2.air", "", "truncated"),
        ("3.air", "a", 2),
    ]


def test_one_whose_rows_cannot_be_written_stops_no_other(registry: Registry, files: Files) -> None:
    registry.add(files.make(), name="a", aliases=["live"])
    registry.alias("a", "live", protect=True)
    jobs = [(files.make(), AddOrder(name=name, aliases=["live"])) for name in "bab"]
    assert told(registry, jobs) == [("2.air", "b", 1), ("3.air", "", "protected"), ("4.air", "b", 2)]
    assert len(registry.revisions("a")) == 1


def test_a_name_may_come_from_the_manifest(registry: Registry, files: Files) -> None:
    jobs = [
        (files.make(name="medical"), AddOrder(name=None)),
        (files.make(), AddOrder(name=None)),
        (files.make(name="two words"), AddOrder(name=None)),
    ]
    assert told(registry, jobs) == [("1.air", "medical", 1), ("2.air", "", "name"), ("3.air", "", "name")]
    (_, error) = registry.add_many(jobs[:2])
    assert error.error is not None
    assert error.error.message == f"{jobs[1][0]}: its manifest gives it no name"
    assert error.error.hint == "pass --name NAME"


def test_the_workflow_takes_the_stem_or_the_name_and_tells_of_folders(
    registry: Registry, files: Files, tmp_path: Path
) -> None:
    path = files.make(name="medical")
    peft = tmp_path / "peft"
    peft.mkdir()
    (peft / "adapter_config.json").write_text("{}")
    order = AddOrder(name=None, owner="ada")

    by_file = list(store.add_many([str(path), str(peft)], order, name_from="file"))
    by_manifest = list(store.add_many([str(path)], order, name_from="manifest"))

    assert [outcome.result and outcome.result.name for outcome in by_file + by_manifest] == [None, "1", "medical"]
    assert by_file[0].error is not None
    assert (by_file[0].error.problem_code, by_file[0].error.hint) == (
        "folder",
        f"a PEFT folder becomes an AIR file by 'ual convert {peft} FILE.air --base BASE'",
    )
    assert registry.describe("1").owner == "ada"


def test_an_order_that_cannot_be_is_refused_before_any_file(registry: Registry) -> None:
    with pytest.raises(RegistryError) as caught:
        list(store.add_many(["none.air"], AddOrder(name=None, owner="x" * 10_000_000), name_from="file"))
    assert caught.value.message == (
        f"owner '{'x' * 60}'... (10000000 characters): expected up to 256 characters, none of them a control character"
    )
    assert registry.list().items == ()
