"""Texts of a manifest as Markdown: whatever they hold, they are shown as they are and command nothing.

Every sign that Markdown, HTML, mathematics or a mention could see is written as an HTML entity. Entities are read as
text after the structure of a page is known, in every renderer, so no text can close a cell, a block or a marker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["code", "fenced", "literal", "number", "quoted", "shown", "table"]

_PLAIN_CODE = re.compile(r"[\w.:/@+=,()#\[\]{}\"'-]+(?: [\w.:/@+=,()#\[\]{}\"'-]+)*", re.ASCII)
_SIGN = re.compile(r"[!-/:-@\[-`{-~]")
_HARMLESS = frozenset(",;?%'\"/(")
"""Signs that mean nothing in Markdown where what they would need beside them is an entity."""

_AFTER_A_WORD = frozenset(".-+=)")
"""Signs that mean something at the beginning of a line only."""

_SPACES = re.compile(r"\s+")
_LINE_ENDS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufe00-\ufe0e\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
)
"""Characters that command a screen, hide, or turn the direction of what follows; UTF-8 has no form for some."""

_MAX_LIST_DIGITS = 9
_MAX_DIGITS = 40


def shown(text: str) -> str:
    r"""Return a text on one line as a reader shall see it: unseen characters by their number, spaces single.

    >>> shown("a\n  b\u202e")
    'a b\\u202e'
    """
    return _UNSEEN.sub(_number_of, _SPACES.sub(" ", text)).strip()


def _number_of(match: re.Match[str]) -> str:
    point = ord(match[0])
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def literal(text: str) -> str:
    r"""Write a text on one line so that Markdown shows it as it is; see ``shown`` for what is shown.

    >>> literal("mlp_gate, 1.5 (a-b)")
    'mlp_gate, 1.5 (a-b)'
    >>> literal("<b>|[x](http://y)")
    '&#60;b&#62;&#124;&#91;x&#93;(http&#58;//y)'
    """
    return _SIGN.sub(_entity, shown(text))


def _entity(match: re.Match[str]) -> str:
    return match[0] if _is_harmless(match[0], match.string, match.start()) else f"&#{ord(match[0])};"


def _is_harmless(sign: str, text: str, at: int) -> bool:
    """Tell whether a sign can stand as it is; most of what people write stays readable in the source."""
    if sign in _HARMLESS:
        return True
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if not before.isalnum():
        return False
    if sign in _AFTER_A_WORD:
        is_list_item = at <= _MAX_LIST_DIGITS and text[:at].isdigit() and not after.isalnum()
        return not is_list_item and text[max(at - 3, 0) : at].lower() != "www"
    if sign == ":":
        return after in ("", " ") or (before.isdigit() and after.isdigit())
    return sign == "_" and after.isalnum()


def code(text: str) -> str:
    """Write a text on one line in the font of code.

    >>> code("a b"), code("a|b")
    ('`a b`', '<code>a&#124;b</code>')
    """
    return f"`{text}`" if _PLAIN_CODE.fullmatch(text) else f"<code>{literal(text)}</code>"


def quoted(text: str) -> str:
    r"""Write a longer text as a block quotation; its lines stay lines.

    >>> quoted("One.\nTwo.\n\n# Three")
    '> One.<br>\n> Two.\n>\n> &#35; Three'
    """
    blocks: list[list[str]] = [[]]
    for line in map(literal, _LINE_ENDS.split(text)):
        if line:
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return "\n>\n".join("<br>\n".join(f"> {line}" for line in block) for block in blocks if block)


def fenced(text: str, language: str) -> str:
    """Write lines of code as a block; its fence is longer than any in them."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out cells, which are Markdown already, as a table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: Any) -> str:
    """Write a number of a manifest; JSON sets no limit to its length.

    >>> number(35840), number(0.61913100001), number(8.0), number(True), number(10**50)
    ('35,840', '0.619131', '8', 'yes', '1e+50')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) < 10**_MAX_DIGITS:
        return f"{value:,}"
    try:
        return f"{float(value):g}"
    except (OverflowError, TypeError, ValueError):
        return "a number too large to write"
