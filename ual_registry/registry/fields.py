"""The fields of the search language: one table that the parser, the help, the documentation and the SQL follow."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ual_registry.air.roles import ROLES

__all__ = ["DEFAULT_ORDER", "FIELDS", "ORDERS", "Field", "Kind"]


class Kind(StrEnum):
    """What a field is compared with."""

    TEXT = "text"
    LABEL = "label"
    CHOICE = "choice"
    COUNT = "count"
    AMOUNT = "amount"
    BYTES = "bytes"
    NUMBER = "number"
    TIME = "time"
    TAG = "tag"
    METRIC = "metric"
    DIGEST = "digest"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of the language and what it means.

    Attributes:
        kind: What it is compared with.
        help: What it holds for, in a few words.
        example: A term.
        choices: Every value that it can have; empty where there is no such list.
        is_order: Whether results can be put in its order.
    """

    kind: Kind
    help: str
    example: str
    choices: tuple[str, ...] = ()
    is_order: bool = False


def _text(help: str, example: str, *, is_order: bool = False) -> Field:
    return Field(kind=Kind.TEXT, help=help, example=example, is_order=is_order)


FIELDS: dict[str, Field] = {
    "name": _text("the adapter's name", "name:med*", is_order=True),
    "owner": _text("who answers for the adapter", "owner:team-search"),
    "title": _text("the name that the file gives itself", 'title:"Medical triage"'),
    "base": _text("base model: its label, what follows a '/' there, its architecture or model type", "base:llama"),
    "architecture": _text("binder of the base model", "architecture:qwen2"),
    "method": _text("lora, or the projection that made the adapter", "method:svd"),
    "domain": _text("the field that the adapter serves", "domain:medical,legal"),
    "license": _text("SPDX expression", "license:apache-2.0"),
    "kind": Field(kind=Kind.CHOICE, help="what the file is", example="kind:adapter", choices=("adapter", "router")),
    "role": Field(
        kind=Kind.CHOICE, help="some entry plays this role", example="role:(mlp_gate,mlp_up)", choices=tuple(ROLES)
    ),
    "rank": Field(kind=Kind.COUNT, help="some entry has this rank", example="rank:8..32", is_order=True),
    "layers": Field(kind=Kind.COUNT, help="some entry lies in one of these blocks, from 0", example="layers:0..11"),
    "params": Field(kind=Kind.AMOUNT, help="numbers held by the factors", example="params<10M", is_order=True),
    "size": Field(kind=Kind.BYTES, help="bytes of the file", example="size<1GB", is_order=True),
    "recovered": Field(
        kind=Kind.NUMBER,
        help="share of the source's gain that a transfer kept, where measured",
        example="recovered>=0.5",
        is_order=True,
    ),
    "metric": Field(
        kind=Kind.METRIC,
        help="a measurement of the adapter, with or without its value; eval.NAME is short for metric:NAME",
        example="metric:accuracy>=0.8",
    ),
    "created": Field(
        kind=Kind.TIME, help="when the revision was added, UTC", example="created>=2026-01-01", is_order=True
    ),
    "tag": Field(kind=Kind.TAG, help="a tag of the revision, with or without its value", example="tag:team=search"),
    "alias": Field(kind=Kind.LABEL, help="an alias points to the revision", example="alias:production"),
    "digest": Field(kind=Kind.DIGEST, help="digest of the bytes, or its first digits", example="digest:9f86d081"),
    "derived-from": Field(
        kind=Kind.REFERENCE,
        help="made from this one, directly or over others (NAME, NAME@3, NAME@ALIAS or sha256:...)",
        example="derived-from:medical@3",
    ),
    "yanked": Field(
        kind=Kind.CHOICE,
        help="hidden by 'ual yank'; a query that does not ask leaves such revisions out",
        example="yanked:true",
        choices=("true", "false"),
    ),
}
"""Every field of the search language."""

ORDERS = tuple(name for name, field in FIELDS.items() if field.is_order)
"""What ``order:`` can name."""

DEFAULT_ORDER = "name"
"""By name, and newest first under one name."""
