"""``adapter_config.json``: what it says, what of it AIR can carry, and what must be refused by name.

Every key of peft 0.21 is listed with what it does to the numbers. A key that is not listed may change the meaning of
the adapter, so it is refused unless it is off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import parse_json
from ual_registry.air.model import Method
from ual_registry.errors import ForeignFormatError, FormatError, StorageError
from ual_registry.interop.patterns import match_pattern, refuse_costly_patterns
from ual_registry.storage import read_file

__all__ = [
    "CONFIG_FILE",
    "MAX_CONFIG_BYTES",
    "WEIGHTS_FILE",
    "PeftConfig",
    "carried_part",
    "check_config",
    "load_config",
    "parse_config",
    "parse_document",
    "require_files",
]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PICKLE_FILE = "adapter_model.bin"
MAX_CONFIG_BYTES = 16 << 20
"""A configuration that is longer is none."""

_CARRIED = frozenset(
    {
        "task_type",
        "peft_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "r",
        "target_modules",
        "target_parameters",
        "exclude_modules",
        "lora_alpha",
        "lora_dropout",
        "fan_in_fan_out",
        "bias",
        "use_rslora",
        "modules_to_save",
        "init_lora_weights",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
        "megatron_core",
        "trainable_token_indices",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "use_dora",
        "qalora_group_size",
        "lora_bias",
        "ensure_weight_tying",
    }
)
"""Keys whose whole meaning is in the tensors, in the entries, or only in how training began."""

_REFUSED = {
    "layer_replication": "it changes the blocks of the base model",
    "alora_invocation_tokens": "the adapter acts only after certain tokens",
    "use_qalora": "the input is pooled before lora_A",
    "use_bdlora": "the factors are block-diagonal",
    "arrow_config": "it routes between adapters",
    "megatron_config": "the factors are sharded",
    "monteclora_config": "the factors are drawn from a distribution",
    "kasa_config": "the factors are scaled by singular values",
    "velora_config": "its effect on the numbers is not known to AIR 1.0",
}
"""Keys that change what the factors mean, with the reason."""

_PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initialisations that leave the base model as it is; the others move a part of its weights into the adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftConfig:
    """A checked LoRA configuration.

    Attributes:
        document: The configuration, verbatim.
    """

    document: Mapping[str, Any]

    @property
    def method(self) -> Method:
        """The configuration in the manifest's words."""
        document = self.document
        return Method(
            type="lora",
            task_type=document.get("task_type"),
            rank=document["r"],
            alpha=float(document["lora_alpha"]),
            scaling_rule="alpha/sqrt(rank)" if document.get("use_rslora") else "alpha/rank",
            dropout=float(document.get("lora_dropout") or 0.0),
            bias=document.get("bias") or "none",
            dora=bool(document.get("use_dora")),
        )

    @property
    def base_id(self) -> str | None:
        """The base model's Hub id, or the last part of its path; a label only, never opened."""
        value = self.document.get("base_model_name_or_path")
        if not isinstance(value, str) or not value:
            return None
        is_path = value.startswith(("/", ".", "~", "\\")) or value[1:2] == ":" or value.count("/") > 1
        return value.replace("\\", "/").rstrip("/").rpartition("/")[2] if is_path else value

    @property
    def revision(self) -> str | None:
        """The base model's revision, where one is named."""
        value = self.document.get("revision")
        return value if isinstance(value, str) and value else None

    @property
    def model_class(self) -> str | None:
        """The class that the adapter was made for, where PEFT recorded it."""
        mapping = self.document.get("auto_mapping")
        value = mapping.get("base_model_class") if isinstance(mapping, Mapping) else None
        return value if isinstance(value, str) else None

    def rank(self, path: str) -> int:
        """Return the rank of the module at ``path``, or of the parameter."""
        found = match_pattern(self.document.get("rank_pattern") or {}, self._key(path))
        return int(self.document["r"] if found is None else found)

    def scaling(self, path: str) -> float:
        """Return the number that multiplies ``lora_B @ lora_A`` of the module at ``path``.

        Source: alpha / rank (arXiv 2106.09685, section 4.1); alpha / sqrt(rank) with rsLoRA (arXiv 2312.03732).
        """
        found = match_pattern(self.document.get("alpha_pattern") or {}, self._key(path))
        alpha = float(self.document["lora_alpha"] if found is None else found)
        rank = self.rank(path)
        return alpha / math.sqrt(rank) if self.document.get("use_rslora") else alpha / rank

    def targets(self, path: str) -> bool:
        """Tell whether PEFT would give the module or parameter at ``path`` factors, as far as lists of names tell."""
        names = self.document.get("target_modules")
        if not isinstance(names, (list, tuple)):
            return names is not None or self.targets_parameter(self._key(path))
        return _is_named(path, names) or self.targets_parameter(self._key(path))

    def targets_parameter(self, path: str) -> bool:
        """Tell whether PEFT would give the parameter at ``path`` factors of its own."""
        return _is_named(path, self.document.get("target_parameters") or ())

    def _key(self, path: str) -> str:
        """Return what PEFT compares with its patterns: a module's path, or that of the parameter that is its weight."""
        names = self.document.get("target_modules")
        if isinstance(names, (list, tuple)) and _is_named(path, names):
            return path
        parameters = [name.rpartition(".")[2] for name in self.document.get("target_parameters") or ()]
        keys = (path, *(f"{path}.{name}" for name in parameters))
        return next((key for key in keys if self.targets_parameter(key)), path)


