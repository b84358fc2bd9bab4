"""The rungs that the transfer benchmark measures, and how one is made: in a process of its own.

A process of its own gives every rung its time and its peak of memory. A rung is one step: its file gets its name when
it is complete, with the figures of the run beside it, so a run that was cut off goes on.
This module decides what the rungs are called and what each needs; the work is left to `move`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import machine

__all__ = ["DEVICE", "REFUSED", "RUNGS", "Made", "Rung", "RungError", "RungRefusedError", "kept", "make"]

DEVICE = "UAL_BENCHMARK_DEVICE"
"""The environment variable that tells a process, and those that it starts, where to compute."""


REFUSED = 3
"""Exit status of a process whose rung refuses: trying it again would change nothing."""


class RungError(Exception):
    """A rung could not be made, such as for lack of memory; the text says why."""


class RungRefusedError(RungError):
    """The rung refuses what it is given, or is not in this version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One way to move an adapter.

    Attributes:
        name: Name in tables and in the cache.
        needs: What it takes beside the adapter and the two configs, for people.
        takes: What else its process is given: `text`, unlabelled; `seeds`, five requests; `seeds by both`, the same and
            both bases to write more; `seeds and words`, the same and words to begin them with; `nothing`; or no file.
        part: Rungs of one part are made and measured one after the other where several parts run at once.
    """

    name: str
    needs: str
    takes: str = ""
    part: str = "at once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A moved adapter and what it took.

    Attributes:
        rung: How it was moved.
        file: The AIR file.
        cpu_s: Processor time of the process, its start and the loading of models included.
        wall_s: Wall time of the same.
        peak_bytes: Peak of its resident memory.
        where: The machine, in words.
        said: What the transfer said of itself: settings, measures, warnings.
    """

    rung: str
    file: Path
    cpu_s: float
    wall_s: float
    peak_bytes: int
    where: str
    said: Mapping[str, Any]


RUNGS: tuple[Rung, ...] = (
    Rung(name="truncate", needs="nothing more"),
    Rung(name="interpolate", needs="nothing more"),
    Rung(name="svd", needs="nothing more"),
    Rung(name="subspace", needs="both bases' weights"),
    Rung(name="vocab", needs="both bases' weights"),
    Rung(
        name="activations",
        needs="weights and unlabelled text; `ual transfer --method activations --write-map outputs`",
        takes="text",
        part="streams",
    ),
    Rung(
        name="activations-joint",
        needs="the same, and gradients of it; what `ual transfer --method activations` does by itself",
        takes="text",
        part="streams",
    ),
    Rung(name="residual", needs="weights and unlabelled text", takes="text", part="streams"),
    Rung(name="predictions", needs="weights and unlabelled text", takes="text", part="predictions"),
    Rung(name="predictions-documents", needs="weights and unlabelled text", takes="text", part="predictions"),
    Rung(name="distill-free", needs="weights, training", takes="nothing", part="free"),
    Rung(name="distill", needs="weights, five requests, training", takes="seeds", part="distill"),
    Rung(
        name="distill-both",
        needs="the same; the target's base writes half of the requests",
        takes="seeds by both",
        part="distill",
    ),
    Rung(
        name="distill-words",
        needs="weights, five requests, training; half of the requests go on from words of the source's vocabulary",
        takes="seeds and words",
        part="distill",
    ),
    Rung(name="distill-warm", needs="weights, five requests, training", takes="seeds", part="distill"),
)
"""Every rung, cheapest first."""


def make(rung: str, source: Path, bases: tuple[Path, Path], text: Path | None, file: Path) -> Made:
    """Move an adapter and write it to `file`, unless it is there.

    Args:
        rung: The rung.
        source: AIR file of the source adapter.
        bases: Folder of its base model, and of the one to go to.
        text: File of what else the rung takes.
        file: The AIR file to write.

    Raises:
        RungRefusedError: The rung refuses what it is given, or is not in this version.
        RungError: Its process failed.
    """
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        arguments = [rung, str(source), *map(str, bases), str(file), *([str(text)] if text else [])]
        figures = _run(arguments)
        _record(file).write_text(json.dumps(figures), encoding="utf-8")
    found = kept(rung, file)
    assert found is not None  # it was made just now
    return found


def kept(rung: str, file: Path) -> Made | None:
    """Return a moved adapter that is there; ``None`` where it is not."""
    if not file.is_file() or not _record(file).is_file():
        return None
    said = file.with_suffix(".said.json")
    document = json.loads(said.read_text(encoding="utf-8")) if said.is_file() else {}
    return Made(rung=rung, file=file, said=document, **json.loads(_record(file).read_text(encoding="utf-8")))


def _record(file: Path) -> Path:
    return file.with_suffix(".cost.json")


def _run(arguments: list[str]) -> dict[str, Any]:
    start = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.transfer.move", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None  # it is a pipe
    said = ""
    for line in process.stderr:
        print(f"  {line.rstrip()}", flush=True)
        said = line.strip() or said
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        kind = RungRefusedError if process.returncode == REFUSED else RungError
        raise kind(said or f"exit status {process.returncode}")
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.monotonic() - start,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "where": f"{machine()}, on {os.environ.get(DEVICE, 'cpu')}",
    }
