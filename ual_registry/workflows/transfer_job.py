"""What every rung of a transfer is given: adapter, base models and text, each read when it is needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.air.adapter import Adapter
from ual_registry.binders.base import BaseConfig, load_base
from ual_registry.digest import Digest
from ual_registry.errors import MissingExtraError, TransferError
from ual_registry.storage import file_size
from ual_registry.transfers.choose import Material, choose
from ual_registry.transfers.layers import LayerChoice, LayerPolicy
from ual_registry.transfers.plan import TransferPlan, make_plan
from ual_registry.transfers.rungs import AUTO, Needs, rung_of
from ual_registry.transfers.whole_plan import make_whole_plan
from ual_registry.workflows.bases import NamedBase, find_base
from ual_registry.workflows.extras import has_peft, has_torch
from ual_registry.workflows.transfer_bases import Place, find_source, find_target
from ual_registry.workflows.transfer_order import TransferOrder
from ual_registry.workflows.transfer_text import continued_texts, read_texts, usual_folder

if TYPE_CHECKING:
    from ual_registry.distillation.report import Named
    from ual_registry.distillation.seeds import SeedPrompts
    from ual_registry.models.loaded import LoadedBase
    from ual_registry.transfers.choose import Choice

__all__ = ["Job"]


class Job:
    """One transfer: what was asked for, and what is at hand. What costs something is made once, on first use.

    Args:
        adapter: The source adapter.
        order: What is asked for.
        digest: Digest of the adapter's file; only a plan can do without.
        say: Is told what is done now.
    """

    def __init__(
        self,
        adapter: Adapter,
        order: TransferOrder,
        *,
        digest: Digest | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.adapter, self.order, self.digest, self.say = adapter, order, digest, say
        self.started = time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self.started

    @property
    def named(self) -> Named:
        """The source adapter with its digest, as a distillation takes it."""
        from ual_registry.distillation.report import Named  # noqa: PLC0415  # only where it is needed

        assert self.digest is not None  # plans alone have none
        return Named(adapter=self.adapter, digest=self.digest)

    @cached_property
    def folder(self) -> Path:
        """Where an interrupted run finds what it had made."""
        return Path(self.order.folder) if self.order.folder is not None else usual_folder()

    @cached_property
    def goal(self) -> NamedBase:
        """The config of the target, and what the Hub calls it."""
        return find_base(self.order.target)

    @cached_property
    def target_place(self) -> Place:
        """Where the target lies."""
        return find_target(self.order.target, self.goal)

    @cached_property
    def source_place(self) -> Place:
        """Where the adapter's own base model lies."""
        order, wanted = self.order, self.adapter.manifest.base_model
        return find_source(wanted, order.source_base, is_any=order.is_any_base)

    @cached_property
    def source_config(self) -> BaseConfig | None:
        """The config of the adapter's own base model, where it is at hand."""
        folder = self.source_place.folder
        return None if folder is None else load_base(folder)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The calibration texts as they are given.

        Raises:
            TransferError: There are none.
            FormatError: Their file is of another form.
        """
        if self.order.calibration is None:
            raise _lacking(self.order.method, self.material.lacking[Needs.TEXT])
        return read_texts(self.order.calibration)

    @cached_property
    def seeds(self) -> SeedPrompts | None:
        """The seed prompts that were given; where absent those that the adapter carries are found with it.

        Raises:
            FormatError: They are of another form.
        """
        from ual_registry.distillation.seeds import read_seeds  # noqa: PLC0415  # only where it is needed

        return None if self.order.seeds is None else read_seeds(self.order.seeds)

    def look(self) -> None:
        """Read what is small, so that what is wrong with it is said before anything large is loaded.

        Raises:
            UALError: Something is.
        """
        self.plan()
        if self.order.data is not None:
            file_size(Path(self.order.data))  # raises where it is not there; its form is read by what loads torch
        if self.order.calibration is not None:
            self.texts  # noqa: B018  # raises
            self._require_readers()
        self.seeds  # noqa: B018  # raises

    def _require_readers(self) -> None:
        """Refuse text that a base model cannot read: no other method stands in for those that it was given for."""
        mute = next((own for own in self._places if own.folder is not None and not own.has_tokenizer), None)
        if mute is not None:
            raise _mute(mute)

    @cached_property
    def told(self) -> tuple[str, ...]:
        """The calibration texts, gone on with by source and adapter where that is asked for."""
        if not self.order.continue_tokens:
            return self.texts
        return continued_texts(
            self.texts,
            self.source,
            self.named,
            tokens=self.order.continue_tokens,
            folder=self.folder,
            say=self.say,
        )

    @cached_property
    def source(self) -> LoadedBase:
        """The adapter's own base model, in memory.

        Raises:
            BaseMismatchError: Its weights are not those that the adapter records.
        """
        found = self._load(self.source_place)
        if not self.order.is_any_base:
            from ual_registry.transfers.requirements import require_base  # noqa: PLC0415  # loads torch

            require_base(found, self.adapter.manifest.base_model, whose="the adapter")
        return found

    @cached_property
    def target(self) -> LoadedBase:
        """The target, in memory."""
        same = self.source_place.folder is not None and self.source_place.folder == self.target_place.folder
        return self.source if same else self._load(self.target_place)

    def _load(self, place: Place) -> LoadedBase:
        import torch  # noqa: PLC0415  # loads torch

        from ual_registry.models.loaded import load_base_model  # noqa: PLC0415

        if place.folder is None:
            raise _lacking(self.order.method, str(place.lacking))
        self.say(f"loading {place.folder}")
        dtype = getattr(torch, self.order.dtype)
        return load_base_model(place.folder, id=place.name, dtype=dtype, device=self.order.device)

    @cached_property
    def material(self) -> Material:
        """What is at hand."""
        return Material(
            lacking=self._lacking(),
            is_same_shape=self._is_same_shape(),
            budget_s=self.order.budget_s,
            weights_bytes=self.source_place.weights_bytes + self.target_place.weights_bytes,
        )

    @cached_property
    def choice(self) -> Choice:
        """What the rule of ``auto`` says."""
        return choose(self.material)

    @property
    def _places(self) -> tuple[Place, Place]:
        return self.source_place, self.target_place

    def _lacking(self) -> dict[Needs, str]:
        found: dict[Needs, str] = {}
        missing = [place.lacking for place in self._places if place.lacking is not None]
        if not has_torch():
            missing = ["torch is not installed: pip install 'ual-registry[torch]'"]
        if missing:
            found[Needs.WEIGHTS] = missing[0]
        dumb = [place.name for place in self._places if not place.has_tokenizer]
        if dumb:
            found[Needs.TOKENIZERS] = f"base model {dumb[0]} has no tokenizer"
        if self.order.calibration is None:
            found[Needs.TEXT] = "no calibration text: give --calibrate"
        if not has_peft():
            found[Needs.TIME] = "peft is not installed: pip install 'ual-registry[train]'"
        return found

    def _is_same_shape(self) -> bool:
        try:
            counts = self._plan_of_entries().counts()
        except TransferError:
            return False
        return counts["projected"] == counts["dropped"] == 0

    def require(self, method: str) -> None:
        """Refuse a method that needs what is not at hand.

        Raises:
            TransferError: Something is not.
            MissingExtraError: What trains is not installed.
        """
        found = next((need for need in rung_of(method).needs if need in self.material.lacking), None)
        if found is Needs.TOKENIZERS:
            raise _mute(next(place for place in self._places if not place.has_tokenizer))
        if found is Needs.TIME:
            raise MissingExtraError("train", needed_for="distillation")
        if found is not None:
            raise _lacking(method, self.material.lacking[found])

    def require_measurable(self) -> None:
        """Refuse to measure on a target whose weights or tokenizer are not at hand.

        Raises:
            TransferError: They are not.
        """
        place = self.target_place
        if place.folder is None:
            raise _lacking(self.order.method, str(place.lacking))
        if not place.has_tokenizer:
            raise _mute(place)

    def plan(self, method: str | None = None) -> TransferPlan:
        """Return the plan for a method, by default the one that is asked for or would be chosen.

        Raises:
            TransferError: The adapter cannot be carried by it.
            BinderError: The target is unknown.
        """
        name = method or self.order.method
        rung = rung_of(self.choice.method if name == AUTO else name)
        if not rung.is_whole:
            return self._plan_of_entries()
        try:
            plan = self._plan_of_entries()
            if plan.is_same_config:
                return plan  # the target may be the source, and then every entry stays as it is
        except TransferError:
            pass  # nothing of it has to have a counterpart
        return make_whole_plan(self.adapter.manifest, self.goal.config, rung, **self._labels())

    def _plan_of_entries(self) -> TransferPlan:
        manifest, rotary = self.adapter.manifest, self.order.rotary
        layers = LayerChoice(policy=LayerPolicy(self.order.layers))
        source = self.source_config
        return make_plan(manifest, self.goal.config, rotary=rotary, layers=layers, source=source, **self._labels())

    def _labels(self) -> dict[str, str | None]:
        name, commit = self.goal.labels(self.order.target_id, self.order.target_revision)
        return {"target_id": name, "target_revision": commit}


def _mute(place: Place) -> TransferError:
    return TransferError(
        f"base model {place.name}: it has no tokenizer, and text is needed",
        code="no-tokenizer",
        context={"base_model": place.name},
        hint="put its tokenizer.json and tokenizer_config.json into the folder",
    )


def _lacking(method: str, reason: str) -> TransferError:
    return TransferError(
        f"method {method!r}: {reason}",
        code="not-at-hand",
        context={"method": method},
        hint="'--method auto' takes the best method for what is at hand",
    )
