"""An adapter as a GGUF file for llama.cpp: plain LoRA under GGUF's names, rows where llama.cpp has them.

The file says what ``convert_lora_to_gguf.py`` of llama.cpp would say (see ``rules.json`` for the version that was
read), with two differences: true scalings are folded into ``lora_b`` first, and a fused module or one that stores its
weight transposed needs no base weights.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import gguf
import torch

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import BaseModel, Entry
from ual_registry.engines.gguf_names import gguf_architecture, gguf_name
from ual_registry.engines.normal_form import NormalForm, normal_form
from ual_registry.engines.rules import load_rules
from ual_registry.errors import ForeignFormatError, StorageError
from ual_registry.interop.peft_names import split_name
from ual_registry.interop.to_peft import peft_form
from ual_registry.tensors import to_torch

__all__ = ["permuted_rows", "write_gguf"]


def write_gguf(adapter: Adapter, path: Path) -> NormalForm:
    """Write an adapter as a GGUF file.

    Args:
        adapter: The adapter.
        path: The file; it appears when it is complete.

    Returns:
        The form that was written.

    Raises:
        ForeignFormatError: The adapter is more than plain LoRA, or GGUF or this package has no place for a module.
        StorageError: The file system refuses; nothing is left behind.
    """
    architecture = gguf_architecture(adapter.manifest.base_model)
    form = normal_form(adapter, target="GGUF", is_padded=False)
    _refuse_lonely_embedding(form.adapter)
    tensors = dict(_tensors(form.adapter))
    with _new_file(path) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        if adapter.manifest.name is not None:
            writer.add_name(adapter.manifest.name)
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(form.alpha))
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return form


def _refuse_lonely_embedding(adapter: Adapter) -> None:
    """Refuse factors of an embedding alone: llama.cpp finds factors by the weight's name, which a tied head shares."""
    entries = {entry.role: entry for entry in adapter.entries}
    if "token_embedding" in entries and "lm_head" not in entries:
        entry = entries["token_embedding"]
        raise ForeignFormatError(
            f"{entry.source}: llama.cpp would give its factors to a head that is tied to it, too",
            code="gguf-unknown",
            context={"module": entry.source or ""},
            hint="merge it into its base model and convert that: 'ual convert REF DIR --to merged --base BASE'",
        )


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """Give a file in a folder of its own, which becomes ``path`` when the block ends without an error."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            place = Path(folder) / "adapter.gguf"
            yield place
            place.replace(path)
    except OSError as error:
        raise StorageError.of("write", path, error) from error


def _tensors(adapter: Adapter) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of the file in float32, those of a module after one another.

    Source: llama.cpp, ``convert_lora_to_gguf.py``, ``LoraModel.modify_tensors``.
    """
    base = adapter.manifest.base_model
    owners = {entry.source: entry for entry in adapter.entries}
    names = {entry.source: gguf_name(base, entry) for entry in adapter.entries}
    for stored, tensor in peft_form(adapter).tensors.items():
        part = split_name(stored)
        assert part is not None  # a form without extra tensors holds factors only
        entry, name = owners[part.path], names[part.path]
        matrix = to_torch(tensor).float()
        if part.factor == "lora_B":
            yield f"{name}.lora_b", permuted_rows(matrix, base, entry)
        else:
            yield f"{name}.lora_a", matrix.T if entry.role == "token_embedding" else matrix


def permuted_rows(lora_B: torch.Tensor, base: BaseModel, entry: Entry) -> torch.Tensor:
    """Put the rows of a factor where the converted base model has them.

    Query and key of the llama family are rotated in halves by transformers and in neighbours by llama.cpp, whose
    converter moves their rows.

    Args:
        lora_B: Shape (out_features, rank).
        base: The base model.
        entry: What the factor belongs to.

    Raises:
        ForeignFormatError: What llama.cpp's converter does with this architecture was not read.

    Source: llama.cpp, ``conversion/llama.py``, ``LlamaModel.permute``.
    """
    rows: Mapping[str, str] = load_rules("gguf").rows
    order = rows.get(base.model_type)
    if order is None:
        known = ", ".join(sorted(rows))
        raise ForeignFormatError(
            f"model_type {base.model_type!r}: how llama.cpp orders the rows of its weights is not known ({known} are)",
            code="gguf-unknown",
            context={"model_type": base.model_type},
            hint="merge it into its base model and convert that: 'ual convert REF DIR --to merged --base BASE'",
        )
    heads = _heads(base, entry) if order == "permuted" else None
    if heads is None:
        return lora_B
    halves = lora_B.reshape(heads, 2, lora_B.shape[0] // heads // 2, lora_B.shape[1])
    return halves.swapaxes(1, 2).reshape(lora_B.shape)


def _heads(base: BaseModel, entry: Entry) -> int | None:
    """Return how many heads write the rows of an entry; ``None`` where they are neither query nor key."""
    stack = base.stack(entry.stack)
    if stack is None or entry.role not in ("attention_query", "attention_key"):
        return None
    return stack.num_attention_heads if entry.role == "attention_query" else stack.num_key_value_heads
