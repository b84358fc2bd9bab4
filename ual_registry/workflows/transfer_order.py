"""What a user asks of a transfer, checked before anything is read. Nothing here loads a framework."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ual_registry.errors import TransferError
from ual_registry.seeding import require_seed
from ual_registry.transfers.choose import DISTILL
from ual_registry.transfers.layers import LayerPolicy, LayerRule
from ual_registry.transfers.plan import RotaryPolicy
from ual_registry.transfers.rungs import AUTO, rung_of
from ual_registry.workflows.evaluate import BASELINES

__all__ = ["DTYPES", "LABELS", "REQUIRED", "TASK_NAMES", "WRITE_MAPS", "TransferOrder", "seconds_of"]

LABELS = ("works", "partial", "none", "harmful")
"""What a measured transfer can be called, the best first."""

REQUIRED = LABELS[:2]
"""What can be required of one."""

TASK_NAMES = ("labels", "bits-per-byte", "exact")
"""What can be asked of items, as ``evaluation.tasks.TASKS`` has it beside what loads torch."""

WRITE_MAPS = (AUTO, "joint", "outputs")
"""What a write map can be fitted to, as ``transfers.module_fit.WriteKind`` has it beside what loads torch; ``auto`` is
``joint`` where both base models predict the next token."""

DTYPES = ("float32", "bfloat16", "float16")
"""What base models can be loaded in."""

_OPEN = "it may take a method that has none; say which one by --method"

_CODES = {"rotary policy": "unknown-rotary"}

_BUDGET = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smh]?)\Z", re.ASCII)
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(budget: str | float) -> float:
    """Read a budget: seconds, or a number and s, m or h.

    Raises:
        TransferError: It is none.

    >>> seconds_of("10m"), seconds_of("90"), seconds_of(0.5)
    (600.0, 90.0, 0.5)
    """
    match = _BUDGET.match(budget) if isinstance(budget, str) else None
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0 if isinstance(budget, str) else float(budget)
    if not 0 < seconds < math.inf:
        raise TransferError(
            f"budget {str(budget)[:40]!r}: expected a number above 0 and s, m or h",
            code="bad-option",
            hint="such as 10m",
        )
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOrder:
    """How to carry an adapter.

    Attributes:
        target: The base model to go to.
        method: A name of ``transfers.rungs.RUNGS``, or ``auto``.
        target_id: Label of the target.
        target_revision: Commit of the target.
        rotary: What to do with query and key where rotary position embedding differs.
        layer_map: By what the layers of both are paired where activations are compared: ``proportional`` or ``cka``.
        layers: What becomes of source layers that the layer map does not name: ``pick`` or ``pool``.
        write_map: What the write maps of ``activations`` are fitted to, a name of ``WRITE_MAPS``.
        source_base: Folder of the adapter's own base model, with weights.
        calibration: Unlabelled texts, or a file of them.
        continue_tokens: How many tokens source and adapter add to each text.
        budget_s: Seconds that may be spent.
        seeds: File of seed prompts; those that the adapter carries where absent.
        data: File of items that the result is measured on.
        task: What is asked of them.
        baselines: References to further adapters, by a name of ``workflows.evaluate.BASELINES``.
        is_plain: Whether prompts are given as they are, even where a base has a chat template.
        require: The label that the result must have at least.
        is_any_base: Whether to take a base model that is not the one that the adapter records.
        dtype: What base models are loaded in.
        device: Where they are.
        seed: Seeds whatever is drawn.
        folder: Where generated texts, statistics and training runs are kept, so that an interrupted run goes on; the
            platform's cache of this user where absent.
    """

    target: str | Path
    method: str = AUTO
    target_id: str | None = None
    target_revision: str | None = None
    rotary: RotaryPolicy | str = RotaryPolicy.DROP
    layer_map: LayerRule | str = LayerRule.PROPORTIONAL
    layers: LayerPolicy | str = LayerPolicy.PICK
    write_map: str = AUTO
    source_base: str | Path | None = None
    calibration: Iterable[str] | str | Path | None = None
    continue_tokens: int = 0
    budget_s: float | None = None
    seeds: str | Path | None = None
    data: str | Path | None = None
    task: str = "labels"
    baselines: Mapping[str, str] = field(default_factory=dict)
    is_plain: bool = False
    require: str | None = None
    is_any_base: bool = False
    dtype: str = DTYPES[0]
    device: str = "cpu"
    seed: int = 0
    folder: str | Path | None = None

    def conflict(self) -> str | None:
        """Say which options do not go together, in the words of the command line; ``None`` where all do."""
        is_auto = self.method == AUTO
        takes_text = is_auto or rung_of(self.method).takes_text
        trains = self.method in (AUTO, DISTILL)
        is_whole = not is_auto and rung_of(self.method).is_whole
        compares = self.method == "activations"
        whole_words = _OPEN if is_auto else "it carries all at once"
        compares_not = _OPEN if is_auto else "it compares no activations"
        rules = (
            (
                self.calibration is not None and not takes_text,
                f"--method {self.method} takes no text: leave out --calibrate",
            ),
            (
                self.continue_tokens and self.calibration is None,
                "--continue needs --calibrate: it goes on with its texts",
            ),
            (self.continue_tokens < 0, "--continue takes a number from 0"),
            (self.budget_s is not None and not trains, f"--method {self.method} takes no --budget: it does not train"),
            (self.seeds is not None and not trains, f"--method {self.method} takes no --seeds: it generates no text"),
            (
                self.require is not None and self.data is None,
                "--require needs --data: without measuring nothing is known",
            ),
            (bool(self.baselines) and self.data is None, "--baselines needs --data: nothing is measured without"),
            (
                self.layers != LayerPolicy.PICK and (is_whole or is_auto),
                f"--method {self.method} has no --layers: {whole_words}",
            ),
            (
                self.layer_map != LayerRule.PROPORTIONAL and not compares,
                f"--method {self.method} has no --layer-map: {compares_not}",
            ),
            (
                self.write_map != AUTO and not compares,
                f"--method {self.method} has no --write-map: {compares_not}",
            ),
            (
                self.require == LABELS[0] and "native" not in self.baselines,
                "--require works needs --baselines native=REF: without a native adapter nothing can be said to work",
            ),
        )
        return next((text for is_broken, text in rules if is_broken), None)

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            TransferError: Some do not, or there is no such method, label, baseline or dtype.
        """
        if self.method != AUTO:
            rung_of(self.method)
        require_seed(self.seed)
        for name, value, known in (
            ("rotary policy", self.rotary, tuple(map(str, RotaryPolicy))),
            ("layer map", self.layer_map, tuple(map(str, LayerRule))),
            ("layers", self.layers, tuple(map(str, LayerPolicy))),
            ("write map", self.write_map, WRITE_MAPS),
            ("require", self.require, REQUIRED),
            ("task", self.task, TASK_NAMES),
            ("dtype", self.dtype, DTYPES),
            *(("baseline", name, BASELINES) for name in self.baselines),
        ):
            if value is not None and value not in known:
                raise TransferError(
                    f"{name} {str(value)!r}: expected one of {', '.join(known)}", code=_CODES.get(name, "bad-option")
                )
        problem = self.conflict()
        if problem is not None:
            raise TransferError(problem.replace("--", ""), code="bad-option")
