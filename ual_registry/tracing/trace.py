"""Build a tiny model, run it once, and give roles to its modules."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ual_registry.errors import UninferableArchitectureError
from ual_registry.tracing.blocks import block_of
from ual_registry.tracing.build import Builder, quiet, said
from ual_registry.tracing.inputs import encoder_states, make_inputs
from ual_registry.tracing.record import Recording, record
from ual_registry.tracing.refusal import refusal
from ual_registry.tracing.roles import Roles, find_roles
from ual_registry.tracing.survey import Matrix, survey

__all__ = ["Trace", "trace"]

_ENCODED = ("encoder_hidden_states", "cross_attention_states")
"""How models name what another model has encoded for their cross-attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One run of a tiny model.

    Attributes:
        model: The model.
        config: Its config.
        inputs: What it read.
        recording: What it did.
        roles: What that means.
        matrices: The matrices of the model.
    """

    model: nn.Module
    config: Any
    inputs: Mapping[str, Any]
    recording: Recording
    roles: Roles
    matrices: Mapping[str, Matrix]


def trace(builder: Builder, document: Mapping[str, Any]) -> Trace:
    """Run a tiny model once.

    Args:
        builder: Builds it.
        document: Its config document; small already.

    Raises:
        UninferableArchitectureError: The model cannot be built or run.
    """
    name = builder.model_class.__name__
    try:
        model, config = builder.tiny(document)
        text = text_config(config)
        inputs = make_inputs(model, config, text)
        recording = _run(model, inputs)
        matrices = survey(model)
        known = [name for name in _ENCODED if name in inspect.signature(model.forward).parameters]
        if known and known[0] not in inputs and _has_idle_blocks(recording, matrices):
            inputs = {**inputs, known[0]: encoder_states(text)}
            recording = _run(model, inputs)
    except UninferableArchitectureError:
        raise
    except Exception as error:
        raise refusal(f"a tiny {name} cannot be built and run: {said(error)}", model_class=name) from error
    return Trace(
        model=model, config=config, inputs=inputs, recording=recording, roles=find_roles(recording), matrices=matrices
    )


def text_config(config: Any) -> Any:
    """Return the part of a config that describes the text model."""
    return config if config.is_encoder_decoder else config.get_text_config()


def _run(model: nn.Module, inputs: Mapping[str, Any]) -> Recording:
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return record(model, inputs)


def _has_idle_blocks(recording: Recording, matrices: Mapping[str, Matrix]) -> bool:
    """Tell whether blocks that ran hold linear modules that did not."""
    ran = {item.path for item in recording.operations}
    roots = {place.root for path in ran if (place := block_of(path)) is not None}
    return any(
        matrix.kind == "linear" and path not in ran and (place := block_of(path)) is not None and place.root in roots
        for path, matrix in matrices.items()
    )
