"""Tensor names of entries: the grammar, and its inverse (spec: tensors).

    name   = [ stack "." ] [ "layers." layer "." ] role "." [ "experts." expert "." ] factor
    stack  = "encoder" / "decoder"
    factor = "lora_A" / "lora_B" / "magnitude" / "bias"

Tensors without a role are named ``extra.`` and the name that they came under.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ual_registry.errors import RuleError

__all__ = ["EXTRA_PREFIX", "FACTORS", "TensorName", "entry_place", "extra_name", "is_in_grammar"]

FACTORS = ("lora_A", "lora_B", "magnitude", "bias")
"""What a tensor of an entry can be."""

EXTRA_PREFIX = "extra."
"""Before the name of every tensor without a role."""

_MAX_NUMBER = 999_999_999
_FORM = re.compile(
    r"(?:(?P<stack>encoder|decoder)\.)?(?:layers\.(?P<layer>0|[1-9][0-9]{0,8})\.)?"
    r"(?P<role>[a-z][a-z0-9_]*)\.(?:experts\.(?P<expert>0|[1-9][0-9]{0,8})\.)?"
    r"(?P<factor>lora_A|lora_B|magnitude|bias)\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorName:
    """The parts of an entry's tensor name; ``str()`` gives the stored form.

    >>> str(TensorName(layer=3, role="attention_query", factor="lora_A"))
    'layers.3.attention_query.lora_A'
    >>> str(TensorName(layer=3, role="mlp_up", expert=5, factor="lora_A"))
    'layers.3.mlp_up.experts.5.lora_A'
    >>> TensorName.parse("decoder.layers.0.cross_attention_value.lora_B").stack
    'decoder'
    """

    stack: str | None = None
    layer: int | None = None
    role: str
    expert: int | None = None
    factor: str

    @classmethod
    def parse(cls, text: str) -> TensorName:
        """Split a stored name.

        Raises:
            RuleError: The name does not follow the grammar.
        """
        match = _FORM.match(text)
        if match is None:
            raise RuleError(
                f"tensor name {text!r} does not follow the grammar", code="tensor-name", context={"tensor": text}
            )
        layer, expert = match["layer"], match["expert"]
        return cls(
            stack=match["stack"],
            layer=None if layer is None else int(layer),
            role=match["role"],
            expert=None if expert is None else int(expert),
            factor=match["factor"],
        )

    def __str__(self) -> str:
        return entry_place(self.stack, self.layer, self.role, self.expert) + self.factor


def entry_place(stack: str | None, layer: int | None, role: str, expert: int | None) -> str:
    """Return what the tensor names of an entry begin with; the factor follows."""
    before = f"{stack}." if stack else ""
    if layer is not None:
        before += f"layers.{layer}."
    return f"{before}{role}." if expert is None else f"{before}{role}.experts.{expert}."


def is_in_grammar(layer: int | None, expert: int | None) -> bool:
    """Tell whether the numbers of a name have at most the nine digits of the grammar."""
    return (layer or 0) <= _MAX_NUMBER and (expert or 0) <= _MAX_NUMBER


def extra_name(name: str) -> str:
    """Return the tensor name under which a tensor without a role is kept."""
    return EXTRA_PREFIX + name
