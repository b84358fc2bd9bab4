"""Which modules of a base model carry factors and which do not, each with its reason, one by one and in groups.

Nothing here loads a framework.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ual_registry.air.layers import layers_text

__all__ = ["Target", "TargetChoice", "TargetGroup", "of_layer"]

_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One linear module of a base model.

    Attributes:
        path: Its path; for a parameter of several experts the module's path and the parameter's name.
        is_included: Whether it carries factors.
        reason: What it does and where it stands, or why it is left out.
        roles: Its roles, in the order of its rows; none where the binder gives it none.
        stack: The stack that it stands in.
        layer: Its layer; ``None`` outside the blocks.
        parameter: Name of the parameter that holds the matrices of all experts; ``None`` for a module.
    """

    path: str
    is_included: bool
    reason: str
    roles: tuple[str, ...] = ()
    stack: str | None = None
    layer: int | None = None
    parameter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGroup:
    """Modules of the same path in several layers, for people.

    Attributes:
        path: The path, with ``*`` for numbers that differ.
        is_included: Whether they carry factors.
        reason: Why, or why not.
        count: How many modules they are.
        layers: Their layers, as in ``0-11``; empty outside the blocks.
    """

    path: str
    is_included: bool
    reason: str
    count: int
    layers: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetChoice:
    """Which modules carry factors.

    Attributes:
        targets: Every linear module that is known, those of the binder in its order first.
    """

    targets: tuple[Target, ...]

    @property
    def included(self) -> tuple[Target, ...]:
        """What carries factors."""
        return tuple(target for target in self.targets if target.is_included)

    @property
    def excluded(self) -> tuple[Target, ...]:
        """What carries none."""
        return tuple(target for target in self.targets if not target.is_included)

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of the modules that carry factors, as PEFT's ``target_modules`` takes them."""
        return tuple(target.path for target in self.included if target.parameter is None)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Paths of the parameters that carry factors, as PEFT's ``target_parameters`` takes them."""
        return tuple(target.path for target in self.included if target.parameter is not None)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why each module does or does not carry factors, by its path."""
        return {target.path: target.reason for target in self.targets}

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that are trained, each once."""
        return tuple(dict.fromkeys(role for target in self.included for role in target.roles))

    def groups(self) -> tuple[TargetGroup, ...]:
        """Return the modules with the same path and reason in several layers as one line each."""
        found: dict[tuple[str, bool, str], list[Target]] = {}
        for target in self.targets:
            reason = target.reason if target.layer is None else target.reason.replace(of_layer(target.layer), "")
            found.setdefault((_NUMBER.sub("*", target.path), target.is_included, reason), []).append(target)
        return tuple(
            TargetGroup(
                path=_joint_path([member.path for member in members]),
                is_included=is_included,
                reason=reason,
                count=len(members),
                layers=_layers(members),
            )
            for (_, is_included, reason), members in found.items()
        )

    def document(self) -> list[dict[str, Any]]:
        """Return the lines of ``groups`` as JSON."""
        return [
            {
                "path": group.path,
                "included": group.is_included,
                "reason": group.reason,
                "count": group.count,
                "layers": group.layers,
            }
            for group in self.groups()
        ]


def of_layer(layer: int) -> str:
    """Return the words of a reason that say where a module stands."""
    return f" of layer {layer}"


def _joint_path(paths: list[str]) -> str:
    """Return paths that differ in numbers alone as one, with ``*`` for those."""
    parts = zip(*(path.split(".") for path in paths), strict=True)
    return ".".join(part[0] if len(set(part)) == 1 else "*" for part in parts)


def _layers(members: Iterable[Target]) -> str:
    held = sorted({member.layer for member in members if member.layer is not None})
    return layers_text(held) if held else ""
