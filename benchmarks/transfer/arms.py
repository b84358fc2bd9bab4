"""The arms of the transfer benchmark: what is measured, on which base, at which dose, and what chooses the dose.

Nothing is measured here and no framework is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.transfer.seeds import has_requests
from ual_registry.digest import Digest

__all__ = [
    "DOSES",
    "FLIPPED",
    "RANDOM",
    "SOURCE",
    "TARGET",
    "WRONG_TASK",
    "Arm",
    "adapter_file",
    "choose_dose",
    "control_starts",
    "dose_arms",
    "dosed",
    "identity_arms",
    "identity_file",
    "is_known",
    "moved_file",
    "reference_arms",
    "rung_arms",
]

SOURCE, TARGET = "smollm2", "gemma3"
"""Keys of `examples.materials.MATERIALS`."""

DOSES = (0.0, 0.5, 1.0, 1.5, 2.0)
"""What an update is multiplied by on dev; 0 is the base."""

RANDOM_SEEDS = (0, 1, 2)
RANDOM, FLIPPED = "random", "flipped"
WRONG_TASK = {"topics": "changelogs", "banking": "topics", "changelogs": "topics"}
"""Whose adapter, moved by the same rung, is the control of a task."""

_DIGEST = ".digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Something that is measured.

    Attributes:
        name: Name in tables.
        base: The base model it runs on.
        file: The adapter on it; ``None`` for the base alone.
        control: What is made of the adapter first: `flipped`, or `random` and a seed; empty for the adapter itself.
        dose: What its update is multiplied by.
    """

    name: str
    base: str
    file: Path | None = None
    control: str = ""
    dose: float = 1.0

    def key(self, task: str, split: str) -> str:
        """Return what names its numbers: base, task, split, and the digest of the adapter as it is now."""
        if self.file is None or self.dose == 0:
            return f"{self.base}-{task}-{split}-base"
        control = f"-{self.control.replace(' ', '')}" if self.control else ""
        dose = f"-x{self.dose:g}" if self.dose != 1 else ""
        return f"{self.base}-{task}-{split}-{self.file.stem}-{_hex(self.file)[:12]}{control}{dose}"


def is_known(file: Path) -> bool:
    """Tell whether an adapter is there, or its digest in a file beside where it was: that is enough for tables."""
    return file.is_file() or file.with_suffix(_DIGEST).is_file()


def _hex(file: Path) -> str:
    kept = file.with_suffix(_DIGEST)
    return Digest.of_file(file).hex if file.is_file() or not kept.is_file() else kept.read_text("utf-8").strip()


def adapter_file(cache: Path, base: str, task: str, seed: int) -> Path:
    """Return where the adapter that was trained on a base is kept."""
    return cache / "adapters" / f"{base}-{task}-{seed}.air"


def moved_file(cache: Path, rung: str, task: str, seed: int) -> Path:
    """Return where the adapter that a rung moved is kept."""
    return cache / "moved" / f"{rung}-{task}-{seed}.air"


def identity_file(cache: Path, rung: str, task: str, seed: int) -> Path:
    """Return where the adapter that a rung moved to its own base is kept."""
    return cache / "moved" / f"{rung}-itself-{task}-{seed}.air"


def reference_arms(cache: Path, task: str, seed: int) -> list[Arm]:
    """Return both bases, plain and with the adapter that was trained on them."""
    return [
        Arm(name="source base", base=SOURCE),
        Arm(name="source adapter", base=SOURCE, file=adapter_file(cache, SOURCE, task, seed)),
        Arm(name="base", base=TARGET),
        Arm(name="native", base=TARGET, file=adapter_file(cache, TARGET, task, seed)),
    ]


def identity_arms(cache: Path, rung: str, task: str, seed: int) -> list[Arm]:
    """Return an adapter that a rung moved to its own base; it should do there what it did before."""
    file = identity_file(cache, rung, task, seed)
    return [Arm(name=f"{rung}: to its own base", base=SOURCE, file=file)]


def dose_arms(file: Path) -> list[Arm]:
    """Return a moved adapter at every dose, to be measured on dev."""
    return [Arm(name=f"x{dose:g}", base=TARGET, file=file, dose=dose) for dose in DOSES]


def choose_dose(losses: Mapping[float, float]) -> float:
    """Return the dose with the lowest loss; of several the smallest, so that none is preferred to a useless one."""
    return min(losses, key=lambda dose: (losses[dose], dose))


def rung_arms(cache: Path, rung: str, task: str, seed: int, dose: float, *, every: bool = False) -> list[Arm]:
    """Return what is measured of a rung on test: as it is, at the dose that dev chose, and its controls at that dose.

    Where dev chose dose 0 the rung has no effect to be explained: one random arm and the flipped one are enough.

    Args:
        cache: Folder of adapters.
        rung: The rung.
        task: The task.
        seed: Seed of training.
        dose: What dev chose.
        every: Whether to measure every control even at dose 0.
    """
    file = moved_file(cache, rung, task, seed)
    arms = [Arm(name=rung, base=TARGET, file=file)]
    if dose not in (0.0, 1.0):
        arms.append(Arm(name=dosed(rung, dose), base=TARGET, file=file, dose=dose))
    # The first random arm and the other task's say most, so they come before the other random ones.
    used = dose or 1.0
    arms += [_control(rung, file, control, used) for control in (FLIPPED, f"{RANDOM} {RANDOM_SEEDS[0]}")]
    if dose or every:
        arms.append(Arm(name=f"{rung}: wrong task", base=TARGET, file=_stranger(cache, rung, task, seed), dose=used))
        arms += [_control(rung, file, f"{RANDOM} {number}", used) for number in RANDOM_SEEDS[1:]]
    return arms


def _stranger(cache: Path, rung: str, task: str, seed: int) -> Path:
    """Return the other task's adapter; where it has no requests to be written otherwise, `distill` stands for that."""
    other, needs_requests = WRONG_TASK[task], rung in {"distill-both", "distill-words"}
    return moved_file(cache, "distill" if needs_requests and not has_requests(other) else rung, other, seed)


def _control(rung: str, file: Path, control: str, dose: float) -> Arm:
    return Arm(name=f"{rung}: {control}", base=TARGET, file=file, control=control, dose=dose)


def control_starts(rung: str) -> tuple[str, ...]:
    """Return what the names of a rung's controls begin with, which must do worse; the random ones first."""
    return tuple(f"{rung}: {control}" for control in (RANDOM, FLIPPED, "wrong task"))


def dosed(rung: str, dose: float) -> str:
    """Return the name of the arm of a rung at a dose."""
    return rung if dose == 1 else f"{rung} x{dose:g}"
