"""What the zoo does, cut into parts that may run side by side: which there are, what each waits for, and each one.

What a part makes is kept, and made once: who comes second waits for the first. In which order and by how many
processes parts are run is left to `zoo` and `zoo_jobs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.transfer.arms import Arm, is_known
from benchmarks.transfer.side_by_side import one_at_a_time
from benchmarks.transfer.zoo_recipe import Settings
from benchmarks.transfer.zoo_store import (
    ALONE,
    BASES,
    BEST_FREE,
    COLD,
    DISTILLED,
    DOMAIN,
    FREE,
    TEXTED,
    TEXTS,
    WARM,
    WRONG,
    Zoo,
)

if TYPE_CHECKING:
    from benchmarks.transfer.numbers import Measured

__all__ = ["Part", "bits", "parts", "run_part", "teacher_part", "trial_arm", "trial_part"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something to do.

    Attributes:
        kind: What: a key of `_KINDS`.
        names: Of which rung, base, source, target or domain.
        settings: How distillations train.
        after: Keys of the parts that have to be over before, where they are run at all.
    """

    kind: str
    names: tuple[str, ...]
    settings: Settings
    after: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What names it."""
        settings = self.settings
        return " ".join((self.kind, *self.names, settings.text_name if self.kind == "teacher" else settings.name))

    def __str__(self) -> str:
        """Return its key, as people read it."""
        return self.key.strip()


def parts(zoo: Zoo, directions: Sequence[tuple[str, str]], rungs: Sequence[str]) -> list[Part]:
    """Return all there is to do, what others wait for and what takes long first.

    Args:
        zoo: What is kept.
        directions: Source and target.
        rungs: The rungs.
    """
    starts = [own for own in (COLD, WARM) if own in rungs]
    free = [own for own in reversed(FREE) if own in rungs]
    found = [_part(zoo, "base", base) for base in BASES]
    found += _teachers(zoo, directions, starts, DOMAIN)
    first = [own for own in (BEST_FREE, *starts, ALONE) if own in rungs]
    found += [_moved_part(zoo, rung, *pair) for rung in (*first, *free) for pair in directions]
    found += [_part(zoo, "identity", rung, base) for rung in free for base in BASES]
    found += [_stranger_part(zoo, rung, *pair) for rung in free for pair in directions]
    # What takes long and says least comes last, where the time may be over.
    again = [own for own in (WARM, TEXTED, COLD) if own in rungs]
    for rung in again:
        found += _teachers(zoo, directions, [rung], DOMAIN if rung == TEXTED else WRONG)
        part = _moved_part if rung == TEXTED else _stranger_part
        found += [part(zoo, rung, *pair) for pair in directions]
    return list({part.key: part for part in found}.values())


def _part(zoo: Zoo, kind: str, *names: str, after: Sequence[Part] = ()) -> Part:
    return Part(kind=kind, names=names, settings=zoo.settings, after=tuple(own.key for own in after))


def _teachers(zoo: Zoo, directions: Sequence[tuple[str, str]], rungs: Sequence[str], domain: str) -> Iterator[Part]:
    """Yield the teachers of adapters that are not made yet."""
    for rung in rungs:
        for source, target in directions:
            if not is_known(zoo.moved(rung, source, target, domain)):
                yield teacher_part(zoo.settings_of(rung), source, domain)


def teacher_part(settings: Settings, source: str, domain: str) -> Part:
    """Return the part in which a source writes and scores its texts."""
    after = (Part(kind="base", names=(source,), settings=settings).key,)
    return Part(kind="teacher", names=(source, domain), settings=settings, after=after)


def trial_part(settings: Settings, source: str, target: str) -> Part:
    """Return the part in which a pilot tries settings on dev."""
    after = (teacher_part(settings, source, DOMAIN).key,)
    return Part(kind="trial", names=(source, target), settings=settings, after=after)


def _moved_part(zoo: Zoo, rung: str, source: str, target: str) -> Part:
    after = [_part(zoo, "base", base) for base in (source, target)]
    if rung in DISTILLED:
        after += [_part(zoo, "moved", BEST_FREE, source, target)]
        after += [teacher_part(zoo.settings_of(rung), source, DOMAIN)]
    if rung == ALONE:
        source = next(base for base in BASES if base != target)  # it is the same from all of them
    return _part(zoo, "moved", rung, source, target, after=after)


def _stranger_part(zoo: Zoo, rung: str, source: str, target: str) -> Part:
    after = [_part(zoo, "moved", rung, source, target)]
    if rung not in FREE:
        after += [_part(zoo, "stranger", BEST_FREE, source, target), teacher_part(zoo.settings, source, WRONG)]
    return _part(zoo, "stranger", rung, source, target, after=after)


# What parts do


def run_part(zoo: Zoo, part: Part) -> Iterator[str]:
    """Do a part, and say each of its steps when it is done."""
    zoo.settings = part.settings
    yield from _KINDS[part.kind](zoo, *part.names)


def bits(measured: Measured) -> float:
    """Return the bits per byte of what was measured."""
    return next(iter(measured.values())).value


def _trained(zoo: Zoo, base: str) -> Iterator[str]:
    """Train a base, and an adapter of the domain on it, and measure both."""
    with one_at_a_time(zoo.folder(base)):
        if not zoo.folder(base).is_dir():
            from benchmarks.transfer.zoo_models import SHAPES, train_base  # noqa: PLC0415 - torch loads here

            train_base(SHAPES[base], zoo.prose()[0], zoo.folder(base))
    yield f"base {base}"
    _adapter(zoo, base, DOMAIN)
    yield f"adapter of {base}, {DOMAIN}"
    for arm in zoo.reference_arms(base, base):
        for split in ("dev", "test"):
            yield _measured(zoo, arm, split, base)


def _adapter(zoo: Zoo, base: str, domain: str) -> Path:
    """Return the adapter of a base and a domain, trained where it is not there."""
    file = zoo.adapter(base, domain)
    with one_at_a_time(file):
        if not file.is_file():
            from benchmarks.transfer.zoo_adapters import train_adapter  # noqa: PLC0415 - torch, as above

            train_adapter(zoo.base(base), zoo.folder(base), zoo.domain(domain), file)
    return file


def _taught(zoo: Zoo, source: str, domain: str) -> Iterator[str]:
    """Let a source write and score, with the settings of the zoo."""
    _teach(zoo, source, domain, zoo.settings)
    yield f"texts of {source}, {domain}, {zoo.settings.text_name}"


def _teach(zoo: Zoo, source: str, domain: str, settings: Settings) -> None:
    """Have what a source teaches in memory."""
    from benchmarks.transfer.zoo_distill import teach  # noqa: PLC0415 - torch loads here, after calm_threads

    key = (source, domain, settings.text_name)
    if key in zoo.teachers:
        return
    zoo.teachers.clear()  # each takes hundreds of MiB
    folder = zoo.cache / "taught" / _named(f"{source}-{domain}", settings)
    passages = zoo.domain(domain).text[: settings.passages]
    with one_at_a_time(folder):
        zoo.teachers[key] = teach(zoo.base(source), _adapter(zoo, source, domain), folder, settings, passages)


def _named(stem: str, settings: Settings) -> str:
    return f"{stem}-{settings.text_name}".rstrip("-")


def _moved(zoo: Zoo, rung: str, source: str, target: str) -> Iterator[str]:
    """Move an adapter and measure it and its controls."""
    for arm in zoo.reference_arms(source, target):
        for split in ("dev", "test"):
            yield _measured(zoo, arm, split, arm.base)
    file = zoo.moved(rung, source, target, DOMAIN)
    if rung in FREE:
        _move(zoo, rung, source, target, DOMAIN)
    elif rung == ALONE:
        _train_alone(zoo, target)
    elif zoo.moved(BEST_FREE, source, target, DOMAIN).is_file():
        _distil(zoo, rung, source, target, DOMAIN)
    yield f"{rung} {source} {target}"
    if is_known(file):
        yield f"{rung} {source} {target} on dev: best at {zoo.doses(rung, source, target)[0]:g}"
        for arm in zoo.rung_arms(rung, source, target):
            yield _measured(zoo, arm, "test", f"{source} {target}")


def _stranger(zoo: Zoo, rung: str, source: str, target: str) -> Iterator[str]:
    """Move the adapter of the other domain by the same rung, where that rung has an effect, and measure."""
    if not is_known(zoo.moved(rung, source, target, DOMAIN)) or not zoo.doses(rung, source, target)[0]:
        return
    _adapter(zoo, source, WRONG)
    if rung in FREE:
        _move(zoo, rung, source, target, WRONG)
    else:
        _move(zoo, BEST_FREE, source, target, WRONG)
        _distil(zoo, rung, source, target, WRONG)
    for arm in zoo.rung_arms(rung, source, target):
        yield _measured(zoo, arm, "test", f"{source} {target}")


def _identity(zoo: Zoo, rung: str, base: str) -> Iterator[str]:
    """Move the adapter of a base to that base itself."""
    _move(zoo, rung, base, base, DOMAIN)
    for arm in zoo.identity_arms(rung, base):
        yield _measured(zoo, arm, "test", f"{base} {base}")


def _trial(zoo: Zoo, source: str, target: str) -> Iterator[str]:
    """Distil without a start, with the settings of the zoo, and measure it on dev alone."""
    _move(zoo, BEST_FREE, source, target, DOMAIN)
    _distil(zoo, COLD, source, target, DOMAIN)
    for arm in (*list(zoo.reference_arms(source, target))[2:], trial_arm(zoo, source, target)):
        yield _measured(zoo, arm, "dev", f"{source} {target} {zoo.settings.name}")


def trial_arm(zoo: Zoo, source: str, target: str) -> Arm:
    """Return what a pilot measures."""
    return Arm(name=COLD, base=target, file=zoo.moved(COLD, source, target, DOMAIN))


def _move(zoo: Zoo, rung: str, source: str, target: str, domain: str) -> None:
    file = zoo.moved(rung, source, target, domain)
    with one_at_a_time(file):
        if not zoo.is_settled(file):
            from benchmarks.transfer.zoo_moves import Pair, move  # noqa: PLC0415 - torch, after calm_threads

            pair = Pair(source=zoo.base(source), target=zoo.base(target), texts=zoo.domain(domain).text[:TEXTS])
            move(rung, _adapter(zoo, source, domain), pair, file)


def _distil(zoo: Zoo, rung: str, source: str, target: str, domain: str) -> None:
    file, settings = zoo.moved(rung, source, target, domain), zoo.settings_of(rung)
    with one_at_a_time(file):
        if is_known(file):
            return
        from benchmarks.transfer.zoo_distill import distil, examples_of  # noqa: PLC0415 - torch, as above

        _teach(zoo, source, domain, settings)
        teacher = zoo.teachers[source, domain, settings.text_name]
        examples = examples_of(teacher, zoo.base(target), settings)
        warm, start = zoo.moved(BEST_FREE, source, target, domain), "cold" if rung == COLD else "warm"
        distil(teacher, zoo.base(target), examples, settings, start=start, warm=warm, file=file)


def _train_alone(zoo: Zoo, target: str) -> None:
    """Train an adapter as native ones are, on the unlabelled text of the rungs."""
    file = zoo.moved(ALONE, target, target, DOMAIN)
    with one_at_a_time(file):
        if is_known(file):
            return
        from benchmarks.transfer import zoo_adapters, zoo_moves  # noqa: PLC0415 - torch, as above

        domain = zoo.domain(DOMAIN)
        with zoo_moves.watched() as cost:
            few = replace(domain, train=domain.text[:TEXTS])
            zoo_adapters.train_adapter(zoo.base(target), zoo.folder(target), few, file)
        zoo_moves.keep_cost(file, cost[0], {"texts": TEXTS})


def _measured(zoo: Zoo, arm: Arm, split: str, where: str) -> str:
    return f"{arm.name} {where} {split}: {bits(zoo.measure(arm, split)):.3f}"


_KINDS: Mapping[str, Callable[..., Iterator[str]]] = {
    "base": _trained,
    "teacher": _taught,
    "moved": _moved,
    "identity": _identity,
    "stranger": _stranger,
    "trial": _trial,
}
