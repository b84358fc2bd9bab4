"""A binder for people: what it is for, one block of each stack as a drawing, its modules and its dimensions."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ual_registry.binders.model import Module, Norms, StackLayout
from ual_registry.cli.binder_words import blocks_text, conditions_text, existence_text, ways_text
from ual_registry.cli.block import draw_block
from ual_registry.cli.output import table
from ual_registry.workflows.binders import BinderSummary, ShownBinder

__all__ = ["LINE_WIDTH", "binder_text", "list_text"]

LINE_WIDTH = 110
"""Columns of text before a list goes on in the next line."""

_SIGN = re.compile(" ([-/*+]) ")
_HARD_SPACE = "\N{NO-BREAK SPACE}"

_POSITIONS = {
    "pre": "before each branch",
    "post": "after each branch, before or after its sum with the stream",
    "both": "before and after each branch",
    "parallel": "before branches that read the same stream",
}


def binder_text(shown: ShownBinder, *, with_gguf: bool = False) -> str:
    """Return a binder for people.

    Args:
        shown: The binder, the model type to show it for, and a model where one is given.
        with_gguf: Whether to name the tensors in GGUF.
    """
    lines = [f"{shown.binder.architecture}  binder {shown.binder.binder_version}", *_facts(shown)]
    for stack in shown.binder.stacks:
        lines += ["", *_stack_lines(_ShownStack(shown, stack, shown.editions[0]), with_gguf=with_gguf)]
        for edition in shown.editions[1:]:
            lines += _older_lines(_ShownStack(shown, stack, edition), with_gguf=with_gguf)
    return "\n".join([*lines, "", "outside the blocks", *_outer_lines(shown)])


def list_text(found: Sequence[BinderSummary]) -> str:
    """Return each binder with its model types for people."""
    width = max(len(item.architecture) for item in found)
    lines = [f"{'architecture':{width}}  model types"]
    for item in found:
        lines += _wrapped(f"{item.architecture:{width}}  ", ", ".join(item.model_types))
    return "\n".join(lines)


def _facts(shown: ShownBinder) -> Iterator[str]:
    """Yield what holds for the whole model."""
    binder, kind = shown.binder, shown.kind
    yield from _wrapped("model types  ", ", ".join(binder.model_types))
    yield f"shown for    {shown.model_type}: {kind.default_class}" + (f", GGUF {kind.gguf}" if kind.gguf else "")
    if len(shown.editions) > 1:
        yield f"editions     {', '.join(map(str, shown.editions))}"
    yield f"rotary       {_rotary(shown)}"
    yield f"norms        {_norms(binder.norms_of(shown.model_type))}"
    for tie in binder.tied:
        own = [condition for condition in tie.when if condition.field != "model_type"]
        if all(shown.model_type in item.values for item in tie.when if item.field == "model_type"):
            yield f"tied         {' and '.join(tie.roles)}{conditions_text(' if ', own)}"


def _rotary(shown: ShownBinder) -> str:
    rotary = shown.binder.rotary_of(shown.model_type)
    fraction = ways_text(rotary.fraction, shown.model_type)
    if rotary.style == "none":
        return "none"
    part = "" if fraction == "1" else f", fraction {fraction}"
    return rotary.style + part + conditions_text(", if ", rotary.when)


def _norms(norms: Norms) -> str:
    own = "; query and key have their own" if norms.query_key else ""
    return f"{norms.kind}, {norms.position}: {_POSITIONS[norms.position]}{own}"


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table of modules: what is the same for every module at a path."""

    path: str
    holds: str
    layout: str
    gguf: str


