"""The metadata of a model card: what it says, whether the Hub takes it, and the tags that follow from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["LICENSES", "check", "metadata", "tags"]

_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_TEXTS = ("library_name", "pipeline_tag", "license_name", "license_link", "base_model_relation", "thumbnail")
_RELATIONS = ("adapter", "finetune", "merge", "quantized")

LICENSES = frozenset(
    """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
    gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr
    mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
    deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma
    grok2-community unknown other""".split()  # noqa: SIM905  # a hundred lines else
)
"""The licenses that the Hub knows by name."""


class _Bad(Exception):  # noqa: N818  # carried to the caller as text
    pass


def metadata(card: str) -> dict[str, Any]:
    """Read the metadata of a card; none where it has none or it cannot be read."""
    try:
        return _read(card) or {}
    except _Bad:
        return {}


def check(card: str) -> tuple[list[str], list[str]]:
    """Say what is wrong with the metadata of a card: errors, for which it is refused, and warnings."""
    try:
        found = _read(card)
    except _Bad as bad:
        return [str(bad)], []
    if not found:
        return [], ["empty or missing yaml metadata in repo card"]
    return [*_wrong_texts(found), *_wrong_lists(found), *_wrong_index(found)], []


def _read(card: str) -> dict[str, Any] | None:
    match = _FRONT.match(card)
    if match is None:
        return None
    try:
        found = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise _Bad(f"YAML parse error: {' '.join(str(error).split())}") from error
    if found is not None and not isinstance(found, dict):
        raise _Bad("YAML metadata must be an object")
    return found


def _wrong_texts(found: Mapping[str, Any]) -> list[str]:
    wrong = [f'"{name}" must be a string' for name in _TEXTS if name in found and not isinstance(found[name], str)]
    relation = found.get("base_model_relation")
    if isinstance(relation, str) and relation not in _RELATIONS:
        wrong.append(f'"base_model_relation" must be one of [{", ".join(_RELATIONS)}]')
    licenses = found.get("license", [])
    if not set(licenses if isinstance(licenses, list) else [licenses]) <= LICENSES:
        wrong.append(f'"license" must be one of [{", ".join(sorted(LICENSES))}]')
    return wrong


def _wrong_lists(found: Mapping[str, Any]) -> list[str]:
    wrong = []
    for name, is_model in (("base_model", True), ("datasets", False)):
        for place, value in _listed(found, name):
            kind = "model" if is_model else "dataset"
            if not isinstance(value, str) or not _ID.fullmatch(value):
                wrong.append(
                    f'"{place}" with value "{value}" is not valid. Use a {kind} id from https://hf.co/{kind}s.'
                )
    for place, value in _listed(found, "language"):
        if not isinstance(value, str) or not re.fullmatch(r"[a-z]{2,3}(-[\w-]+)?|multilingual|code", value):
            wrong.append(f'"{place}" must only contain lowercase characters: an ISO 639 code of 2 or 3 letters')
    if "tags" in found and not isinstance(found["tags"], list):
        wrong.append('"tags" must be an array')
    wrong += [f'"{place}" must be a string' for place, value in _listed(found, "tags") if not isinstance(value, str)]
    return wrong


def _listed(found: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    value = found.get(name, [])
    return [(f"{name}[{i}]", item) for i, item in enumerate(value)] if isinstance(value, list) else [(name, value)]


def _wrong_index(found: Mapping[str, Any]) -> list[str]:
    index = found.get("model-index", [])
    if not isinstance(index, list):
        return ['"model-index" must be an array']
    wrong = []
    for place, model in enumerate(index):
        for name, kind in (("name", str), ("results", list)):
            if not isinstance(model, dict) or not isinstance(model.get(name), kind):
                wrong.append(f'"model-index[{place}].{name}" is required')
    return wrong


def tags(found: Mapping[str, Any], paths: tuple[str, ...]) -> list[str]:
    """Give the tags of a repository: its own, and those that the Hub derives from the card and the files."""
    relation = found.get("base_model_relation") or ("adapter" if found.get("library_name") == "peft" else "finetune")
    bases = [str(value) for _, value in _listed(found, "base_model")]
    derived = [
        *([found["library_name"]] if found.get("library_name") else []),
        *(["safetensors"] if any(path.endswith(".safetensors") for path in paths) else []),
        *[str(value) for _, value in _listed(found, "tags")],
        *([found["pipeline_tag"]] if found.get("pipeline_tag") else []),
        *[str(value) for _, value in _listed(found, "language")],
        *[f"dataset:{value}" for _, value in _listed(found, "datasets")],
        *[f"base_model:{base}" for base in bases],
        *[f"base_model:{relation}:{base}" for base in bases],
        *[f"license:{value}" for _, value in _listed(found, "license")],
        "region:us",
    ]
    return list(dict.fromkeys(derived))