def _is_named(path: str, names: Sequence[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for name in names)


def require_files(folder: Path) -> None:
    """Check that a folder holds a PEFT adapter in safetensors form.

    Raises:
        StorageError: There is no such folder.
        ForeignFormatError: A file is missing, or the weights are a pickle.
    """
    if not folder.is_dir():
        raise StorageError(
            f"cannot read {folder}: no such folder", context={"path": str(folder)}, hint="check the path"
        )
    if not (folder / CONFIG_FILE).is_file():
        raise ForeignFormatError(
            f"{folder}: missing {CONFIG_FILE}",
            code="peft-no-config",
            context={"path": str(folder)},
            hint="without it rank, alpha and targets are unknown; give the folder that save_pretrained wrote",
        )
    if (folder / WEIGHTS_FILE).is_file():
        return
    if (folder / _PICKLE_FILE).is_file():
        raise ForeignFormatError(
            f"{folder}: the weights are in {_PICKLE_FILE}, a pickle, which can run code when it is opened",
            code="peft-pickle",
            context={"path": str(folder)},
            hint="if you trust the file, load it once with PeftModel.from_pretrained and write it again with "
            "save_pretrained, which makes safetensors",
        )
    raise ForeignFormatError(f"{folder}: missing {WEIGHTS_FILE}", code="peft-no-weights", context={"path": str(folder)})


def load_config(folder: Path) -> PeftConfig:
    """Read and check the configuration in a PEFT folder.

    Raises:
        ForeignFormatError: It is no LoRA configuration, or says something that AIR cannot carry.
    """
    return parse_config(read_file(folder / CONFIG_FILE, limit_bytes=MAX_CONFIG_BYTES))


def parse_config(data: bytes) -> PeftConfig:
    """Parse and check the bytes of a configuration.

    Raises:
        ForeignFormatError: It is no LoRA configuration, or says something that AIR cannot carry.
    """
    return check_config(parse_document(data))


def parse_document(data: bytes) -> Mapping[str, Any]:
    """Parse the bytes of a configuration, of whatever kind it is.

    Raises:
        ForeignFormatError: It is no JSON object.
    """
    try:
        document = parse_json(data, what=CONFIG_FILE)
    except FormatError as error:
        raise ForeignFormatError(error.message, code="peft-config") from error
    if not isinstance(document, dict):
        raise _refusal("expected a JSON object")
    return document


def check_config(document: Mapping[str, Any]) -> PeftConfig:
    """Check a parsed configuration.

    Raises:
        ForeignFormatError: It is no LoRA configuration, or says something that AIR cannot carry.
    """
    _check_kind(document)
    _check_numbers(document)
    for field in ("rank_pattern", "alpha_pattern"):
        refuse_costly_patterns(document.get(field) or {}, field=field)
    return PeftConfig(document=document)


def carried_part(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a parsed configuration that AIR can carry, which says what the factors are."""
    kept = {key: value for key, value in document.items() if key in _CARRIED}
    if kept.get("init_lora_weights", True) not in _PLAIN_INITS:
        del kept["init_lora_weights"]
    return kept


def _refusal(message: str, hint: str | None = None, code: str = "peft-config") -> ForeignFormatError:
    return ForeignFormatError(f"{CONFIG_FILE}: {message}", code=code, hint=hint)


def _check_kind(document: Mapping[str, Any]) -> None:
    """Refuse what is no LoRA, and what changes the meaning of its factors."""
    if document.get("peft_type") != "LORA":
        raise _refusal(f"peft_type {document.get('peft_type')!r}: expected 'LORA'", code="peft-type")
    for key, reason in _REFUSED.items():
        if document.get(key):
            raise _refusal(f"{key}: {reason}, which AIR 1.0 cannot carry", code="peft-unsupported")
    for key, value in document.items():
        if value and key not in _CARRIED and key not in _REFUSED:
            raise _refusal(
                f"unknown key {key!r} with value {value!r} may change what the adapter does",
                hint="use a newer ual-registry, or remove the key if you know that it has no effect",
                code="peft-unknown-key",
            )
    if document.get("init_lora_weights", True) not in _PLAIN_INITS:
        raise _refusal(
            f"init_lora_weights {document['init_lora_weights']!r} moves weights of the base model into the adapter",
            hint="write it again with save_pretrained(..., path_initial_model_for_weight_conversion=...)",
            code="peft-unsupported",
        )


def _check_numbers(document: Mapping[str, Any]) -> None:
    if not _is_positive_int(document.get("r")):
        raise _refusal(f"r {document.get('r')!r}: expected an integer from 1")
    if not _is_number(document.get("lora_alpha")):
        raise _refusal(f"lora_alpha {document.get('lora_alpha')!r}: expected a number")
    dropout = document.get("lora_dropout") or 0
    if not _is_number(dropout) or not 0 <= dropout <= 1:
        raise _refusal(f"lora_dropout {document['lora_dropout']!r}: expected a number from 0 to 1")
    if (document.get("bias") or "none") not in ("none", "all", "lora_only"):
        raise _refusal(f"bias {document['bias']!r}: expected 'none', 'all' or 'lora_only'")
    parameters = document.get("target_parameters") or []
    if not isinstance(parameters, (list, tuple)) or not all(isinstance(name, str) for name in parameters):
        raise _refusal(f"target_parameters {parameters!r}: expected a list of strings")
    for field, is_legal in (("rank_pattern", _is_positive_int), ("alpha_pattern", _is_number)):
        pattern = document.get(field) or {}
        if not isinstance(pattern, Mapping) or not all(is_legal(value) for value in pattern.values()):
            raise _refusal(f"{field}: expected an object of numbers")
    if not isinstance(document.get("task_type"), (str, type(None))):
        raise _refusal(f"task_type {document['task_type']!r}: expected a string")


def _is_positive_int(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
