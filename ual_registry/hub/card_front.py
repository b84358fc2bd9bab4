"""The metadata block of a card that exists: keys of ours are set, everything else stays byte for byte.

A card's YAML holds comments, an order and ways of writing that reading and writing it again would lose, and values
that YAML 1.1 reads as something else (``no``, ``1.10``). So only the lines of the keys that change are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml

from ual_registry.errors import HubError

__all__ = ["Front", "card_error", "split_front"]

# The block as the Hub itself finds it, and an empty one, which the Hub does not see.
_BLOCK = re.compile(r"(\ufeff?\s*---(?:\r\n|\r|\n))((?:[\S\s]*?(?:\r\n|\r|\n))??)(---[ \t]*(?:\r\n|\n|\Z))")
_OPENING = re.compile(r"\ufeff?\s*---[ \t]*(?:[\r\n]|\Z)")
_LINE_END = re.compile(r"\r\n|\r|\n")
_NO_VALUE = re.compile(r"\s*(?:#.*)?")
_NULL = "tag:yaml.org,2002:null"
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


def card_error(message: str, hint: str) -> HubError:
    """Return the error of a card that cannot be updated without losing something."""
    return HubError(f"README.md: {message}", code="hub-card", hint=f"{hint}; nothing was changed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The metadata block of a card.

    Attributes:
        opening: What stands before its lines.
        lines: Its lines, each with its end.
        closing: What ends it.
        line_end: How lines of the card end.
    """

    opening: str
    lines: str
    closing: str
    line_end: str

    def __str__(self) -> str:
        return f"{self.opening}{self.lines}{self.closing}"

    def tags(self) -> tuple[str, ...]:
        """Return the tags as they are written.

        Raises:
            HubError: The block does not parse, or its tags are no list of texts.
        """
        node = {name: value for _, name, value in _keys(self.lines)}.get("tags")
        if node is None or node.tag == _NULL:
            return ()
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(item, yaml.ScalarNode) for item in nodes):
            raise card_error(
                "metadata: tags: expected a list of texts", "write each tag on a line of its own, after '- '"
            )
        return tuple(item.value for item in nodes)

    def with_values(self, values: Mapping[str, Any]) -> Front:
        """Return the block with these keys set; keys whose value is equal already keep their lines.

        Raises:
            HubError: The block does not parse, or is written so that its keys cannot be set one by one.
        """
        keys = _keys(self.lines)
        indent = " " * _column(self.lines, keys[0][0]) if keys else ""
        lines, done = self.lines, set()
        spans = pairwise([*(start for start, _, _ in keys), len(lines)])
        for (start, end), (_, name, node) in reversed([*zip(spans, keys, strict=True)]):
            if name in values:
                done.add(name)
                if _plain(node) != values[name]:
                    lines = (
                        lines[:start] + self._chunk(name, values[name], indent) + _rest(lines[start:end]) + lines[end:]
                    )
        lines = _ended(lines, self.line_end)
        lines += "".join(self._chunk(name, value, indent) for name, value in values.items() if name not in done)
        _check_kept(keys, _keys(lines), values)
        return Front(opening=self.opening, lines=lines, closing=self.closing, line_end=self.line_end)

    def _chunk(self, name: str, value: Any, indent: str) -> str:
        text = _dumped(name, value).removesuffix("\n")
        return "".join(f"{indent}{line}{self.line_end}" for line in text.split("\n"))


def _dumped(name: str, value: Any) -> str:
    """Write one key; with escapes where signs as they are would not be read back as they were."""
    texts: list[str] = [
        yaml.safe_dump({name: value}, allow_unicode=is_plain, sort_keys=False, width=10**6)
        for is_plain in (True, False)
    ]
    return texts[0] if yaml.safe_load(texts[0]) == {name: value} else texts[1]


