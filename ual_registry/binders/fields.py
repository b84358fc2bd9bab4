"""What a config says, read as a binder asks: numbers by ways, conditions on fields and on the index of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ual_registry.binders.base import BaseConfig
from ual_registry.binders.model import Condition, LayerCondition, ModelType, Module, OuterModule, Way
from ual_registry.binders.ways import evaluate, is_one_of, item_at, json_number
from ual_registry.errors import BinderDataError

__all__ = ["ConfigFields"]

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class ConfigFields:
    """The fields of a config in the eyes of one model type: below its object, with its defaults.

    Attributes:
        config: The config.
        kind: What is particular to its model type.
    """

    config: BaseConfig
    kind: ModelType

    def value(self, path: str) -> Any:
        """Return a field's value, its default where it is absent, ``None`` where there is none either."""
        if path == "model_type":
            return self.config.document.get(path)
        found = _look_up(self._root(), path)
        return self.kind.defaults.get(path) if found is _ABSENT else found

    def _root(self) -> Any:
        return _look_up(self.config.document, self.kind.config) if self.kind.config else self.config.document

    def number(self, ways: tuple[Way, ...], *, what: str) -> float:
        """Return the first number above 0 that one of ``ways`` yields.

        Args:
            ways: Config fields, numbers, or what is computed from them, in order of preference.
            what: The number's name, for the message.

        Raises:
            BinderDataError: No way yields a positive number.
        """
        found = self.find_number(ways)
        if found is None:
            tried = ", ".join(str(way) if isinstance(way, (str, int, float)) else str(dict(way)) for way in ways)
            raise BinderDataError(f"config of {self.config.label}: no positive number for {what} (tried {tried})")
        return found

    def find_number(self, ways: tuple[Way, ...]) -> float | None:
        """Return the first number above 0 that one of ``ways`` yields; ``None`` where none does."""
        values = (evaluate(way, self.value) for way in ways)
        return next((value for value in values if value is not None and value > 0), None)

    def satisfies_all(self, conditions: Iterable[Condition]) -> bool:
        """Tell whether the config satisfies every condition; equality is that of JSON, absent is ``null``."""
        return all(is_one_of(self.value(item.field), item.values) for item in conditions)

    def unknown_values(self, known: Mapping[str, tuple[Any, ...]]) -> list[str]:
        """Return a sentence for each field whose value is none of the ``known`` ones."""
        return [
            f"{path} is {self.value(path)!r} (known: {', '.join(map(repr, values))})"
            for path, values in known.items()
            if not is_one_of(self.value(path), values)
        ]

    def holds(self, item: Module | OuterModule) -> bool:
        """Tell whether a model with this config holds a module, of whatever edition and in whichever block."""
        return self.satisfies_all(item.when) and not (item.unless and self.satisfies_all(item.unless))

    def blocks(self, module: Module, num_layers: int) -> Iterator[int]:
        """Yield the blocks of a model with this config in which a module stands that it holds.

        Raises:
            BinderDataError: The config cannot answer one of the module's conditions.
        """
        holds, lacks = self.layer_test(module.layers), self.layer_test(module.unless_layers)
        for layer in range(num_layers):
            if holds(layer) and not (module.unless_layers and lacks(layer)):
                yield layer

    def layer_test(self, conditions: tuple[LayerCondition, ...]) -> Callable[[int], bool]:
        """Return what tells of a block's index whether it satisfies every condition."""
        tests = [self._layer_test(condition) for condition in conditions]
        return lambda layer: all(test(layer) for test in tests)

    def _layer_test(self, condition: LayerCondition) -> Callable[[int], bool]:
        if "in" in condition:
            inside = self._indices(condition["in"])
            return lambda layer: layer in inside
        if "not_in" in condition:
            outside = self._indices(condition["not_in"])
            return lambda layer: layer not in outside
        if "item_of" in condition:
            items, values = self.value(condition["item_of"]), condition["values"]
            return lambda layer: is_one_of(item_at(items, layer), values)
        if "every" in condition:
            step = self._whole(condition["every"], "every")
            return lambda layer: (layer + condition.get("shift", 0)) % step == 0
        start = self._bound(condition.get("from"), default=0)
        stop = self._bound(condition.get("before"), default=None)
        return lambda layer: layer >= (start or 0) and (stop is None or layer < stop)

    def _indices(self, path: str) -> frozenset[int]:
        value = self.value(path)
        if value is None:
            return frozenset()
        indices: list[Any] = [json_number(item) for item in value] if isinstance(value, (list, tuple)) else [None]
        whole = [index for index in indices if isinstance(index, int)]
        if len(whole) < len(indices):
            raise BinderDataError(f"config of {self.config.label}: {path} is no list of block indices")
        return frozenset(whole)

    def _whole(self, way: Way, what: str) -> int:
        value = self.number((way,), what=what)
        if value % 1:
            raise BinderDataError(f"config of {self.config.label}: {what} is {value}, expected a whole number")
        return int(value)

    def _bound(self, way: Way | None, *, default: int | None) -> float | None:
        """Return a bound of block indices, which may be 0 or absent."""
        value = None if way is None else evaluate(way, self.value)
        return default if value is None else value


def _look_up(document: Any, path: str) -> Any:
    value = document
    for part in path.split("."):
        value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value
