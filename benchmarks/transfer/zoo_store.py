"""Where the zoo is kept: its bases, adapters, moved adapters, generated text and numbers, each by its name.

Numbers are kept for each item and each adapter as it is now, so nothing is measured twice, and tables are made from
what is there without a model. Nothing here loads a framework unless something has to be measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from benchmarks.transfer.arms import FLIPPED, RANDOM, Arm, choose_dose, dosed, is_known
from benchmarks.transfer.numbers import Measured, Numbers
from benchmarks.transfer.side_by_side import one_at_a_time
from benchmarks.transfer.zoo_recipe import Settings, chosen_settings

if TYPE_CHECKING:
    from benchmarks.transfer.zoo_corpus import Domain
    from benchmarks.transfer.zoo_distill import Teacher
    from ual_registry.models.loaded import LoadedBase

__all__ = [
    "ALONE",
    "BASES",
    "BEST_FREE",
    "COLD",
    "DIRECTIONS",
    "DISTILLED",
    "DOMAIN",
    "FREE",
    "RUNGS",
    "TEXTED",
    "TEXTS",
    "WARM",
    "WRONG",
    "Zoo",
    "default_cache",
]

BASES = ("llama", "gpt2", "qwen2", "gpt_neox")
DIRECTIONS = tuple(permutations(BASES, 2))
"""All twelve."""

DOMAIN, WRONG = "changelogs", "code"
COLD, WARM = "distill cold", "distill warm"
TEXTED = "distill warm, and text"
ALONE = "text alone"
FREE = ("svd", "subspace", "vocab", "activations", "activations-joint", "residual", "predictions")
"""The rungs without training, cheapest first."""

DISTILLED = (COLD, WARM, TEXTED)
"""The rungs that train. The last is given the passages of `TEXTS` beside what the source wrote."""

RUNGS = (*FREE, *DISTILLED, ALONE)
"""The last is no rung: what the same text and as many steps give where there is no source to learn from."""

BEST_FREE = "predictions"
"""The rung that the warm start of a distillation begins with."""

TEXTS = 150
"""Passages of unlabelled text that a rung gets, where it asks for some."""

DOSES = (0.5, 1.0, 1.5, 2.0)
RANDOM_SEEDS = (0, 1, 2)


def default_cache() -> Path:
    """Return where the zoo is kept where nothing else is said."""
    return platformdirs.user_cache_path("ual-registry") / "transfer-zoo"


@dataclass(slots=True, kw_only=True)
class Zoo:
    """Everything that is kept, and the bases that are in memory.

    Attributes:
        cache: Folder of bases, adapters, moved adapters, generated text and numbers.
        loaded: Bases by name, loaded when they are first needed.
        domains: Domains by name, read when they are first needed.
        teachers: What a source has to teach, by its base, domain and text: the one that was needed last.
        settings: How distillations train: those that a pilot chose, unless others are given.
    """

    cache: Path
    loaded: dict[str, LoadedBase] = field(default_factory=dict)
    domains: dict[str, Domain] = field(default_factory=dict)
    teachers: dict[tuple[str, str, str], Teacher] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def open(cls, cache: Path) -> Zoo:
        """Open what is kept, with the settings that a pilot chose."""
        return cls(cache=cache, settings=chosen_settings(cache))

    @property
    def numbers(self) -> Numbers:
        """Where numbers are kept."""
        return Numbers(self.cache / "measured")

    def folder(self, base: str) -> Path:
        """Return the folder of a base model."""
        return self.cache / "bases" / base

    def adapter(self, base: str, domain: str) -> Path:
        """Return the file of the adapter that was trained on a base."""
        return self.cache / "adapters" / f"{base}-{domain}.air"

    def moved(self, rung: str, source: str, target: str, domain: str) -> Path:
        """Return the file of a moved adapter; without a source one serves all directions to a target."""
        if rung == ALONE:
            source = "no-source"
        name = self.settings_of(rung).name if rung in DISTILLED else ""
        stem = rung.replace(",", "").replace(" ", "-")
        return self.cache / "moved" / f"{stem}-{source}-{target}-{domain}{name and f'-{name}'}.air"

    def settings_of(self, rung: str) -> Settings:
        """Return how a distillation trains."""
        return self.settings.with_passages(TEXTS) if rung == TEXTED else self.settings

    def base(self, name: str) -> LoadedBase:
        """Return a base model in memory."""
        from benchmarks.transfer.place import load  # noqa: PLC0415 - torch, after calm_threads

        if name not in self.loaded:
            self.loaded[name] = load(self.folder(name))
        return self.loaded[name]

    def domain(self, name: str) -> Domain:
        """Return the text of a domain."""
        from benchmarks.transfer.zoo_corpus import DOMAINS, Domain  # noqa: PLC0415 - not needed where numbers are there

        if name not in self.domains:
            kept = self._kept(f"text/{name}.json", lambda: asdict(DOMAINS[name]()))
            self.domains[name] = Domain(name=name, **{key: tuple(own) for key, own in kept.items() if key != "name"})
        return self.domains[name]

    def prose(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the documents of the base corpus: to train on, and held out."""
        from benchmarks.transfer.zoo_corpus import prose  # noqa: PLC0415 - as above

        train, held_out = self._kept("text/prose.json", prose)
        return tuple(train), tuple(held_out)

    def _kept(self, name: str, read: Callable[[], Any]) -> Any:
        """Return what was read once, as JSON: a later change of the machine does not change the corpus of a cache."""
        file = self.cache / name
        with one_at_a_time(file):
            if not file.is_file():
                partial = file.with_suffix(".partial")
                partial.write_text(json.dumps(read()), encoding="utf-8")
                partial.replace(file)
        return json.loads(file.read_text(encoding="utf-8"))

    def measure(self, arm: Arm, split: str) -> Measured:
        """Return the bits per byte of an arm on `dev` or `test`, measured where they were not."""
        key = arm.key(DOMAIN, split)
        if (found := self.numbers.of(key)) is None:
            with one_at_a_time(self.numbers.folder / key):
                found = self.numbers.of(key) or self._measured(arm, split, key)
        return found

    def _measured(self, arm: Arm, split: str, key: str) -> Measured:
        from benchmarks.transfer.zoo_measure import score  # noqa: PLC0415 - torch, after calm_threads

        self.numbers.keep(key, score(self.base(arm.base), arm, getattr(self.domain(DOMAIN), split)))
        found = self.numbers.of(key)
        assert found is not None  # it was kept just now
        return found

    def reference_arms(self, source: str, target: str) -> Iterator[Arm]:
        """Yield both bases, plain and with the adapter that was trained on them."""
        yield Arm(name="source base", base=source)
        yield Arm(name="source adapter", base=source, file=self.adapter(source, DOMAIN))
        yield Arm(name="base", base=target)
        yield Arm(name="native", base=target, file=self.adapter(target, DOMAIN))

    def rung_arms(self, rung: str, source: str, target: str) -> Iterator[Arm]:
        """Yield what is measured of a rung on test: as it is, at the dose of dev, and its controls at that dose."""
        file, stranger = (self.moved(rung, source, target, domain) for domain in (DOMAIN, WRONG))
        yield Arm(name=rung, base=target, file=file)
        dose = self.doses(rung, source, target)[0]
        used = dose or 1.0  # where no dose helps, the controls are those of the adapter as it is
        if used != 1:
            yield Arm(name=dosed(rung, dose), base=target, file=file, dose=dose)
        # A rung that has no effect has nothing to be explained by many controls.
        seeds = RANDOM_SEEDS if dose else RANDOM_SEEDS[:1]
        for control in (*(f"{RANDOM} {seed}" for seed in seeds), FLIPPED):
            yield Arm(name=f"{rung}: {control}", base=target, file=file, control=control, dose=used)
        if is_known(stranger):
            yield Arm(name=f"{rung}: wrong task", base=target, file=stranger, dose=used)

    def identity_arms(self, rung: str, base: str) -> Iterator[Arm]:
        """Yield a base, its adapter, and that adapter moved to the base itself."""
        yield Arm(name="base", base=base)
        yield Arm(name="native", base=base, file=self.adapter(base, DOMAIN))
        if is_known(file := self.moved(rung, base, base, DOMAIN)):
            yield Arm(name=rung, base=base, file=file)

    def dose_arms(self, rung: str, source: str, target: str) -> Iterator[Arm]:
        """Yield what is measured of a rung on dev: the base, and every dose."""
        yield Arm(name="0", base=target)
        file = self.moved(rung, source, target, DOMAIN)
        for dose in DOSES:
            yield Arm(name=f"{dose:g}", base=target, file=file, dose=dose)

    @property
    def dose_count(self) -> int:
        """How many arms that is."""
        return 1 + len(DOSES)

    def doses(self, rung: str, source: str, target: str) -> list[float]:
        """Measure the doses on dev; return the one with the lowest loss first, 0 where none is better than the base."""
        arms = self.dose_arms(rung, source, target)
        losses = {float(arm.name): next(iter(self.measure(arm, "dev").values())).value for arm in arms}
        chosen = choose_dose(losses)
        return [chosen, *(dose for dose in losses if dose != chosen)]

    @staticmethod
    def is_settled(file: Path) -> bool:
        """Tell whether there is a moved adapter or its digest, or word of why there is none."""
        return is_known(file) or file.with_suffix(".refused").is_file()
