"""Keeping what a run printed: one block of a page for each engine and size, replaced by the next run of the same."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["kept"]


class _Both(io.StringIO):
    """Shows what it is given at once, and keeps it."""

    def write(self, text: str) -> int:
        sys.__stdout__.write(text)  # type: ignore[union-attr]  # there is one
        sys.__stdout__.flush()  # type: ignore[union-attr]
        return super().write(text)


@contextlib.contextmanager
def kept(page: Path | None, title: str) -> Iterator[None]:
    """Put what is printed in the block into a page, too.

    Args:
        page: A page with a line ``<!-- TITLE -->`` and an end ``<!-- end -->``; ``None`` prints alone.
        title: Of the block.
    """
    with contextlib.redirect_stdout(_Both()) as said:
        yield
    if page is not None:
        page.write_text(_with_block(page.read_text(encoding="utf-8"), title, said.getvalue()), encoding="utf-8")


def _with_block(page: str, title: str, said: str) -> str:
    r"""Replace a block; lines that belong to no table become a list.

    >>> print(_with_block("<!-- a -->\nold\n<!-- end -->\n", "a", "| x |\ny\n"))
    <!-- a -->
    <BLANKLINE>
    | x |
    <BLANKLINE>
    - y
    <BLANKLINE>
    <!-- end -->
    <BLANKLINE>
    """
    lines: list[str] = []
    for line in (re.sub(" +", " ", line.strip()) for line in said.splitlines() if line.strip()):
        is_row = line.startswith("|")
        if not lines or is_row is not lines[-1].startswith("|"):
            lines.append("")
        lines.append(line if is_row else f"- {line}")
    block = "\n".join([f"<!-- {title} -->", *lines, "", "<!-- end -->"])
    found, count = re.subn(rf"<!-- {re.escape(title)} -->.*?<!-- end -->", lambda _: block, page, flags=re.DOTALL)
    if not count:
        raise ValueError(f"the page has no block {title!r}")
    return found
