"""Transfer on a GPU: the code of ``projection``, ``transfers``, ``evaluation`` and ``distillation`` against the device.

Every time stands beside a floor: operations over the rate of a large matrix product of the same dtype, or bytes over
the bandwidth of a copy on the device, read and written, whichever takes longer. Both are measured in the same run, as
is the peer of a fit: cuSOLVER's own factorisation of the same size. Nothing is fetched: numbers and weights are random.
What is computed is compared with the CPU, in float64, at a small size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import torch
from tabulate import tabulate

from benchmarks.measure import machine
from benchmarks.transfer_gpu_clock import Ceilings, Row, ceilings_of
from benchmarks.transfer_gpu_fits import classic_rows, fit_rows, statistics_rows
from benchmarks.transfer_gpu_models import forward_rows

__all__ = ["measure", "text_of"]

_HEAD = ("what", "time, ms", "rate", "reached", "floor, ms", "of the floor", "bound by", "differs from the CPU by")

PARTS: dict[str, tuple[str, Callable[..., list[Row]]]] = {
    "statistics": ("Second moments of paired rows", statistics_rows),
    "fits": ("Fits, beside the bare factorisations that they need", fit_rows),
    "classic": ("Projections of an adapter, 32 layers of 7 modules, rank 16", classic_rows),
    "forward": ("Forward passes of random models of the real pair's shapes", forward_rows),
}


def measure(device: str, parts: Sequence[str], *, is_tiny: bool, say: Callable[[str], None] = print) -> list[str]:
    """Measure the parts and return them as Markdown, each told as soon as it is there."""
    ceilings = ceilings_of(device, is_tiny=is_tiny)
    name = torch.cuda.get_device_name() if device == "cuda" else machine()
    found = [f"{name}; PyTorch {torch.__version__}.\n{_told(ceilings)}"]
    say(found[0])
    for part in parts:
        title, rows = PARTS[part]
        found.append(f"### {title}\n\n{text_of(rows(device, ceilings, is_tiny=is_tiny))}")
        say(f"\n{found[-1]}")
    return found


def _told(ceilings: Ceilings) -> str:
    rates = ", ".join(f"{rate / 1e12:.3g} in {_short(dtype)}" for dtype, rate in ceilings.flops.items())
    return (
        f"Matrix products reach {rates} (TFLOP/s; float32 products are '{torch.get_float32_matmul_precision()}'); "
        f"a copy reaches {ceilings.bytes_per_s / 1e9:,.0f} GB/s, read and written."
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def text_of(rows: Sequence[Row]) -> str:
    """Return rows as a table of Markdown."""
    cells = [[row.name, f"{row.time_s * 1e3:.3g}", row.rate, *_floor(row), _difference(row)] for row in rows]
    return tabulate(cells, _HEAD, tablefmt="github", disable_numparse=True)


def _floor(row: Row) -> list[str]:
    if row.floor is None:
        return ["-", "-", row.peer or "-", "-"]
    share = f"{row.floor.time_s / row.time_s:.1%}"
    return [row.floor.reached(row.time_s), f"{row.floor.time_s * 1e3:.3g}", share, row.floor.bound]


def _difference(row: Row) -> str:
    return "-" if row.error is None else f"{row.error:.1e}"


@click.command()
@click.option("--device", default="cuda", show_default=True, help="Where to compute: cuda or cpu.")
@click.option("--tiny", "is_tiny", is_flag=True, help="Small sizes, to see that it runs.")
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help="One part; all where absent.")
@click.option("--write", "file", type=click.Path(path_type=Path), help="Where to write the tables, as Markdown.")
def main(device: str, is_tiny: bool, parts: tuple[str, ...], file: Path | None) -> None:
    """Measure."""
    found = measure(device, parts or tuple(PARTS), is_tiny=is_tiny, say=lambda text: print(text, flush=True))
    if file is not None:
        file.write_text("\n\n".join(found) + "\n")


if __name__ == "__main__":
    main()
