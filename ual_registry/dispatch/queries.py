"""Files of queries and of a router's settings: read strictly, with the line of what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ual_registry.errors import RouteError
from ual_registry.storage import read_file

__all__ = ["DomainSetting", "Query", "RouterSettings", "read_queries", "read_settings"]

_MAX_BYTES = 1 << 30
_MAX_SETTINGS_BYTES = 16 << 20
_KEYS = ("name", "encoder", "target", "thresholds", "domains")
_DOMAIN_KEYS = ("adapter", "min_probability", "examples")
_TARGETS = ("kept", "precision")


@dataclass(frozen=True, slots=True)
class Query:
    """A query with what is known of it.

    Attributes:
        text: The query.
        domain: Its domain; ``None`` for one that no domain should answer.
        line: Where it stands in its file, from 1.
    """

    text: str
    domain: str | None
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSetting:
    """What is said of a domain beside its examples.

    Attributes:
        adapter: Reference of the adapter that answers its queries.
        min_probability: Its own threshold.
        examples: Examples that stand in the settings themselves.
    """

    adapter: str | None = None
    min_probability: float | None = None
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """How a router is to be trained.

    Attributes:
        name: Its name.
        encoder: Folder of the sentence encoder, or its id on the Hub.
        kept: Share of in-scope queries to route.
        precision: Share of routed queries to be right, in place of ``kept``.
        has_own_thresholds: Whether every domain with enough examples gets a probability of its own.
        domains: The domains by name.
    """

    name: str | None = None
    encoder: str | None = None
    kept: float | None = None
    precision: float | None = None
    has_own_thresholds: bool = False
    domains: Mapping[str, DomainSetting] = field(default_factory=dict)


def read_queries(path: Path) -> list[Query]:
    """Read queries: JSONL with ``text`` and ``domain``; no ``domain``, or null, is a query that none should answer.

    Raises:
        RouteError: The file is empty or a line is not such an object; the message names the line.
        StorageError: The file cannot be read.
    """
    try:
        lines = read_file(path, limit_bytes=_MAX_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise _refusal(path, f"byte {error.start}: is not UTF-8") from error
    found = list(_queries(path, lines))
    if not found:
        raise _refusal(path, "holds no query")
    return found


def _queries(path: Path, lines: list[str]) -> Iterator[Query]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _refusal(path, f"line {number}: is not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
            hint = "a log is read by 'ual router replay' and 'ual router drift'" if _is_logged(row) else None
            raise _refusal(path, f'line {number}: expected an object with "text", got {line[:80]}', hint=hint)
        domain = row.get("domain")
        if domain is not None and (not isinstance(domain, str) or not domain):
            raise _refusal(path, f'line {number}: "domain": expected a name or null, got {json.dumps(domain)[:80]}')
        yield Query(row["text"], domain, number)


def _is_logged(row: Any) -> bool:
    return isinstance(row, dict) and {"query", "reason"} <= row.keys()


def read_settings(path: Path) -> RouterSettings:
    """Read the settings of a router from YAML.

    Raises:
        RouteError: The file is not such a document; the message names the place.
        StorageError: The file cannot be read.
    """
    try:
        document = yaml.safe_load(read_file(path, limit_bytes=_MAX_SETTINGS_BYTES))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(path, f"is not YAML ({' '.join(str(error).split())})") from error
    row = _mapping(path, "settings", document, _KEYS)
    target = _mapping(path, "target", row.get("target") or {}, _TARGETS)
    domains = row.get("domains")
    if not isinstance(domains, dict) or not domains:
        raise _refusal(path, "domains: expected names with their settings")
    return RouterSettings(
        name=_text(path, "name", row.get("name")),
        encoder=_text(path, "encoder", row.get("encoder")),
        kept=_share(path, "target.kept", target.get("kept")),
        precision=_share(path, "target.precision", target.get("precision")),
        has_own_thresholds=_choice(path, row.get("thresholds")) == "own",
        domains={str(name): _domain(path, str(name), own) for name, own in domains.items()},
    )


def _domain(path: Path, name: str, document: Any) -> DomainSetting:
    place = f"domains.{name}"
    row = _mapping(path, place, document or {}, _DOMAIN_KEYS)
    examples = row.get("examples") or []
    if not isinstance(examples, list) or not all(isinstance(text, str) and text.strip() for text in examples):
        raise _refusal(
            path, f"{place}.examples: expected a list of queries", hint="examples in a file are given with --data"
        )
    return DomainSetting(
        adapter=_text(path, f"{place}.adapter", row.get("adapter")),
        min_probability=_share(path, f"{place}.min_probability", row.get("min_probability")),
        examples=tuple(examples),
    )


def _mapping(path: Path, place: str, document: Any, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise _refusal(path, f"{place}: expected a mapping with {', '.join(known)}")
    unknown = sorted(str(key) for key in document if key not in known)
    if unknown:
        raise _refusal(path, f"{place}: unknown {unknown[0]!r}, expected {', '.join(known)}")
    return document


def _text(path: Path, place: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise _refusal(path, f"{place}: expected text, got {value!r}")
    return value


def _choice(path: Path, value: Any) -> str:
    if value not in (None, "shared", "own"):
        raise _refusal(path, f"thresholds: expected shared or own, got {value!r}")
    return str(value)


def _share(path: Path, place: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise _refusal(path, f"{place}: expected a number from 0 to 1, got {value!r}")
    return float(value)


def _refusal(path: Path, problem: str, *, hint: str | None = None) -> RouteError:
    return RouteError(f"{path}: {problem}", code="queries", context={"path": str(path)}, hint=hint)
