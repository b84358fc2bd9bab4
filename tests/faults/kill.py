"""Kill processes while they change a registry, and look after each kill: ``python -m tests.faults.kill --count 200``.

The registry is the one that the environment names (``UAL_HOME``, ``UAL_DATABASE_URL``). Each process is a copy of this
one: it says what it is about to do, does it, says that it is done, and goes on until it is killed at a random moment.
Then the registry must hold everything that was said to be done, and of the one action that was cut short all or
nothing. At the end ``fsck`` must find nothing that is wrong, and beside that nothing but blobs that nobody refers to.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from sqlalchemy import text

from tests.faults.model import EMPTY, State, after, choose, perform, snapshot
from tests.handmade import small_adapter
from ual_registry.air.write import write
from ual_registry.registry.registry import Registry

_LONGEST_LIFE_S = 0.4
_LONGEST_START_S = 60
_FILES = 24


def main() -> int:
    """Run a campaign and say how it went."""
    parser = argparse.ArgumentParser(description="Kill processes while they change a registry.")
    parser.add_argument("--count", type=int, default=200, help="how many processes")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--folder", type=Path, required=True, help="for the files that are added; made here")
    options = parser.parse_args()
    done, cut = campaign(options.folder, count=options.count, seed=options.seed)
    print(f"{options.count} kills, {done} actions done, {cut} cut short, nothing lost, nothing wrong")
    return 0


def campaign(folder: Path, *, count: int, seed: int) -> tuple[int, int]:
    """Kill ``count`` processes.

    Returns:
        How many actions were done, and how many were cut short.

    Raises:
        AssertionError: Something was lost, is half there, or is wrong.
    """
    chance = random.Random(seed)
    files = _make_files(folder)
    _check({"wanted": [EMPTY]})
    state, done, cut = EMPTY, 0, 0
    for index in range(count):
        own_seed, life_s = chance.randrange(2**32), chance.uniform(0, _LONGEST_LIFE_S)
        lines = _life(state, files, seed=own_seed, life_s=life_s, is_at_work=index % 2 == 0)
        said = [json.loads(line) for line in lines]
        pending = None
        for item in said:
            if "done" in item:
                state, done = after(state, item["done"]), done + 1
            pending = item.get("next")
        wanted = [state] if pending is None else [state, after(state, pending)]
        found = _check({"round": index, "pending": pending, "wanted": wanted})
        cut += pending is not None
        state = found
    _check_soundness(len({item["digest"] for own in state["adapters"].values() for item in own["revisions"]}))
    return done, cut


def _make_files(folder: Path) -> list[tuple[str, str]]:
    folder.mkdir()
    made = []
    for index in range(_FILES):
        path = folder / f"{index}.air"
        filling = {f"example.k{number}": "x" * 60_000 for number in range(index % 4)}
        made.append((str(path), str(write(small_adapter(description=f"file {index}", annotations=filling), path))))
    return made


def _check(what: dict[str, object]) -> State:
    registry = Registry.open()
    try:
        _wait_for_server(registry)
        found = snapshot(registry)
    finally:
        registry.database.engine.dispose()  # a copy of this process must not share a connection with it
    wanted = what["wanted"]
    assert isinstance(wanted, list)
    assert found in wanted, f"{what}, found {found}"
    return found


def _check_soundness(blobs: int) -> None:
    """Check every blob and every row; a process that was killed may leave a blob without a row, and nothing else."""
    registry = Registry.open()
    try:
        report = registry.fsck(deep=True)
    finally:
        registry.database.engine.dispose()
    assert (report.blobs, report.faults) == (blobs, ()), report
    assert {note.kind for note in report.notes} <= {"extra"}, report


def _wait_for_server(registry: Registry) -> None:
    """Wait until a server has ended what it did for the one that was killed: it may be about to commit."""
    if registry.database.engine.dialect.name != "postgresql":
        return
    others = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    for _ in range(1000):
        with registry.database.session() as session:
            if not session.scalar(text(others)):
                return
        time.sleep(0.01)
    raise AssertionError("the server still works for a process that was killed")


def _life(state: State, files: list[tuple[str, str]], *, seed: int, life_s: float, is_at_work: bool) -> list[str]:
    """Start a copy of this process, kill it, and return the whole lines that it said.

    It lives for ``life_s`` seconds from its start or, with ``is_at_work``, from its first action, however long a busy
    machine takes to come to that.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _act(state, files, random.Random(seed), writing)
    os.close(writing)
    if is_at_work:
        select.select([reading], [], [], _LONGEST_START_S)
    time.sleep(life_s)
    os.kill(process, signal.SIGKILL)
    with os.fdopen(reading, encoding="utf-8") as stream:
        said = stream.read()
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, said
    return [line for line in said.splitlines(keepends=True) if line.endswith("\n")]


def _act(state: State, files: list[tuple[str, str]], chance: random.Random, writing: int) -> NoReturn:
    """Change the registry until somebody kills this process; an error ends it with another status."""
    try:
        registry = Registry.open()
        while True:
            action = choose(chance, state, files)
            os.write(writing, json.dumps({"next": action}).encode() + b"\n")
            perform(registry, action)
            os.write(writing, json.dumps({"done": action}).encode() + b"\n")
            state = after(state, action)
    except BaseException as error:  # noqa: BLE001  # whatever it is, this copy must not go on as its original
        os.write(writing, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
