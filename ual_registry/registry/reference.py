"""How an adapter is named: ``name`` (newest revision), ``name@3``, ``name@alias``, ``sha256:...``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ual_registry.digest import Digest
from ual_registry.errors import FormatError, RegistryError

__all__ = [
    "TEXT_LIMITS",
    "Reference",
    "check_alias",
    "check_list",
    "check_name",
    "check_tag",
    "check_text",
    "is_path",
    "is_tag_key",
    "quoted",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_TAG_KEY = re.compile(r"[^\s=\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}\Z")
_TAG_VALUE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,256}\Z")
_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z")
_TEXT_OF_LINES = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]*\Z")
_OF_LINES = frozenset({"description", "reason"})
"""What may have several lines."""

_SHORT_DIGEST = re.compile(r"sha256:([0-9a-f]{1,63})\Z")
_MOST_DIGITS = 18
_SHOWN = 60

TEXT_LIMITS = {
    "owner": 256,
    "reason": 1024,
    "description": 4096,
    "repository": 256,
    "commit": 64,
    "path": 256,
    "predicate type": 4096,
    "signer": 4096,
}
"""Characters of texts that come from outside."""


def quoted(text: str) -> str:
    """Return a text in quotes for a message, a long one cut.

    >>> quoted("a b"), quoted("x" * 100)[-21:]
    ("'a b'", "x'... (100 characters)")
    """
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}... ({len(text)} characters)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A parsed reference; exactly one of ``digest`` and ``name`` is set, and at most one of the others.

    >>> Reference.parse("triage@production").alias
    'production'
    >>> Reference.parse("triage@3").number
    3
    """

    digest: Digest | None = None
    name: str | None = None
    number: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        Raises:
            RegistryError: It is not well formed.
            FormatError: It starts like a digest and is none.
        """
        if text.startswith("sha256:"):
            return cls(digest=_digest(text))
        name, at, rest = text.partition("@")
        _check_own_name(name, text)
        if not at:
            return cls(name=name)
        if rest.isascii() and rest.isdecimal():
            return cls(name=name, number=_number(rest))
        return cls(name=name, alias=check_alias(rest))


def _check_own_name(name: str, reference: str) -> None:
    try:
        check_name(name)
    except RegistryError as error:
        if is_path(reference):
            error.hint = "a file is named by its digest here, which 'ual show FILE' tells"
        raise


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except FormatError as error:
        if found := _SHORT_DIGEST.match(text):  # as the tables of 'ual list' and 'ual search' show it
            error.hint = f"'ual search digest:{found[1]} --json' finds the whole one"
        raise


def _number(text: str) -> int:
    digits = text.lstrip("0")
    if len(digits) > _MOST_DIGITS:
        raise RegistryError(f"revision {quoted(text)}: expected a number of at most {_MOST_DIGITS} digits", code="name")
    return int(digits or "0")


def check_list(what: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return texts as a tuple; one text alone, whose characters would be taken for them, is refused.

    Raises:
        RegistryError: It is one text.
    """
    if isinstance(values, str):
        raise RegistryError(f"{what} {quoted(values)}: expected a list of texts, got one text", code="text")
    return tuple(values)


def check_name(name: str) -> str:
    """Return ``name`` if an adapter may be called so.

    Raises:
        RegistryError: It may not.
    """
    if not _NAME.match(name):
        raise RegistryError(
            f"adapter name {quoted(name)}: expected 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', "
            "the first a letter or digit",
            code="name",
            context={"name": name[:_SHOWN]},
        )
    return name


def check_alias(alias: str) -> str:
    """Return ``alias`` if an alias may be called so.

    Raises:
        RegistryError: It may not; digits alone would be a revision number.
    """
    if not _NAME.match(alias) or alias.isdecimal():
        raise RegistryError(
            f"alias {quoted(alias)}: expected A-Z, a-z, 0-9, '.', '_' and '-', not digits alone",
            code="name",
            context={"alias": alias[:_SHOWN]},
        )
    return alias


def is_tag_key(key: str) -> bool:
    """Tell whether a tag may have this key: 1 to 128 characters of any script, without spaces and '='."""
    return bool(_TAG_KEY.match(key))


def check_tag(key: str, value: str) -> tuple[str, str]:
    """Return key and value if a tag may hold them.

    Raises:
        RegistryError: It may not.
    """
    if not is_tag_key(key):
        raise RegistryError(
            f"tag {quoted(key)}: expected a key of 1 to 128 characters without spaces and '='",
            code="name",
            context={"key": key[:_SHOWN]},
        )
    if not _TAG_VALUE.match(value):
        raise RegistryError(
            f"tag {quoted(key)}: value {quoted(value)}, expected up to 256 characters, "
            "none of them a control character",
            code="name",
            context={"key": key},
        )
    return key, value


def check_text(what: str, text: str | None) -> str | None:
    """Return a text from outside, if it may be kept; ``what`` is a key of ``TEXT_LIMITS``.

    Raises:
        RegistryError: It is too long, or holds a control character.
    """
    limit, has_lines = TEXT_LIMITS[what], what in _OF_LINES
    if text is not None and not (len(text) <= limit and (_TEXT_OF_LINES if has_lines else _TEXT).match(text)):
        besides = " but line breaks and tabs" if has_lines else ""
        raise RegistryError(
            f"{what} {quoted(text)}: expected up to {limit:,} characters, none of them a control character{besides}",
            code="text",
            context={"what": what},
        )
    return text


def is_path(reference: str) -> bool:
    """Tell whether a reference means a file, as everywhere: it ends in ``.air`` or holds a separator."""
    return reference.endswith(".air") or "/" in reference or "\\" in reference