def split_front(text: str) -> tuple[Front, str]:
    """Split a card into its metadata block, an empty one where it has none, and its body.

    Raises:
        HubError: A block begins and does not end.
    """
    found = _LINE_END.search(text)
    line_end = found[0] if found else "\n"
    block = _BLOCK.match(text)
    if block:
        return Front(opening=block[1], lines=block[2], closing=block[3], line_end=line_end), text[block.end() :]
    if _OPENING.match(text):
        raise card_error("metadata: begins with '---' and has no end", "add a line '---' after the metadata")
    body = text.removeprefix("\ufeff")
    opening = text[: len(text) - len(body)] + f"---{line_end}"
    gap = line_end if body.strip() else ""
    return Front(opening=opening, lines="", closing=f"---{line_end}{gap}", line_end=line_end), body


def _keys(lines: str) -> list[tuple[int, str, yaml.Node]]:
    """Return where the line of every key begins, its name, and its value.

    Raises:
        HubError: The lines do not parse, or are no block of keys.
    """
    mapping = _mapping(lines)
    if mapping is None:
        return []
    found = [(key.start_mark.index - key.start_mark.column, key, value) for key, value in mapping.value]
    names = [key.value if isinstance(key, yaml.ScalarNode) else "" for _, key, _ in found]
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise card_error(f"metadata: {twice[0]!r} is there twice", "keep one of them")
    # Only in such a block do lines belong to keys.
    is_block = not mapping.flow_style and len({start for start, _, _ in found}) == len(found)
    if not is_block or any(_is_odd(lines, start, key) for start, key, _ in found):
        raise card_error("metadata: is no block of 'key: value' lines", "write each key on a line of its own")
    return [(start, name, value) for (start, _, value), name in zip(found, names, strict=True)]


def _is_odd(lines: str, start: int, key: yaml.Node) -> bool:
    """Tell whether a key is one that no card needs: a list, a merge, or with signs of YAML before it on its line."""
    is_name = isinstance(key, yaml.ScalarNode) and key.tag != _MERGE
    return not is_name or lines[start : key.start_mark.index].strip() != ""


def _mapping(lines: str) -> yaml.MappingNode | None:
    try:
        node = yaml.compose(lines, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 2}: " if mark else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it does not parse"
        raise card_error(f"metadata: {where}{reason}", "mend the YAML between the lines '---'") from error
    except RecursionError as error:
        raise card_error("metadata: is nested too deeply", "mend the YAML between the lines '---'") from error
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _NULL and _NO_VALUE.fullmatch(node.value)):
        return None
    if not isinstance(node, yaml.MappingNode):
        raise card_error("metadata: expected 'key: value' lines", "mend the YAML between the lines '---'")
    return node


def _column(lines: str, start: int) -> int:
    return len(lines[start:]) - len(lines[start:].lstrip(" "))


def _rest(lines: str) -> str:
    """Return the blank lines and comments that end the lines of a key; they belong to what follows."""
    kept: list[str] = []
    for line in reversed(lines.splitlines(keepends=True)[1:]):
        if line.strip() and not line.lstrip().startswith("#"):
            break
        kept.append(line)
    return "".join(reversed(kept))


def _ended(lines: str, line_end: str) -> str:
    return lines if not lines or lines.endswith(("\n", "\r")) else lines + line_end


def _plain(node: yaml.Node) -> Any:
    """Return a text or a list of texts; what is neither equals nothing of ours."""
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.tag == _TEXT else None
    return [_plain(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else None


def _check_kept(
    before: Sequence[tuple[int, str, yaml.Node]], after: Sequence[tuple[int, str, yaml.Node]], values: Mapping[str, Any]
) -> None:
    """Refuse a change that does more than it shall, such as where one key refers to what stood in another."""
    expected = {name: yaml.serialize(node) for _, name, node in before if name not in values}
    found = {name: yaml.serialize(node) for _, name, node in after if name not in values}
    ours = {name: _plain(node) for _, name, node in after if name in values}
    if found != expected or ours != dict(values):
        raise card_error("metadata: is written so that its keys cannot be set one by one", "write it in plain YAML")
