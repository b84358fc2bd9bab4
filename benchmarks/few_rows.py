"""For how many rows a product is faster with the rows as columns: the figures behind ``dispatch.few_rows``.

    python -m benchmarks.few_rows

The linear modules of SmolLM2-135M that the dispatcher turns round compute one to sixteen rows both ways, in turns, on
the threads that PyTorch takes. A product that is turned round for few rows is worth it where the share is below 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from benchmarks.measure import in_turns, machine
from examples.materials import model_folder
from ual_registry.dispatch import few_rows as room

_ROWS = (1, 2, 3, 4, 6, 8, 9, 10, 12, 16)
_RUNS = 9


def share_of(modules: Sequence[nn.Linear], rows: int) -> tuple[float, float]:
    """Return the milliseconds of all modules as they are, and what of it is left when rows are columns.

    Args:
        modules: The modules.
        rows: Rows of each product.
    """
    inputs = {own.in_features: torch.randn(rows, 1, own.in_features) for own in modules}

    def all_of_them() -> None:
        for own in modules:
            own(inputs[own.in_features])

    def turned() -> None:
        with room.few_rows(modules, rows):
            all_of_them()

    few = range(1, max(_ROWS) + 1)
    with torch.inference_mode(), mock.patch.object(room, "_FEW", few):
        plain, columns = in_turns([all_of_them, turned], runs=_RUNS)
    return plain.median * 1e3, columns.median / plain.median


def main() -> None:
    """Print both ways by number of rows."""
    model = AutoModelForCausalLM.from_pretrained(model_folder("smollm2"), dtype=torch.float32)
    modules = room.linear_modules(model)
    print(f"machine: {machine()}, {torch.get_num_threads()} threads, {len(modules)} modules")
    print(f"{'rows':>6}{'as they are':>14}{'turned, share':>16}")
    for rows in _ROWS:
        usual, share = share_of(modules, rows)
        print(f"{rows:6}{usual:11.2f} ms{share:16.2f}", flush=True)


if __name__ == "__main__":
    main()
