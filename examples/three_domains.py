"""Train an adapter for each of three domains of real text, and measure every one of them on all three.

The base model is SmolLM2-135M-Instruct, the texts are those of `examples/domains.py`. What a number means: bits that
the model needs for each byte of text that no adapter has seen; fewer are better.

Run `python -m examples.three_domains FOLDER` (some minutes on two cores). Adapters and texts stay in the folder, and
a run that was cut off goes on where it was.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from examples.domains import DOMAINS, write_domains
from examples.materials import calm_threads, model_folder

__all__ = ["SETTINGS", "measure", "table", "train_all"]

SETTINGS = {
    "batch_size": 8,
    "accumulation": 1,
    "batching": "packed",
    "max_length": 256,
    "epochs": 1.0,
    "learning_rate": 1e-3,
    "held_out_share": 0.05,
    "evaluate_every": 1000,
    "keep": "last",
}
"""One pass over each domain; the loss on what is held out of it is looked at before and after."""

Scores = dict[tuple[str, str], float]


def train_all(folder: Path) -> dict[str, Path]:
    """Train the adapters that are not there yet, and return the AIR file of each domain."""
    from ual_registry.workflows.train import train  # noqa: PLC0415 - loads torch, after calm_threads

    files = {name: folder / f"{name}.air" for name in DOMAINS}
    for name, file in files.items():
        if not file.is_file():
            data, run = folder / "texts" / name / "train.jsonl", folder / f"{name}.run"
            train(
                model_folder("smollm2"),
                data,
                output=file,
                folder=run,
                config=dict(SETTINGS),
                name=name,
                domain=name,
                base_id="SmolLM2-135M-Instruct",
                resume=run.is_dir(),
            )
    return files


def measure(folder: Path, files: dict[str, Path]) -> Scores:
    """Return bits per byte by adapter, `base` for none, and domain of the text."""
    from ual_registry.air.read import read  # noqa: PLC0415 - as above
    from ual_registry.evaluation.items import read_documents  # noqa: PLC0415
    from ual_registry.evaluation.run import score_arm  # noqa: PLC0415
    from ual_registry.evaluation.tasks import BitsPerByte  # noqa: PLC0415
    from ual_registry.models.loaded import load_base_model  # noqa: PLC0415

    base, task = load_base_model(model_folder("smollm2")), BitsPerByte()
    texts = {name: read_documents(folder / "texts" / name / "test.jsonl").items for name in DOMAINS}
    scores = {("base", name): score_arm(base, task, items, None)[0].value for name, items in texts.items()}
    for adapter, file in files.items():
        with read(file) as opened:
            found = {name: score_arm(base, task, items, opened) for name, items in texts.items()}
        scores |= {(adapter, name): series[0].value for name, series in found.items()}
    return scores


def table(scores: Scores) -> str:
    """Return the scores as a table in Markdown, the best of every column in bold."""
    rows = ["base", *DOMAINS]
    best = {name: min(rows, key=lambda row: scores[row, name]) for name in DOMAINS}
    head = [f"| adapter | {' | '.join(DOMAINS)} |", "|---|" + "---|" * len(DOMAINS)]
    cells = [
        [f"**{scores[row, name]:.3f}**" if best[name] == row else f"{scores[row, name]:.3f}" for name in DOMAINS]
        for row in rows
    ]
    return "\n".join([*head, *(f"| {row} | {' | '.join(own)} |" for row, own in zip(rows, cells, strict=True))])


def _main(folder: Path) -> None:
    calm_threads()
    write_domains(folder / "texts")
    start = time.monotonic()
    files = train_all(folder)
    print(f"trained in {time.monotonic() - start:.0f} s", file=sys.stderr)
    print(table(measure(folder, files)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.three_domains FOLDER")
    _main(Path(sys.argv[1]))
