"""The peak of memory of push and pull by size of the file, beside that of the Hub's own client."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.hub_files import AIR_FILE, WIDTH, write_fresh, write_pair
from benchmarks.measure import child_peak_bytes
from benchmarks.validate_many import random_adapter

__all__ = ["print_peaks"]

_HEAD = """
Peak memory in MB:

| file | over | pushed | the same files by the client | pulled | fetched by the client |
|---|---|---|---|---|---|"""
_SEND = """
from huggingface_hub import CommitOperationAdd, HfApi
api = HfApi()
api.create_repo({repository!r})
added = [CommitOperationAdd(name, f"{folder}/{{name}}") for name in {names!r}]
api.create_commit({repository!r}, added, commit_message="add")
"""
_FETCH = """
from huggingface_hub import snapshot_download
snapshot_download({repository!r}, cache_dir={cache!r}, allow_patterns=[{name!r}])
"""


def print_peaks(work: Path, transport: str, layers: tuple[int, ...]) -> None:
    """Print a line for each size; every figure is of a process of its own, on numbers that the Hub has not seen.

    Args:
        work: An empty folder to work in.
        transport: How large files travel, to be printed.
        layers: How many layers of 10 MB the files have.
    """
    print(_HEAD)
    for count in layers:
        folder = work / f"of-{count}"
        folder.mkdir()
        os.environ["UAL_HOME"] = str(folder / "home")
        size_bytes, peaks = _peaks(folder, f"tester/peak-{count}", count)
        cells = (f"{size_bytes / 1e6:.0f} MB", transport, *(f"{peak / 1e6:.0f}" for peak in peaks))
        print(f"| {' | '.join(cells)} |", flush=True)
        shutil.rmtree(folder)


def _peaks(folder: Path, repository: str, layers: int) -> tuple[int, list[int]]:
    """Return the size of the file, and what each column took in bytes."""
    adapter, theirs = random_adapter(layers, WIDTH, "BF16"), f"{repository}-theirs"
    (path,) = write_fresh(folder / "ours", adapter, [AIR_FILE])
    (same,) = write_fresh(folder / "theirs", adapter, [AIR_FILE])
    names = [AIR_FILE, *(found.name for found in write_pair(same))]
    sent = _SEND.format(repository=theirs, folder=folder / "theirs", names=names)
    commands = (
        ["-m", "ual_registry", "push", str(path), repository, "--allow-unpinned", "-q"],
        ["-c", sent],
        ["-m", "ual_registry", "pull", repository, "-q"],
        ["-c", _FETCH.format(repository=theirs, cache=str(folder / "cache"), name=AIR_FILE)],  # as pull: no pair
    )
    return path.stat().st_size, [child_peak_bytes(command) for command in commands]
