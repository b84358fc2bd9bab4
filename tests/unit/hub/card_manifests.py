"""Manifests that cards are made from, with every kind of evidence in them."""

from __future__ import annotations

from typing import Any

from tests.handmade import base_model, method, small_adapter
from ual_registry.air.model import Entry, Lineage, Manifest, Parent, Stack, Statement
from ual_registry.hub.card import make_card

DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
COMMIT = "a" * 40


def statement(type: str, **changes: Any) -> Statement:
    """Return a statement by a tool."""
    return Statement(**{"type": type, "builder": {"name": "tool", "version": "1.0"}, **changes})


def entries(roles: dict[str, tuple[int, ...]], **changes: Any) -> tuple[Entry, ...]:
    """Return an entry for each role and layer."""
    fields: dict[str, Any] = {"in_features": 4, "out_features": 6, "rank": 8, "scaling": 2.0, **changes}
    return tuple(
        Entry(
            layer=layer,
            role=role,
            lora_A=f"layers.{layer}.{role}.lora_A",
            lora_B=f"layers.{layer}.{role}.lora_B",
            **fields,
        )
        for role, layers in roles.items()
        for layer in layers
    )


def measures(manifest_entries: tuple[Entry, ...]) -> dict[str, Any]:
    """Return measures of a projection, the effective rank growing with the entry."""
    return {
        entry.label: {"source": entry.label, "energy_kept": 1, "norm_ratio": 0.5, "effective_rank": 1 + index}
        for index, entry in enumerate(manifest_entries)
    }


PROJECTED = entries({"attention_value": (0, 1), "mlp_up": (1,)})


def projection(**changes: Any) -> Statement:
    """Return a projection that dropped five entries."""
    fields: dict[str, Any] = {
        "parameters": {"layer_map": "proportional", "layers": {"single": (0, 1)}, "method": "svd", "rotary": "drop"},
        "materials": ({"name": "source adapter", "digest": OTHER},),
        "byproducts": {
            "kept": 0,
            "projected": 3,
            "dropped": 5,
            "dropped_because": {"the target's MLP has no gate": 5},
            "energy_share": 0.619131,
            "entries": measures(PROJECTED),
        },
    }
    return statement("projection", **{**fields, **changes})


def training() -> Statement:
    """Return a training as ``ual train`` records it."""
    share = {"digest": OTHER, "documents": 40, "examples": 40, "rows": 50, "tokens": 9000, "trained_tokens": 8000}
    return statement(
        "training",
        parameters={
            "steps": 200,
            "epochs": 1.5,
            "batch_size": 8,
            "learning_rate": 0.0002,
            "schedule": "cosine",
            "warmup_steps": 10,
            "seed": 7,
            "max_length": 1024,
            "settings": {
                "rank": 8,
                "rank_pattern": {},
                "alpha_pattern": {"layers.0.mlp_up": 4.0},
                "exclude": (),
                "keep": "best",
                "dora": False,
                "data": {"form": "text", "train": share, "held_out": {**share, "examples": 5, "tokens": 1200}},
            },
        },
        materials=({"name": "base config", "digest": DIGEST}, {"name": "examples", "digest": OTHER}),
        byproducts={
            "train_loss": 1.5,
            "best_step": 150,
            "eval_loss_before": 2.5,
            "eval_loss_after": 1.25,
            "eval_bits_per_byte_before": 1.125,
            "eval_bits_per_byte_after": 0.5625,
            "logit_change": 6.5,
            "reload_error": 0,
            "verdict": "better",
            "tokens": 13500,
            "trained_tokens": 12000,
            "trainable_parameters": 240,
            "wall_time_s": 90.5,
            "tokens_per_s": 149.25,
            "peak_memory_bytes": 536870912,
            "environment": {"device": "x86_64 CPU", "torch": "2.13.0"},
            "curve": tuple({"step": 2 * number, "loss": 3 - number / 64} for number in range(1, 101)),
            "eval_curve": tuple({"step": 50 * number, "loss": 2.5 - number / 4} for number in range(5)),
        },
        created_at="2026-03-01T10:00:00Z",
    )


def evaluation() -> Statement:
    """Return an evaluation of two arms, one without an interval."""
    result = {"metric": "accuracy", "value": 0.91, "n": 1000, "data_digest": OTHER, "arm": "adapter"}
    return statement(
        "evaluation",
        parameters={"protocol": "zero-shot"},
        byproducts={
            "results": (
                {**result, "low": 0.89, "high": 0.93, "seed": 0},
                {**result, "arm": "base model", "value": 0.5},
            ),
            "label": "partial",
        },
    )


def transferred(**changes: Any) -> Manifest:
    """Return the manifest of an adapter that was carried over, trained on, and evaluated."""
    fields: dict[str, Any] = {
        "base_model": base_model(
            id="org/tiny-llama",
            revision=COMMIT,
            architecture="llama",
            model_type="llama",
            stacks=(Stack(hidden_size=4, num_layers=2, intermediate_size=6),),
        ),
        "method": method(rank=8, alpha=16.0),
        "entries": PROJECTED,
        "extra": (),
        "features": (),
        "tensor_digest": "sha256:" + "3" * 64,
        "manifest_digest": "sha256:" + "4" * 64,
        "name": "Triage",
        "description": "Sorts requests.\n\nBy urgency.",
        "domain": "Customer Support",
        "license": "Apache-2.0",
        "languages": ("en-GB", "de"),
        "created_at": "2026-03-02T00:00:00Z",
        "tags": ("Nightly build",),
        "lineage": Lineage(parents=(Parent(digest=OTHER, relation="projected_from"),)),
        "provenance": (projection(), training(), evaluation()),
    }
    return small_adapter(**{**fields, **changes}).manifest


def card_of(manifest: Manifest, existing: str | None = None, **changes: Any) -> str:
    """Return the card of an adapter in a repository."""
    fields: dict[str, Any] = {
        "air_path": "adapter.air",
        "digest": DIGEST,
        "has_peft": True,
        "picture": "adapter.png",
        "repository": "org/triage",
    }
    return make_card(manifest, existing=existing, **{**fields, **changes})
