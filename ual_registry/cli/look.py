"""``ual show hf:...`` in words and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ual_registry.air.codec import encode
from ual_registry.cli.describe import description_text
from ual_registry.cli.output import size_text, table
from ual_registry.hub.address import HubAddress
from ual_registry.workflows.show import Description
from ual_registry.workflows.show_hub import AirGlimpse, HeldAdapter, HubDescription, PeftGlimpse

__all__ = ["hub_document", "hub_text"]


def hub_document(found: HubDescription) -> dict[str, Any]:
    """Return the JSON document: that of a file, where it is an AIR file, and the repository beside it."""
    only, air = found.only, found.air
    return {
        "path": _address(found, only) if only else None,
        "digest": only.digest if only else None,
        "size_bytes": only.size_bytes if only else None,
        "parameter_count": air.parameter_count if air else None,
        "roles": air.roles if air else None,
        "manifest": encode(air.manifest) if air else None,
        "peft": found.peft,
        "hub": {
            "repository": found.repository,
            "commit": found.commit,
            "is_private": found.is_private,
            "gated": found.gated,
        },
        "adapters": found.adapters,
        "left_out": found.left_out,
    }


def _address(found: HubDescription, adapter: HeldAdapter) -> str:
    return str(HubAddress(found.repository, found.commit, adapter.path))


def hub_text(found: HubDescription) -> str:
    """Return the text for people."""
    only = found.only
    if only is not None and found.air is not None:
        text = _air_text(found, only, found.air)
    elif only is not None and found.peft is not None:
        text = "\n".join(_peft_lines(found, only, found.peft))
    else:
        text = "\n".join(_list_lines(found))
    return "\n".join([text, *(f"left out   {reason}" for reason in found.left_out)])


def _air_text(found: HubDescription, adapter: HeldAdapter, air: AirGlimpse) -> str:
    description = Description(
        reference=found.reference,
        path=_address(found, adapter),
        digest=_digest_text(adapter),
        size_bytes=adapter.size_bytes,
        parameter_count=air.parameter_count,
        roles=air.roles,
        manifest=air.manifest,
    )
    return description_text(description, place=[*_place_lines(found), f"file       {adapter.path}"])


def _digest_text(adapter: HeldAdapter) -> str:
    if adapter.digest is None:
        return "not told by the Hub; only the header was read"
    return f"{adapter.digest} (the word of the Hub; only the header was read)"


def _place_lines(found: HubDescription) -> Iterator[str]:
    yield f"commit     {found.commit}"
    access = [*(["private"] if found.is_private else []), *([f"gated ({found.gated})"] if found.gated else [])]
    if access:
        yield f"access     {', '.join(access)}"


def _peft_lines(found: HubDescription, adapter: HeldAdapter, peft: PeftGlimpse) -> Iterator[str]:
    yield f"{found.reference}  PEFT adapter, {size_text(adapter.size_bytes)}"
    yield from _place_lines(found)
    yield f"file       {adapter.path}"
    yield f"digest     {f'{adapter.digest} (the word of the Hub)' if adapter.digest else 'not told by the Hub'}"
    pinned = f"at {peft.base_revision}" if peft.base_revision else "unpinned"
    yield f"base       {peft.base or 'not named'}, {pinned}"
    yield f"method     {_method_text(peft)}"
    yield f"targets    {', '.join(peft.target_modules) or 'not named'}"
    yield "tensors    not read; layers, shapes and roles show when it is pulled"
    yield ""
    if peft.refusal is not None:
        yield f"AIR cannot carry it: {peft.refusal}"
    else:
        yield f"'ual pull {_pullable(found, adapter)}' makes an AIR file of it"


def _method_text(peft: PeftGlimpse) -> str:
    known = "unknown"
    rank = known if peft.rank is None else peft.rank
    alpha = known if peft.alpha is None else f"{peft.alpha:g}"
    rule = "alpha/sqrt(rank)" if peft.config.get("use_rslora") else "alpha/rank"
    kind = "DoRA" if peft.config.get("use_dora") else {"LORA": "LoRA"}.get(peft.peft_type or "", peft.peft_type)
    task = f", {peft.task_type}" if peft.task_type else ""
    return f"{kind or known} rank {rank}, alpha {alpha}, scaling {rule}{task}"


def _pullable(found: HubDescription, adapter: HeldAdapter) -> str:
    """Return the words behind ``ual pull`` that mean this adapter."""
    words = found.reference.removeprefix("hf:").partition(":")[0]
    return f"{words} --file {adapter.path}" if "/" in adapter.path else words


def _list_lines(found: HubDescription) -> Iterator[str]:
    yield f"{found.reference}  {len(found.adapters)} adapters"
    yield from _place_lines(found)
    yield ""
    rows = [
        [
            adapter.path,
            {"air": "AIR", "peft": "PEFT"}[adapter.form],
            size_text(adapter.size_bytes),
            adapter.digest or "",
        ]
        for adapter in found.adapters
    ]
    yield table(rows, ["file", "form", "size", "digest"])
    yield ""
    address = HubAddress.parse(found.reference)
    yield f"'ual show {HubAddress(address.repository, address.revision, found.adapters[0].path)}' describes one of them"
