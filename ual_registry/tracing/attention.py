"""Find the attentions of a recording, and the linear modules that feed and read them.

Attention is a product of two moving tensors (the scores), a softmax over it, and a product of that with a third
tensor. The operand that the softmax runs along is the key, the other one the query, the third tensor the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ual_registry.tracing.blocks import are_of_one_block
from ual_registry.tracing.flow import BRANCH, behind, origins
from ual_registry.tracing.record import Operation, Recording

__all__ = ["Attention", "find_attentions"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Attention:
    """One attention of one block.

    Attributes:
        query: Shape (..., positions, head_dim), or as an ``einsum`` has it.
        key: What the softmax runs along.
        value: What is averaged.
        head_dim: Features of one head of query and key.
        value_head_dim: Features of one head of the value.
        result: The operation that averages.
        outputs: The linear modules that read the result.
        positions: Further scores that are added: pairs of (query side, key side).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    head_dim: int
    value_head_dim: int
    result: Operation
    outputs: tuple[Operation, ...]
    positions: tuple[tuple[Tensor, Tensor], ...] = ()


def find_attentions(recording: Recording) -> tuple[Attention, ...]:
    """Return every attention, in the order of the run."""
    found = []
    for operation in recording.operations:
        if operation.kind == "attention":
            found.append(_attention(recording, operation.inputs, operation))
        elif operation.kind == "matmul":
            found.extend(_averages(recording, operation))
    return tuple(found)


def _averages(recording: Recording, operation: Operation) -> Iterator[Attention]:
    """Yield the attention that ``operation`` ends, if it averages with what a softmax made."""
    for probabilities, value in (operation.inputs, operation.inputs[::-1]):
        softmaxes = [item for item in behind(recording, probabilities) if item.kind == "softmax"]
        scores = [score for item in softmaxes for score in _scores(recording, item)]
        if scores:
            content = [pair for pair in scores if all(_reads_tokens(recording, side) for side in pair)] or scores
            query, key = content[0]
            positions = tuple(pair for pair in scores if pair is not content[0])
            yield _attention(recording, (query, key, value), operation, positions)
            return


def _scores(recording: Recording, softmax: Operation) -> list[tuple[Tensor, Tensor]]:
    found = sorted(behind(recording, softmax.inputs[0]), key=lambda item: item.number)
    return [_sides(item) for item in found if item.kind == "matmul"]


def _sides(product: Operation) -> tuple[Tensor, Tensor]:
    """Return query and key of a product of scores (..., queries, keys)."""
    left, right = product.inputs
    if product.equation is not None:
        first, second = product.equation.replace(" ", "").split("->")[0].split(",")
        along = product.equation[-1]
        return (left, right) if along in second and along not in first else (right, left)
    return left, right


def _reads_tokens(recording: Recording, tensor: Tensor) -> bool:
    """Tell whether any linear module behind ``tensor`` reads something that moves, not only parameters."""
    return any(
        item.kind != "linear" or any(part.requires_grad for part in item.inputs) for item in origins(recording, tensor)
    )


def _attention(
    recording: Recording,
    operands: tuple[Tensor, ...],
    result: Operation,
    positions: tuple[tuple[Tensor, Tensor], ...] = (),
) -> Attention:
    query, key, value = operands
    # In (..., positions, head_dim) the features stand last; products with the key turned round share the same width.
    return Attention(
        query=query,
        key=key,
        value=value,
        head_dim=query.shape[-1],
        value_head_dim=value.shape[-1],
        result=result,
        outputs=tuple(_outputs(recording, result)),
        positions=positions,
    )


def _outputs(recording: Recording, result: Operation) -> Iterator[Operation]:
    """Yield the linear modules of the same block that read the result of attention."""
    for item in recording.operations[result.number + 1 :]:
        is_near = item.kind == "linear" and are_of_one_block(item, result)
        if is_near and any(result in origins(recording, tensor, through=BRANCH) for tensor in item.inputs):
            yield item
