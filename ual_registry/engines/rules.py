"""What engines read of a PEFT adapter, as data: ``rules.json``, each rule with the file that it was read from."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ENGINES", "EngineRules", "FieldRule", "Source", "TogetherRule", "load_rules"]

ENGINES = ("vllm", "sglang", "gguf", "peft")
"""The engines whose rules are known; ``gguf`` stands for llama.cpp and its converter."""

_RULES = Path(__file__).with_name("rules.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that rules were read from.

    Attributes:
        repository: Owner and name on GitHub.
        release: The package and version, or the commit.
        file: Its path.
    """

    repository: str
    release: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRule:
    """What an engine does with one field of ``adapter_config.json``.

    Attributes:
        field: The field.
        when: ``set``, ``other_than``, ``text_other_than``, ``holds_other_than`` or ``differs_from`` some values.
        values: The values.
        verdict: ``rejected``, ``ignored`` or ``note``.
        says: What happens.
        file: Where that was read.
    """

    field: str
    when: str
    values: tuple[Any, ...] = ()
    verdict: str
    says: str
    file: str

    def applies(self, config: Mapping[str, Any]) -> bool:
        """Tell whether a configuration is one that the rule speaks of."""
        value = config.get(self.field)
        return {
            "set": lambda: bool(value),
            "other_than": lambda: value not in self.values,
            "text_other_than": lambda: isinstance(value, str) and value.lower() not in self.values,
            "holds_other_than": lambda: bool(set(value or ()) - set(self.values)),
            "differs_from": lambda: any(item != config.get(self.values[0]) for item in (value or {}).values()),
        }[self.when]()


@dataclass(frozen=True, slots=True, kw_only=True)
class TogetherRule:
    """Modules that an engine reads only beside others.

    Attributes:
        module: The last part of a module's path.
        needs: What must carry factors beside it.
        verdict: ``rejected`` or ``ignored``.
        says: What happens otherwise.
        file: Where that was read.
    """

    module: str
    needs: tuple[str, ...]
    verdict: str
    says: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRules:
    """What one engine reads.

    Attributes:
        engine: One of ``ENGINES``.
        version: The version that was read.
        sources: The files.
        required: Fields that the configuration must have.
        fields: Rules on the others.
        tensor_endings: How the names of the tensors that it reads end; none where it reads all.
        other_tensors: What becomes of the others.
        unread_targets: What becomes of factors of modules that ``target_modules`` does not name.
        misfit: What a rank is that the configuration does not say: ``rejected``, or ``ignored`` where the engine
            scales by what it says.
        together: Rules on modules that belong together.
        ranks: The ranks that it can be started for, ascending; none where any will do.
        default_rank: The rank that it is started for where nothing is said.
        rows: By model type, whether the engine's base models have their rows ``kept`` or ``permuted``.
    """

    engine: str
    version: str
    sources: tuple[Source, ...]
    required: tuple[str, ...]
    fields: tuple[FieldRule, ...]
    tensor_endings: tuple[str, ...] = ()
    other_tensors: str = "ignored"
    unread_targets: str | None = None
    misfit: str = "ignored"
    together: tuple[TogetherRule, ...] = ()
    ranks: tuple[int, ...] = ()
    default_rank: int | None = None
    rows: Mapping[str, str]


@functools.cache
def load_rules(engine: str) -> EngineRules:
    """Return the rules of an engine, one of ``ENGINES``."""
    document = json.loads(_RULES.read_text(encoding="utf-8"))["engines"][engine]
    return EngineRules(
        engine=engine,
        version=document["version"],
        sources=tuple(Source(**row) for row in document["read_from"]),
        required=tuple(document["required"]),
        fields=tuple(FieldRule(**_with_tuples(row, "values")) for row in document["fields"]),
        tensor_endings=tuple(document["tensor_endings"]),
        other_tensors=document.get("other_tensors", "ignored"),
        unread_targets=document.get("unread_targets"),
        misfit=document["misfit"],
        together=tuple(TogetherRule(**_with_tuples(row, "needs")) for row in document.get("together", ())),
        ranks=tuple(document.get("ranks", ())),
        default_rank=document.get("default_rank"),
        rows=document.get("rows", {}),
    )


def _with_tuples(row: Mapping[str, Any], field: str) -> dict[str, Any]:
    values: Sequence[Any] = row.get(field, ())
    return {**row, field: tuple(values)}