class _ShownStack:
    """One stack of what is shown, and when each of its modules exists: in marks that notes explain, or in blocks."""

    def __init__(self, shown: ShownBinder, layout: StackLayout, edition: str | None) -> None:
        self.shown = shown
        self.layout = layout
        self.edition = edition
        self.stack = shown.base.stack(layout.name) if shown.base else None
        self.modules = tuple(filter(self._is_shown, layout.modules))
        self.drawn = tuple(filter(shown.holds, self.modules))
        texts = [] if self.stack else filter(None, map(existence_text, self.modules))
        self.notes = {text: f"({number})" for number, text in enumerate(dict.fromkeys(texts), start=1)}

    def _is_shown(self, module: Module) -> bool:
        """Tell whether a module can stand in what is shown; one of an older edition only where it is of that alone."""
        is_current = self.edition == self.shown.editions[0]
        if module.edition != self.edition and not (is_current and module.edition is None):
            return False
        if self.shown.base is None:
            return self.shown.is_of_type(module)
        return self.shown.holds(module) and self._blocks(module) != ()

    def _blocks(self, module: Module) -> tuple[int, ...] | None:
        return self.shown.blocks(module, self.stack.num_layers) if self.stack else None

    def when(self, *modules: Module) -> str:
        """Say when one of some modules at the same path exists; empty where one always does."""
        if self.stack:
            blocks = sorted({block for module in modules for block in self._blocks(module) or ()})
            text = blocks_text(blocks)
            return "" if len(blocks) == self.stack.num_layers else f"block{'s' if len(blocks) > 1 else ''} {text}"
        texts = [existence_text(module) for module in modules]
        return " or ".join(self.notes[text] for text in dict.fromkeys(texts)) if all(texts) else ""

    def rows(self) -> dict[_Row, list[Module]]:
        """Return the lines of the table, and the modules that each stands for."""
        found: dict[_Row, list[Module]] = {}
        for module in self.modules:
            holds = ", ".join(module.roles) + (", each expert" if module.has_experts else "")
            layout = [module.layout or "", "(in, out)" if module.weight == "conv1d" else ""]
            row = _Row(module.full_path, holds, " ".join(filter(None, layout)) or "-", module.gguf or "-")
            found.setdefault(row, []).append(module)
        return found


def _stack_lines(stack: _ShownStack, *, with_gguf: bool) -> Iterator[str]:
    norms = stack.shown.binder.norms_of(stack.shown.model_type)
    yield f"{_title(stack)}one block, {stack.shown.prefix_in(stack.edition)}{stack.layout.path}"
    yield ""
    yield from draw_block(stack.drawn, norms, stack.when)
    yield from _table_lines(stack, with_gguf=with_gguf)
    yield ""
    yield from _dimensions(stack)


def _older_lines(stack: _ShownStack, *, with_gguf: bool) -> Iterator[str]:
    """Yield the modules that an older edition has in the place of current ones."""
    if stack.modules:
        yield ""
        place = stack.shown.prefix_in(stack.edition) + stack.layout.path
        yield f"{_title(stack)}other modules in {stack.edition}, {place}"
        yield ""
        yield from _table_lines(stack, with_gguf=with_gguf)


def _title(stack: _ShownStack) -> str:
    return f"{stack.layout.name}: " if stack.layout.name else ""


def _table_lines(stack: _ShownStack, *, with_gguf: bool) -> Iterator[str]:
    headers = ["module", "holds", "layout", "when", *(["gguf"] if with_gguf else [])]
    rows = [
        [row.path, row.holds, row.layout, stack.when(*modules) or "always", *([row.gguf] if with_gguf else [])]
        for row, modules in stack.rows().items()
    ]
    yield table(rows, headers)
    for text, mark in stack.notes.items():
        yield from _wrapped(f"  {mark} ", text)


def _dimensions(stack: _ShownStack) -> Iterator[str]:
    """Yield every dimension: where it is written, and in a model that is given, what it is."""
    for name, ways in stack.layout.dimensions.items():
        text = ways_text(ways, stack.shown.model_type)
        number = getattr(stack.stack, name) if stack.stack else None
        if text and not (stack.stack and number is None):
            yield from _wrapped(f"{name:24}  ", text if number is None else f"{number:<8}  {text}")


def _outer_lines(shown: ShownBinder) -> Iterator[str]:
    current = shown.editions[0]
    for item in shown.binder.outer:
        is_shown = shown.is_of_type(item) and (shown.base is None or shown.holds(item))
        if is_shown and item.edition in {None, *shown.editions}:
            path = (shown.prefix_in(item.edition or current) if item.within == "backbone" else "") + item.path
            texts = ["" if shown.base else existence_text(item), _only_in(item.edition, shown)]
            yield " ".join(filter(None, (f"  {item.role:16} {path}", *texts)))


def _only_in(edition: str | None, shown: ShownBinder) -> str:
    return f"in {edition}" if edition is not None and len(shown.editions) > 1 else ""


def _wrapped(start: str, text: str) -> Sequence[str]:
    """Break a text between words, though in no formula; what follows the first line stands below it."""
    kept = _SIGN.sub(_HARD_SPACE + r"\1" + _HARD_SPACE, text)
    lines = textwrap.wrap(
        kept,
        LINE_WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_HARD_SPACE, " ") for line in lines]
