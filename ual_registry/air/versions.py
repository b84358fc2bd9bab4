"""Which versions and features this package writes and reads.

A version is ``major.minor``. A higher minor only adds; another major is another format (spec: versions).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

__all__ = [
    "AIR_VERSION",
    "KNOWN_FEATURES",
    "MEDIA_TYPE",
    "is_newer_minor",
    "lowest_version",
    "parse_version",
    "supported_versions",
]

AIR_VERSION = "1.0"
"""The version that this package writes."""

MEDIA_TYPE = "application/vnd.ual.air.v1+safetensors"
"""The media type of an AIR file; it carries the major version."""

_SINCE: dict[str, str] = {}
"""The version that brought a feature, for those that came after the first of our major."""

KNOWN_FEATURES = {
    "dora": "entries carry a magnitude per output row, and the update is not the plain product",
    "lora-bias": "entries carry a bias that is added to the output of lora_B",
    "extra-tensors": "the file carries tensors without a role that replace or extend weights of the base model",
}
"""Features that a reader must understand or refuse, with what happens to one that ignores them."""

_FORM = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\Z")


@functools.lru_cache(maxsize=64)
def parse_version(text: str) -> tuple[int, int]:
    """Split ``major.minor``.

    Raises:
        ValueError: ``text`` has another form.

    >>> parse_version("1.0")
    (1, 0)
    """
    match = _FORM.match(text)
    if match is None:
        raise ValueError(f"version {text!r}: expected 'major.minor'")
    return int(match[1]), int(match[2])


def lowest_version(features: Iterable[str], *, since: Mapping[str, str] = _SINCE) -> str:
    """Return the lowest version that can express a document, so that the oldest readers can read it.

    Args:
        features: The features that the document uses.
        since: The version that brought each feature; the first of our major where it is not listed.

    >>> lowest_version(["dora"])
    '1.0'
    """
    first = f"{parse_version(AIR_VERSION)[0]}.0"
    return max((since.get(feature, first) for feature in features), key=parse_version, default=first)


def supported_versions() -> str:
    """Say in words which versions can be read.

    >>> supported_versions()
    '1.x (writes 1.0)'
    """
    return f"{parse_version(AIR_VERSION)[0]}.x (writes {AIR_VERSION})"


def is_newer_minor(text: str) -> bool:
    """Tell whether a legal version is of our major and has a higher minor."""
    own, other = parse_version(AIR_VERSION), parse_version(text)
    return other[0] == own[0] and other[1] > own[1]
