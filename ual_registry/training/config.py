"""How an adapter is trained: every setting, its default, and what a run can be made of.

Defaults follow what is published: all linear modules of the blocks, rank 16, alpha 32, no dropout, a learning rate ten
times that of full fine-tuning, an effective batch under 32 (T. Schulman et al., "LoRA Without Regret", 2025).
Nothing here loads a framework.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from ual_registry.air.canonical import canonical_bytes
from ual_registry.air.roles import ROLES
from ual_registry.digest import Digest
from ual_registry.errors import TrainingError

__all__ = [
    "BATCHINGS",
    "DEVICES",
    "HEADS",
    "KEPT",
    "LOSSES",
    "PRECISIONS",
    "SCHEDULES",
    "SINKS",
    "TrainingConfig",
    "setting_error",
]

HEADS = ("causal", "masked", "seq2seq", "classification")
"""What the head predicts: the next token, masked tokens, the tokens of a decoder, or one label for each text."""

SCHEDULES = ("constant", "linear", "cosine", "warmup-stable-decay")
BATCHINGS = ("grouped", "packed", "shuffled")
"""Texts of like length together, several texts in one row, or texts as they come."""

LOSSES = ("completion", "all")
"""Whether prompts are left out of the loss."""

LONG_TEXTS = ("split", "cut")
"""Whether what is too long for a row goes on in another, or is cut off; prompts and conversations are always cut."""

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")
KEPT = ("best", "last")
SINKS = ("tensorboard", "mlflow")
"""Where the log goes beside its JSONL file; each needs the extra of its name."""

_CHOICES = {
    "head": HEADS,
    "schedule": SCHEDULES,
    "batching": BATCHINGS,
    "long_texts": LONG_TEXTS,
    "loss_on": LOSSES,
    "precision": PRECISIONS,
    "device": DEVICES,
    "keep": KEPT,
}
_WHOLE = (
    "rank", "steps", "batch_size", "accumulation", "max_length", "evaluate_every", "patience", "checkpoint_every",
)  # fmt: skip
_POSITIVE = ("alpha", "learning_rate", "epochs", "max_gradient", "lora_plus_ratio")
_SHARES = ("warmup_share", "decay_share", "held_out_share", "dropout", "mask_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How an adapter is trained.

    Attributes:
        head: What the head predicts, one of ``HEADS``.
        roles: Roles whose modules carry factors; all linear modules of the blocks where absent.
        layers: Layers whose modules carry factors; all where absent.
        exclude: Roles, or paths of modules, that carry none.
        rank: Rank of every pair of factors.
        alpha: The scaling is ``alpha / rank``, or ``alpha / sqrt(rank)`` with ``rslora``.
        dropout: Share of the inputs of the factors that a step leaves out.
        rslora: Whether to scale by the root of the rank (arXiv 2312.03732).
        dora: Whether to train magnitudes too (arXiv 2402.09353).
        rank_pattern: Other ranks, by role or by module path.
        alpha_pattern: Other alphas, by role or by module path.
        lora_plus_ratio: How many times faster ``lora_B`` learns than ``lora_A`` (LoRA+, arXiv 2402.12354).
        learning_rate: AdamW's, at its highest.
        weight_decay: AdamW's.
        schedule: How the learning rate goes, one of ``SCHEDULES``.
        warmup_share: Share of the steps in which the learning rate rises from 0.
        warmup_steps: How many steps those are; counts instead of the share where it is given.
        decay_share: Share of the steps in which a warm-up-stable-decay schedule falls.
        epochs: Passes over the examples.
        steps: Steps; counts instead of the epochs where it is given.
        batch_size: Rows of one micro-batch, on one device.
        accumulation: Micro-batches of one step.
        max_length: Tokens of a row at most.
        long_texts: What becomes of a text without a prompt that is longer, one of ``LONG_TEXTS``; what is cut off is
            reported.
        batching: How rows are put together, one of ``BATCHINGS``.
        loss_on: What of an example with a prompt is trained on, one of ``LOSSES``.
        mask_share: Share of the tokens that a masked head must find.
        deduplicate: Whether to leave out examples that were there before.
        held_out_share: Share of the documents that is held out.
        max_gradient: The norm that gradients are clipped to; not at all where absent.
        gradient_checkpointing: Whether to compute activations again instead of keeping them.
        precision: What to compute in, one of ``PRECISIONS``; ``auto`` is float32 on a CPU and bfloat16 on a GPU.
        device: Where to compute, one of ``DEVICES``.
        evaluate_every: Steps from one look at the held-out examples to the next; where absent there are ten looks.
        patience: Looks without a better held-out loss after which training stops; never where absent.
        keep: Which factors are the result, those of the lowest held-out loss or those of the last step.
        checkpoint_every: Steps from one checkpoint to the next; at every look where absent.
        seed: Seeds fresh factors, the split, masks and the order of the examples.
        sinks: Where the log goes beside its JSONL file, of ``SINKS``.
    """

    head: str = "causal"
    roles: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None
    exclude: tuple[str, ...] = ()
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    lora_plus_ratio: float | None = None
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_share: float = 0.05
    warmup_steps: int | None = None
    decay_share: float = 0.2
    epochs: float = 3.0
    steps: int | None = None
    batch_size: int = 8
    accumulation: int = 2
    max_length: int = 1024
    long_texts: str = "split"
    batching: str = "grouped"
    loss_on: str = "completion"
    mask_share: float = 0.15
    deduplicate: bool = True
    held_out_share: float = 0.1
    max_gradient: float | None = 1.0
    gradient_checkpointing: bool = False
    precision: str = "auto"
    device: str = "auto"
    evaluate_every: int | None = None
    patience: int | None = None
    keep: str = "best"
    checkpoint_every: int | None = None
    seed: int = 0
    sinks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings that nothing can be trained by."""
        for own in fields(self):
            _check_type(own.name, getattr(self, own.name), own.default)
        for name, known in _CHOICES.items():
            _check_choice(name, getattr(self, name), known)
        for name in _WHOLE:
            _check_number(name, getattr(self, name), at_least=1)
        for name in _POSITIVE:
            _check_number(name, getattr(self, name), above=0.0)
        for name in _SHARES:
            _check_number(name, getattr(self, name), at_least=0.0, below=1.0)
        _check_number("warmup_steps", self.warmup_steps, at_least=0)
        _check_number("weight_decay", self.weight_decay, at_least=0.0)
        _check_number("seed", self.seed, at_least=0)
        _check_number("max_length", self.max_length, at_least=2)
        self._check_lists()
        self._check_together()

    def _check_lists(self) -> None:
        if self.roles is not None:
            self._check_roles(self.roles)
        _check_list("sinks", self.sinks, SINKS, may_be_empty=True)
        for path in self.exclude:
            _check_type("exclude", path, "")
        if self.layers is not None:
            if not self.layers:
                raise setting_error("layers", "expected one layer at least, got none")
            for layer in self.layers:
                _check_number("layers", layer, at_least=0)
        for name in ("rank_pattern", "alpha_pattern"):
            for key, value in getattr(self, name).items():
                if not isinstance(key, str):
                    raise setting_error(name, f"expected names of roles or modules, got {key!r}")
                is_rank = name == "rank_pattern"
                _check_number(f"{name}.{key}", value, at_least=1 if is_rank else -math.inf, above=0.0)

    def _check_roles(self, roles: tuple[str, ...]) -> None:
        unknown = next((role for role in roles if not isinstance(role, str) or role not in ROLES), None)
        if unknown is not None:
            near = difflib.get_close_matches(str(unknown), ROLES, n=1)
            told = "`ual train --explain` shows every module of the base model with its role"
            hint = f"did you mean {near[0]}? {told}" if near else told
            raise setting_error(
                "roles", f"expected roles such as attention_query and mlp_up, got {unknown!r}", hint=hint
            )
        _check_list("roles", roles, ROLES)

    def _check_together(self) -> None:
        if self.warmup_share + self.decay_share > 1 and self.schedule == "warmup-stable-decay":
            raise setting_error("decay_share", "warm-up and decay are longer than the run")
        if self.batching == "packed" and self.head != "causal":
            raise setting_error("batching", f"expected grouped or shuffled with head {self.head}, got packed")
        if self.patience is not None and not self.has_held_out:
            hint = "hold some out (held_out_share), or leave patience out"
            raise setting_error("patience", "nothing is held out, so that no look can get worse", hint=hint)
        if self.head == "masked" and not self.mask_share:
            raise setting_error("mask_share", "expected above 0 with head masked, got 0")

    @property
    def scaling(self) -> float:
        """What multiplies the product of a pair of factors where no pattern says otherwise."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @property
    def effective_batch(self) -> int:
        """Rows of one step, on one device."""
        return self.batch_size * self.accumulation

    @property
    def has_held_out(self) -> bool:
        """Whether documents are held out."""
        return self.held_out_share > 0

    def document(self) -> dict[str, Any]:
        """Return every setting as JSON."""
        found = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    @property
    def digest(self) -> Digest:
        """What names these settings."""
        return Digest.of_bytes(canonical_bytes(self.document()))


