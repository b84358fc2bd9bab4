"""The metadata of a card: what the Hub itself reads, in the values that it accepts.

The Hub refuses a card with a licence or a language that it does not know. What it does not know is left to the text
of the card, so that no adapter is kept from being published by what it says of itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ual_registry.air.commit import is_commit
from ual_registry.air.model import Manifest

__all__ = ["hub_base", "hub_languages", "hub_license", "metadata_values"]

_LICENSES = """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m bsd
    bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
    creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gemma gfdl gpl gpl-2.0
    gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail
    openrail++ osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
"""
"""Identifiers of licences that a card can name (Source: Hub documentation, 'Licenses')."""

_SAME_LICENSE = re.compile(r"([al]?gpl-[0-9.]+)-(?:only|or-later)")
_LANGUAGES = """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo
    es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg
    ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn
    no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw
    ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
"""Two-letter codes of languages (ISO 639-1)."""

_PIPELINES = {
    "CAUSAL_LM": "text-generation",
    "FEATURE_EXTRACTION": "feature-extraction",
    "QUESTION_ANS": "question-answering",
    "SEQ_CLS": "text-classification",
    "TOKEN_CLS": "token-classification",
}
"""The Hub's name of a task by PEFT's task type; a sequence to sequence model has no single one."""

_HUB_ID = re.compile(r"(?:[A-Za-z0-9](?:[\w.-]*\w)?/)?[A-Za-z0-9_](?:[\w.-]*\w)?", re.ASCII)
_MAX_HUB_ID = 96
_MAX_LICENSE = 64


def metadata_values(manifest: Manifest, *, has_peft: bool) -> dict[str, Any]:
    """Return the keys of the metadata that the manifest decides, but for the tags, in the order of a new card.

    Args:
        manifest: What the adapter says about itself.
        has_peft: Whether the repository holds it in the format of PEFT, too.
    """
    base = hub_base(manifest.base_model.id, manifest.base_model.revision)
    languages = hub_languages(manifest.languages)
    found: dict[str, Any] = {"base_model": base, "base_model_relation": "adapter"} if base else {}
    found["library_name"] = "peft" if has_peft else "ual-registry"
    if manifest.license is not None:
        found["license"] = hub_license(manifest.license)
    if found.get("license") == "other":
        name = re.sub("[^a-z0-9.]+", "-", str(manifest.license).lower())[:_MAX_LICENSE].strip("-.")
        found["license_name"] = name or "other"
    if languages:
        found["language"] = list(languages)
    pipeline = _PIPELINES.get(manifest.method.task_type or "")
    if pipeline and has_peft:
        found["pipeline_tag"] = pipeline
    return found


def hub_base(id: str, revision: str | None = None) -> str | None:
    """Return the label of a base model where it is an id of the Hub; a folder's name is none.

    An id without an owner is one only where a commit stands beside it.

    >>> hub_base("meta/llama"), hub_base("folder"), hub_base("gpt2", 40 * "0"), hub_base("a/b/c")
    ('meta/llama', None, 'gpt2', None)
    """
    is_id = len(id) <= _MAX_HUB_ID and _HUB_ID.fullmatch(id) and not {"--", ".."} & {id[i : i + 2] for i in range(96)}
    is_certain = "/" in id or is_commit(revision)
    return id if is_id and is_certain and not id.endswith(".git") else None


def hub_license(text: str) -> str:
    """Return the Hub's identifier of a licence, ``other`` where it has none.

    >>> hub_license("Apache-2.0"), hub_license("GPL-3.0-or-later"), hub_license("MIT OR Apache-2.0")
    ('apache-2.0', 'gpl-3.0', 'other')
    """
    name = text.strip().lower()
    known = _SAME_LICENSE.fullmatch(name)
    name = known[1] if known else name
    return name if name in _LICENSES.split() else "other"


def hub_languages(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the languages of BCP 47 tags in the codes that the Hub knows, each once; others are left out.

    >>> hub_languages(["en-US", "DE", "gsw", "English", "en"])
    ('en', 'de', 'gsw')
    """
    found = (re.split("[-_]", tag.strip().lower())[0] for tag in tags)
    return tuple(dict.fromkeys(name for name in found if name in _LANGUAGES.split() or re.fullmatch("[a-z]{3}", name)))
