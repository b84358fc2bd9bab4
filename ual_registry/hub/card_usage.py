"""How to load an adapter from its repository, in three ways, and how to check that what came is what was meant.

Code is made to be copied, so only ids, commits and paths of a known form stand in it; where a manifest has another
text in such a place, a placeholder in capitals does.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from ual_registry.air.model import Manifest
from ual_registry.hub.card_text import code, fenced, table
from ual_registry.hub.card_values import hub_base

__all__ = ["Place", "digest_section", "loading_section"]

_AUTO_CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
}
"""The class of transformers by PEFT's task type."""

_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What ``--max-lora-rank`` takes."""

_REVISION = re.compile(r"[0-9A-Za-z][\w./-]{0,127}", re.ASCII)
_NAME = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an adapter lies on the Hub.

    Attributes:
        repository: Id of the repository.
        air_path: Path of the AIR file in it.
        digest: Digest of the AIR file.
        has_peft: Whether the same folder holds the adapter in the format of PEFT.
        picture: Path of the picture; ``None`` where there is none.
    """

    repository: str
    air_path: str
    digest: str
    has_peft: bool
    picture: str | None

    @property
    def folder(self) -> str:
        """The folder of the AIR file in the repository; empty at its top."""
        return self.air_path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """A short name for the adapter, for commands."""
        return _NAME.sub("-", (self.folder or self.repository).rpartition("/")[2]).strip("-.") or "adapter"


def loading_section(manifest: Manifest, place: Place) -> str:
    """Return the section on loading."""
    base = hub_base(manifest.base_model.id, manifest.base_model.revision)
    parts = ["## How to load it"]
    if base is None:
        parts.append(
            "The base model is not named by an id of the Hub; put its id, or the path of its folder, in place of "
            "`BASE_MODEL`."
        )
    parts += _peft(manifest, place) if place.has_peft else [
        "This repository holds the AIR file alone; the last command below makes a folder for PEFT of it."
    ]  # fmt: skip
    parts += ["**With ual-registry**, which checks every byte:", _pull(place)]
    if place.has_peft:
        parts += _vllm(manifest, place)
    return "\n\n".join(parts)


def _base(manifest: Manifest) -> str:
    return hub_base(manifest.base_model.id, manifest.base_model.revision) or "BASE_MODEL"


def _revision(manifest: Manifest) -> str | None:
    revision = manifest.base_model.revision or ""
    return revision if _REVISION.fullmatch(revision) else None


def _peft(manifest: Manifest, place: Place) -> Iterator[str]:
    auto = _AUTO_CLASSES.get(manifest.method.task_type or "", "AutoModel")
    revision = _revision(manifest)
    base = f'    "{_base(manifest)}",\n' + (f'    revision="{revision}",\n' if revision else "")
    adapter = f'"{place.repository}"' + (f', subfolder="{place.folder}"' if place.folder else "")
    yield "**With PEFT**, on the base model" + (" at the recorded commit:" if revision else ":")
    yield fenced(
        f"from peft import PeftModel\nfrom transformers import {auto}\n\n"
        f"base = {auto}.from_pretrained(\n{base})\nmodel = PeftModel.from_pretrained(base, {adapter})",
        "python",
    )


def _pull(place: Place) -> str:
    file = f" --file {shlex.quote(place.air_path)}" if place.folder else ""
    convert = "" if place.has_peft else f"\nual convert {place.name}.air {place.name}-peft"
    return fenced(
        f"pip install ual-registry\n"
        f"ual show hf:{place.repository}  # look before the download\n"
        f"ual pull {place.repository}{file} --name {place.name}\n"
        f"ual get {place.name} -o {place.name}.air" + convert,
        "bash",
    )


def _vllm(manifest: Manifest, place: Place) -> Iterator[str]:
    rank = max(entry.rank for entry in manifest.entries)
    if manifest.method.dora:
        yield "**With vLLM**: not as it is. vLLM does not load DoRA adapters; merge it into the base model first."
        return
    if rank > _VLLM_RANKS[-1]:
        yield f"**With vLLM**: not as it is. vLLM loads adapters up to rank {_VLLM_RANKS[-1]}; this one has {rank}."
        return
    limit = next(limit for limit in _VLLM_RANKS if limit >= rank)
    revision = _revision(manifest)
    pin = f" --revision {revision}" if revision else ""
    folder = shlex.quote(f"./{place.name}/{place.folder}".rstrip("/"))
    yield "**With vLLM**, where it knows the architecture:"
    yield fenced(
        f"hf download {place.repository} --local-dir ./{place.name}\n"
        f"vllm serve {_base(manifest)}{pin} \\\n"
        f"    --enable-lora --max-lora-rank {limit} --lora-modules {place.name}={folder}",
        "bash",
    )
    if manifest.extra or manifest.method.bias != "none":
        yield "It also holds tensors beside the factors, or trained biases, which vLLM may refuse."


def digest_section(manifest: Manifest, place: Place) -> str:
    """Return the section on digests: what they cover, and how to check them."""
    rows = [
        (f"the file {code(place.air_path)}", code(place.digest)),
        ("its tensors: names, types, shapes and numbers", code(manifest.tensor_digest or "-")),
        ("its manifest", code(manifest.manifest_digest or "-")),
        ("`config.json` of the base model", code(manifest.base_model.config_digest)),
    ]
    if manifest.base_model.weights_digest:
        rows.append(("the weights of the base model", code(manifest.base_model.weights_digest)))
    path = shlex.quote(place.air_path)
    commands = (
        f"hf download {place.repository} {path} --local-dir .\n"
        f"sha256sum {path}  # must print the digits of the file's digest\n"
        f"ual validate {path}  # checks the tensors and the manifest as well"
    )
    return "\n\n".join(
        [
            "## Digests",
            "A digest names exact bytes: if one byte differs, the digest does.",
            table(["What", "Digest"], rows),
            fenced(commands, "bash"),
        ]
    )
