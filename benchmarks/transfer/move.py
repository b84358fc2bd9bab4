"""Move one adapter by one rung: `python -m benchmarks.transfer.move RUNG ADAPTER SOURCE TARGET FILE [TEXT]`.

It is a process of its own so that its time and memory are those of the rung alone. On failure the last line on
standard error says why.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.transfer.rungs import REFUSED
from examples.materials import calm_threads
from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.binders.base import load_base
from ual_registry.digest import Digest
from ual_registry.errors import UALError
from ual_registry.transfers.plan import TransferPlan, make_plan

if TYPE_CHECKING:
    from ual_registry.models.loaded import LoadedBase
    from ual_registry.transfers.result import TransferResult

_BY_SHAPE = ("svd", "truncate", "interpolate")
_BY_WEIGHTS = ("subspace", "vocab")
_BY_TRAINING = ("distill", "distill-both", "distill-words", "distill-warm", "distill-free")


def main(rung: str, adapter: Path, bases: tuple[Path, Path], file: Path, text: Path | None) -> int:
    """Move an adapter, write it, and write beside it what the transfer said; return the exit status."""
    calm_threads()
    try:
        with read(adapter) as opened:
            if rung in _BY_TRAINING:
                assert text is not None  # it says what is given
                found, said = _distilled(
                    rung, adapter, bases, json.loads(text.read_text(encoding="utf-8")), file.parent
                )
            else:
                plan = make_plan(opened.manifest, load_base(bases[1]))
                result = _runner(rung, bases, text)(opened, plan, Digest.of_file(adapter))
                found, said = result.adapter, _said(result)
            file.with_suffix(".said.json").write_text(json.dumps(said), encoding="utf-8")
            write(found, file)
    except (UALError, ModuleNotFoundError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return REFUSED
    return 0


Runner = Callable[[Adapter, TransferPlan, Digest], "TransferResult"]


def _runner(rung: str, bases: tuple[Path, Path], text: Path | None) -> Runner:
    if rung in _BY_SHAPE:
        shape = importlib.import_module("ual_registry.transfers.run").run_transfer
        return lambda adapter, plan, digest: shape(adapter, plan, method=rung, source_digest=digest)
    if rung in _BY_WEIGHTS:
        run = importlib.import_module("ual_registry.transfers.run_weights").run_weights
        return lambda adapter, plan, digest: run(
            adapter, plan, *_bases(*bases), method=rung, source_digest=digest, options=None
        )
    if rung in _BY_TEXT:
        assert text is not None  # every rung of this kind has text
        return _by_text(rung, bases, json.loads(text.read_text(encoding="utf-8")))
    raise ModuleNotFoundError(f"no rung {rung!r}")


def _by_text(rung: str, bases: tuple[Path, Path], texts: list[str]) -> Runner:
    method, options = _BY_TEXT[rung]
    run = getattr(importlib.import_module(f"ual_registry.transfers.run_{method}"), f"run_{method}")
    source, target = _bases(*bases)
    chosen = options(target)
    return lambda adapter, plan, digest: run(adapter, plan, source, target, texts, source_digest=digest, options=chosen)


def _as_it_comes(_: LoadedBase) -> None:
    """Leave it to the method."""


def _jointly(_: LoadedBase) -> Any:
    """Fit write maps to gradients as well."""
    fit: Any = importlib.import_module("ual_registry.transfers.module_fit")
    return fit.ActivationOptions(write=fit.WriteKind.JOINT)


def _on_documents(target: LoadedBase) -> Any:
    """Fit at positions drawn at random, in the last layer alone, in three sweeps: chosen on documents."""
    options: Any = importlib.import_module("ual_registry.transfers.prediction_fit").PredictionOptions
    layers = [slot.layer for module in target.binding.modules.values() for slot in module.slots]
    last = max(layer for layer in layers if layer is not None)
    return options(top_share=0.0, layers=(last,), sweeps=3, max_rows=2500)


_BY_TEXT: Mapping[str, tuple[str, Callable[[LoadedBase], Any]]] = {
    "activations": ("activations", _as_it_comes),
    "activations-joint": ("activations", _jointly),
    "residual": ("residual", _as_it_comes),
    "predictions": ("predictions", _as_it_comes),
    "predictions-documents": ("predictions", _on_documents),
}
"""The method of each rung that fits to text, and its options for a target."""


def _distilled(
    rung: str, adapter: Path, bases: tuple[Path, Path], given: Mapping[str, Any], folder: Path
) -> tuple[Adapter, Mapping[str, Any]]:
    """Train on what source and adapter say; bfloat16 takes half the time where the processor has it."""
    place: Any = importlib.import_module("benchmarks.transfer.place")
    dtype = place.fastest_dtype()
    distill: Any = importlib.import_module("ual_registry.workflows.distill")
    seeds: Any = importlib.import_module("ual_registry.distillation.seeds")
    sampling: Any = importlib.import_module("ual_registry.distillation.generate").Sampling
    manner: Any = importlib.import_module("ual_registry.distillation.manner").Manner
    recipe: Any = importlib.import_module("ual_registry.distillation.recipe").Recipe
    wanted = given["seeds"]
    found = distill.distill_adapter(
        adapter,
        place.load(bases[0], dtype),
        place.load(bases[1], dtype),
        folder=folder.parent / "distill",
        seeds=None if wanted is None else seeds.SeedPrompts(**{**wanted, "inputs": tuple(wanted["inputs"])}),
        warm="auto" if rung == "distill-warm" else None,
        recipe=recipe(**given["recipe"]) if "recipe" in given else None,
        manner=manner(
            **{name: tuple(own) if name == "writers" else own for name, own in given.get("manner", {}).items()}
        ),
        sampling=sampling(**given.get("sampling", {})),
        texts=given.get("texts"),
        on_progress=lambda said: print(said, file=sys.stderr, flush=True),
    )
    measures = {f"{arm.name}_held_out_loss": arm.held_out_loss for arm in found.report.arms}
    measures |= {f"{arm.name}_best_step": arm.best_step for arm in found.report.arms}
    return found.adapter, {
        "dtype": str(dtype).removeprefix("torch."),
        "entries": len(found.adapter.entries),
        "chosen": found.report.chosen,
        "texts": found.report.texts,
        "measures": measures,
    }


def _bases(source: Path, target: Path) -> tuple[LoadedBase, LoadedBase]:
    load: Any = importlib.import_module("benchmarks.transfer.place").load
    return load(source), load(target)


def _said(found: TransferResult) -> Mapping[str, Any]:
    report = found.report
    return {
        "energy_share": report.energy_share,
        "settings": report.settings,
        "warnings": list(report.warnings),
        "left_out": len(report.left_out),
        "entries": len(report.entries),
        "measures": dict(report.entries[0].measures) if report.entries else {},
    }


if __name__ == "__main__":
    _, name, *paths = sys.argv
    places = [Path(path) for path in paths]
    sys.exit(main(name, places[0], (places[1], places[2]), places[3], places[4] if len(places) > 4 else None))