def setting_error(name: str, problem: str, *, hint: str | None = None) -> TrainingError:
    """Return the refusal of one setting."""
    return TrainingError(f"setting {name}: {problem}", code="setting", context={"setting": name}, hint=hint)


def _check_type(name: str, value: object, default: object) -> None:
    """Refuse what is of another type than the default, where that tells one."""
    wanted: tuple[type, ...] = ()
    if value is None and default not in (None, MISSING) and name != "max_gradient":
        raise setting_error(name, "expected a value, got none")
    if isinstance(default, bool):
        wanted = (bool,)
    elif isinstance(default, str):
        wanted = (str,)
    elif name in ("roles", "layers", "exclude", "sinks"):
        wanted = (tuple, type(default))
    elif default is MISSING:
        wanted = (Mapping,)
    if wanted and not isinstance(value, wanted):
        expected = {bool: "true or false", str: "a word", tuple: "a list", Mapping: "names with numbers"}[wanted[0]]
        raise setting_error(name, f"expected {expected}, got {value!r}")


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise setting_error(name, f"expected {', '.join(known)}, got {value!r}")


def _check_list(name: str, values: tuple[str, ...], known: Any, *, may_be_empty: bool = False) -> None:
    unknown = [value for value in values if not isinstance(value, str) or value not in known]
    if unknown:
        raise setting_error(name, f"expected names of {', '.join(known)}, got {unknown[0]!r}")
    if not values and not may_be_empty:
        raise setting_error(name, "expected one name at least, got none")


_LARGEST = 2**53 - 1
"""Beyond it a number is not the same in every JSON reader, and a run is known by its settings as JSON."""
_INTEGERS = (*_WHOLE, "warmup_steps", "seed", "layers", "rank_pattern")


def _check_number(
    name: str,
    value: Any,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Refuse what is no number of its setting, or out of its range; an absent one is not looked at."""
    if value is None:
        return
    is_whole = name.partition(".")[0] in _INTEGERS
    wanted = (int,) if is_whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, wanted) or not abs(value) <= _LARGEST:
        raise setting_error(name, f"expected a {'whole ' if is_whole else ''}number, got {value!r:.80}")
    if not (at_least <= value < below and value > above):
        lowest = f"above {above:g}" if at_least == -math.inf else f"{at_least:g} or more"
        highest = "" if below == math.inf else f", below {below:g}"
        raise setting_error(name, f"expected {lowest}{highest}, got {value:g}")
