"""Projection of a 2048 x 2048 entry of rank 16 against a dense SVD of its delta.

Target: at least 10,000 times faster, singular values equal to 1e-6 relative. Both in float64, both with the same
number of threads; the dense decomposition is what ual-adapter 0.1 does.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import click
import torch

from benchmarks.measure import Times, in_turns, machine
from ual_registry.projection.factors import Factors, singular_factors
from ual_registry.projection.svd import svd

_LOOP = 200


def _factors(width: int, rank: int) -> Factors:
    generator = torch.Generator().manual_seed(0)
    lora_A = torch.randn(rank, width, generator=generator, dtype=torch.float64)
    lora_B = torch.randn(width, rank, generator=generator, dtype=torch.float64)
    return Factors(lora_A, lora_B)


@click.command()
@click.option("--width", default=2048, show_default=True)
@click.option("--rank", default=16, show_default=True)
@click.option("--runs", default=3, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(width: int, rank: int, runs: int, threads: int) -> None:
    torch.set_num_threads(threads)
    factors = _factors(width, rank)
    delta = factors.lora_B @ factors.lora_A

    def ours() -> None:
        for _ in range(_LOOP):
            svd(factors, width, width)

    fast, dense = in_turns([ours, lambda: torch.linalg.svd(delta, full_matrices=False)], runs=runs)
    once = Times(tuple(sample / _LOOP for sample in fast.samples))
    exact = torch.linalg.svdvals(delta)[:rank]
    error = float(((singular_factors(factors).values - exact).abs() / exact).max())
    print(f"machine: {machine()}, {threads} thread(s)")
    print(f"projection of {width} x {width}, rank {rank}: {once.text(1e-3)} ms")
    print(f"dense SVD of the delta:               {dense.text(1e-3, 0)} ms")
    print(f"ratio: {dense.median / once.median:,.0f} times faster (target 10,000)")
    print(f"largest relative difference of singular values: {error:.1e} (target 1e-6)")


if __name__ == "__main__":
    main()
