"""A server over adapters that say one letter each, in its own process, and whether it mixes them up."""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from examples.tiny_encoder import sentence_encoder
from tests.unit.dispatch.answering.stage import FLIGHT, MONEY, Stage, make_stage
from ual_registry.dispatch.encode import load_encoder
from ual_registry.registry.registry import Registry

__all__ = ["ADAPTERS", "Place", "crowd", "placed", "serving"]

_CLIENTS = 32
_TOKENS = 16
ADAPTERS = {"banking": "letter@1", "travel": "letter@live"}
_MOVES_EVERY_S = 0.5
_WARM_UP_S = 10


@dataclass(frozen=True)
class Place:
    """A folder with a tiny base model, its router, and a registry whose ``letter@1`` and ``letter@2`` say A and B."""

    stage: Stage
    encoder: Path
    router: Path
    home: Path
    registry: Registry


def placed(folder: Path) -> Place:
    """Return the place, written to a folder."""
    encoder, home, router = folder / "encoder", folder / "home", folder / "router.air"
    sentence_encoder(encoder)
    stage = make_stage(folder / "tiny", load_encoder(encoder))
    stage.router.save(router)
    return Place(stage, encoder, router, home, stage.registry(home, "AB"))


@contextlib.contextmanager
def serving(place: Place, *more: str) -> Iterator[tuple[str, int]]:
    """Run ``ual serve``; it gives the address and the number of the process."""
    command = [sys.executable, "-m", "ual_registry", "serve", str(place.router), "--encoder", str(place.encoder)]
    command += ["--base", str(place.stage.folder), "--port", "0", *more]
    command += [word for domain, reference in ADAPTERS.items() for word in ("--domain", f"{domain}={reference}")]
    environment = {**os.environ, "UAL_HOME": str(place.home)}
    own = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert own.stdout is not None
        yield own.stdout.readline().split()[-1], own.pid
    finally:
        own.terminate()
        own.wait()


@dataclass
class _Alias:
    """An alias that moves between two versions, and the versions that it had at what time."""

    registry: Registry
    since: list[tuple[float, int]] = field(default_factory=list)

    def run(self, is_over: threading.Event) -> None:
        number = 2
        while not is_over.wait(_MOVES_EVERY_S):
            number = 3 - number
            self.since.append((time.monotonic(), 0))  # under way: either may answer
            self.registry.alias("letter", "live", str(number))
            self.since.append((time.monotonic(), number))

    def possible(self, start: float, end: float) -> set[int]:
        """Return the versions that it may have meant between two times."""
        known = list(self.since)
        before = [number for moment, number in known if moment <= start][-1]
        found = {before, *(number for moment, number in known if start < moment <= end)}
        return {1, 2} if 0 in found else found


def crowd(folder: Path, seconds: int) -> None:
    """Print what 32 clients got while an alias moved, and the memory of the server."""
    place = placed(folder)
    letters = {
        str(place.registry.resolve(f"letter@{number}")): (number, letter) for number, letter in ((1, "A"), (2, "B"))
    }
    alias, is_over = _Alias(place.registry, [(0.0, 2)]), threading.Event()
    counts: collections.Counter[str] = collections.Counter()
    memory: list[float] = []

    def ask(url: str, client: httpx.Client, number: int) -> str:
        domain = number % 2
        body: dict[str, Any] = {"model": "auto", "prompt": (MONEY, FLIGHT)[domain], "temperature": 0}
        start = time.monotonic()
        answer = client.post(f"{url}/completions", json={**body, "max_tokens": _TOKENS})
        end = time.monotonic()
        if answer.status_code != 200:
            return f"status {answer.status_code}"
        version, letter = letters[answer.headers["x-ual-adapter"]]
        if answer.json()["choices"][0]["text"] != letter * _TOKENS:
            return "another adapter's text"
        allowed = {1} if domain == 0 else alias.possible(start, end)
        return "right" if version in allowed else "an adapter that the alias did not mean"

    def client(url: str, number: int) -> None:
        with httpx.Client(timeout=120) as own:
            while not is_over.is_set():
                counts[ask(url, own, number)] += 1
                number += 1

    with serving(place) as (url, pid), ThreadPoolExecutor(_CLIENTS + 1) as threads:
        mover = threads.submit(alias.run, is_over)
        waiting = [threads.submit(client, url, number) for number in range(_CLIENTS)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(1.0, seconds / 10))
            memory.append(_resident_mb(pid))
        is_over.set()
        for own in (mover, *waiting):
            own.result()
    print(f"\n{_CLIENTS} clients for {seconds} s, an alias moved {len(alias.since) // 2} times")
    print(f"answers                       {', '.join(f'{count} {what}' for what, count in counts.most_common())}")
    late = memory[min(_WARM_UP_S, len(memory) // 2) :]
    print(f"memory of the server          {late[0]:.0f} MB early, {late[-1]:.0f} at the end, {max(late):.0f} at most")


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
