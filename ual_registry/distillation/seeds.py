"""Seed prompts: up to five inputs of the kind an adapter is made for, which an artifact can carry as an annotation.

They are written by whoever makes the artifact, never taken from its training data. They tell a distillation what to
ask the adapter about. Nothing here loads a framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import parse_json
from ual_registry.air.model import Manifest
from ual_registry.errors import FormatError
from ual_registry.storage import read_file

__all__ = ["MAX_SEEDS", "SEED_PROMPTS_KEY", "SeedPrompts", "checked_seeds", "read_seeds", "seeds_of", "with_seeds"]

SEED_PROMPTS_KEY = "io.ual-registry.seed-prompts"
"""The annotation of a manifest that holds seed prompts."""

MAX_SEEDS = 5
"""How many seeds an artifact carries at most; five are enough (Trans-LoRA, arXiv 2405.17258)."""

MAX_SEED_CHARACTERS = 4096
"""How long one seed, or the template, may be."""

MAX_ANSWER_TOKENS = 65536
"""How long an answer may be said to be."""

_MAX_FILE_BYTES = 1 << 20
_HINT = 'write ["first input", "second input"], or {"template": "Request: {input}", "inputs": [...]}'
_SLOT = "{input}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPrompts:
    """Inputs, and the prompt that is made of each.

    Attributes:
        inputs: One to five texts, each once.
        template: The prompt, with ``{input}`` where the input stands.
        answer_tokens: How many tokens an answer has at most, in the source's tokens; ``None`` where it ends by itself.
            An adapter that was taught labels, and never where to end, runs on behind them.

    >>> SeedPrompts(inputs=("is it late",), template="Request: {input} Topic:").prompts()
    ('Request: is it late Topic:',)
    """

    inputs: tuple[str, ...]
    template: str = _SLOT
    answer_tokens: int | None = None

    def prompt(self, text: str) -> str:
        """Return the prompt for one input."""
        return self.template.replace(_SLOT, text)

    def input_of(self, prompt: str) -> str:
        """Return the input that a prompt was made of."""
        before, _, after = self.template.partition(_SLOT)
        return prompt[len(before) : len(prompt) - len(after)]

    def prompts(self) -> tuple[str, ...]:
        """Return the prompt of every seed."""
        return tuple(self.prompt(text) for text in self.inputs)

    def document(self) -> dict[str, Any]:
        """Return the stored form."""
        more = {} if self.answer_tokens is None else {"answer_tokens": self.answer_tokens}
        return {"inputs": list(self.inputs), "template": self.template, **more}


def read_seeds(path: str | Path) -> SeedPrompts:
    """Read seed prompts from a JSON file: a list of inputs, or an object with ``inputs``, and perhaps ``template`` and
    ``answer_tokens``.

    Raises:
        StorageError: The file cannot be read.
        FormatError: It is no such document.
    """
    data = read_file(Path(path), limit_bytes=_MAX_FILE_BYTES)
    try:
        document = parse_json(data, what=str(path))
    except FormatError as error:
        error.hint = error.hint or _HINT
        raise
    return _parse({"inputs": document} if isinstance(document, list) else document, what=str(path))


def seeds_of(manifest: Manifest) -> SeedPrompts | None:
    """Return the seed prompts that an artifact carries; ``None`` where it carries none.

    Raises:
        FormatError: The annotation is there and holds something else.
    """
    if SEED_PROMPTS_KEY not in manifest.annotations:
        return None
    return _parse(manifest.annotations[SEED_PROMPTS_KEY], what=f"annotation {SEED_PROMPTS_KEY}")


def with_seeds(manifest: Manifest, seeds: SeedPrompts) -> Manifest:
    """Return a manifest that carries seed prompts, in place of those that it had.

    Raises:
        FormatError: There are none, too many, or one is too long.
    """
    document = checked_seeds(seeds).document()
    return replace(manifest, annotations={**manifest.annotations, SEED_PROMPTS_KEY: document})


def checked_seeds(seeds: SeedPrompts) -> SeedPrompts:
    """Return seed prompts that an artifact can carry, as they are.

    Raises:
        FormatError: There are none, too many, or one is too long.
    """
    return _parse(seeds.document(), what="seed prompts")


def _parse(document: Any, *, what: str) -> SeedPrompts:
    if not isinstance(document, Mapping):
        raise _fault_in(what, "expected a list of inputs, or an object with inputs and template")
    unknown = sorted(set(document) - {"inputs", "template", "answer_tokens"})
    if unknown:
        raise _fault_in(what, f"unknown property {unknown[0]!r}")
    inputs, template = document.get("inputs"), document.get("template", _SLOT)
    if not isinstance(inputs, list | tuple) or not all(isinstance(text, str) and text.strip() for text in inputs):
        raise _fault_in(what, "inputs: expected a list of texts that are not empty")
    if not 1 <= len(inputs) <= MAX_SEEDS or len(set(inputs)) < len(inputs):
        raise _fault_in(what, f"inputs: expected 1 to {MAX_SEEDS} texts, each once, got {len(inputs)}")
    if not isinstance(template, str) or template.count(_SLOT) != 1:
        raise _fault_in(what, f"template: expected a text that holds {_SLOT} once")
    answer_tokens = document.get("answer_tokens")
    if answer_tokens is not None and (type(answer_tokens) is not int or not 1 <= answer_tokens <= MAX_ANSWER_TOKENS):
        raise _fault_in(what, f"answer_tokens: expected a whole number from 1 to {MAX_ANSWER_TOKENS}")
    longest = max(len(text) for text in (*inputs, template))
    if longest > MAX_SEED_CHARACTERS:
        raise _fault_in(what, f"a text has {longest} characters, at most {MAX_SEED_CHARACTERS} are allowed")
    return SeedPrompts(inputs=tuple(inputs), template=template, answer_tokens=answer_tokens)


def _fault_in(what: str, problem: str) -> FormatError:
    return FormatError(
        f"{what}: {problem}",
        code="seed-prompts",
        context={"place": what},
        hint=_HINT,
    )
