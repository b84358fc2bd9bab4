"""Tensor names of entries: the grammar, and its inverse (spec: tensors).

    name   = [ stack "." ] place "." factor
    stack  = "encoder" / "decoder"
    place  = "layers." layer "." role / role
    factor = "lora_A" / "lora_B" / "magnitude" / "bias"

Tensors without a role are named ``extra.`` and the name that they came under.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ual_registry.errors import RuleError

__all__ = ["EXTRA_PREFIX", "FACTORS", "TensorName", "extra_name"]

FACTORS = ("lora_A", "lora_B", "magnitude", "bias")
"""What a tensor of an entry can be."""

EXTRA_PREFIX = "extra."
"""Before the name of every tensor without a role."""

_FORM = re.compile(
    r"(?:(?P<stack>encoder|decoder)\.)?(?:layers\.(?P<layer>0|[1-9][0-9]{0,8})\.)?"
    r"(?P<role>[a-z][a-z0-9_]*)\.(?P<factor>lora_A|lora_B|magnitude|bias)\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorName:
    """The parts of an entry's tensor name; ``str()`` gives the stored form.

    >>> str(TensorName(layer=3, role="attention_query", factor="lora_A"))
    'layers.3.attention_query.lora_A'
    >>> TensorName.parse("decoder.layers.0.cross_attention_value.lora_B").stack
    'decoder'
    """

    stack: str | None = None
    layer: int | None = None
    role: str
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
        layer = match["layer"]
        return cls(
            stack=match["stack"],
            layer=None if layer is None else int(layer),
            role=match["role"],
            factor=match["factor"],
        )

    def __str__(self) -> str:
        stack = f"{self.stack}." if self.stack else ""
        layer = "" if self.layer is None else f"layers.{self.layer}."
        return f"{stack}{layer}{self.role}.{self.factor}"


def extra_name(name: str) -> str:
    """Return the tensor name under which a tensor without a role is kept."""
    return EXTRA_PREFIX + name
