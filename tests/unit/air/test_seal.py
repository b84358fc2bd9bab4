"""The digests of a manifest are the same whether its text is written anew or filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.handmade import small_adapter
from ual_registry.air.document import decode_manifest, encode_manifest, seal, seal_draft
from ual_registry.digest import Digest

_UNKNOWN = str(Digest("0" * 64))


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"org.example.x": {"tensor_digest": _UNKNOWN}},
        {"org.example.x": {"a": 1, "manifest_digest": _UNKNOWN}},
        {"org.example.x": f'"manifest_digest":"{_UNKNOWN}"'},
    ],
    ids=["plain", "the same member inside", "its own member inside", "its text in a string"],
)
def test_a_text_that_is_filled_in_is_that_of_the_sealed_manifest(annotations: Mapping[str, Any]) -> None:
    draft = replace(small_adapter().manifest, annotations=annotations, tensor_digest=_UNKNOWN, manifest_digest=_UNKNOWN)
    digest = Digest.of_bytes(b"tensors")
    sealed, text = seal_draft(draft, encode_manifest(draft), digest)
    assert sealed == seal(draft, digest)
    assert text == encode_manifest(sealed)
    assert [problem.code for problem in decode_manifest(text.decode()).problems] == []
