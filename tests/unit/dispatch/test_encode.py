from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ual_registry.air.router import Encoder
from ual_registry.dispatch.classifier import Floats
from ual_registry.dispatch.encode import (
    CachedEncoder,
    SentenceEncoder,
    View,
    load_encoder,
    require_encoder,
    sentence_width,
)
from ual_registry.errors import RouteError, StorageError, TransferError

TEXTS = ["money account", "flight hotel train ticket visa luggage", "x"]


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> SentenceEncoder:
    return load_encoder(encoder_folder)


def test_the_plain_view_is_what_the_encoder_was_made_to_give(encoder_folder: Path) -> None:
    plain = load_encoder(encoder_folder, view=View.PLAIN)
    expected = plain.model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(plain.encode(TEXTS), expected, atol=1e-6)
    assert plain.identity.dimension == 32


def test_the_layered_view_holds_the_plain_one_two_lower_layers_and_peaks(
    encoder: SentenceEncoder, encoder_folder: Path
) -> None:
    plain = load_encoder(encoder_folder, view=View.PLAIN).encode(TEXTS)
    found = encoder.encode(TEXTS)
    assert found.shape == (3, 128)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-12)
    whole = np.sqrt(1 + 3 * 0.7**2)
    np.testing.assert_allclose(found[:, :32] * whole, plain, atol=1e-6)
    for place, part in enumerate(_beside(encoder, TEXTS), start=1):
        np.testing.assert_allclose(found[:, 32 * place : 32 * (place + 1)] * whole / 0.7, part, atol=1e-6)


def test_an_encoder_says_how_much_of_it_is_the_sentence_embedding(encoder: SentenceEncoder, tmp_path: Path) -> None:
    own = CachedEncoder(encoder, tmp_path / "embeddings.sqlite")
    assert (sentence_width(encoder), sentence_width(own), sentence_width(Counting())) == (32, 32, 4)


def _beside(encoder: SentenceEncoder, texts: list[str]) -> list[np.ndarray]:
    """Return the other parts from each text alone, which has no padding: two means over tokens, and a largest one."""
    parts: list[list[np.ndarray]] = [[], [], []]
    for text in texts:
        with torch.inference_mode():
            layers = encoder.model(encoder.model.preprocess([text]))["all_layer_embeddings"]
        found = (layers[0][0].mean(0), layers[(len(layers) - 1) // 2][0].mean(0), layers[-1][0].amax(0))
        for own, part in zip(parts, found, strict=True):
            own.append(torch.nn.functional.normalize(part, dim=-1).numpy())
    return [np.stack(own) for own in parts]


def test_a_batch_gives_what_single_texts_give(encoder: SentenceEncoder) -> None:
    many = [f"money {place} flight" * (place % 5 + 1) for place in range(130)]
    np.testing.assert_allclose(
        encoder.encode(many)[[0, 77, 129]], encoder.encode([many[0], many[77], many[129]]), atol=1e-5
    )
    assert encoder.encode([]).shape == (0, 128)


def test_a_megabyte_and_other_scripts_are_encoded(encoder: SentenceEncoder) -> None:
    found = encoder.encode(["money " * 200_000, "请给我转账", "\u0645\u0631\u062d\u0628\u0627 🦊", "\ud800"])
    assert np.isfinite(found).all()


def test_the_identity_tells_encoders_and_views_apart(encoder_folder: Path, tmp_path: Path) -> None:
    first = load_encoder(encoder_folder).identity
    assert (first.id, first.is_normalized) == ("tiny-encoder", True)
    shutil.copytree(encoder_folder, tmp_path / "copy")
    assert load_encoder(tmp_path / "copy", id="tiny-encoder").identity == first
    plain = load_encoder(encoder_folder, view=View.PLAIN).identity
    assert plain.config_digest != first.config_digest
    (tmp_path / "copy" / "sentence_bert_config.json").write_text('{"max_seq_length": 16, "do_lower_case": false}')
    changed = load_encoder(tmp_path / "copy", id="tiny-encoder").identity
    assert changed.config_digest != first.config_digest
    assert changed.weights_digest == first.weights_digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": 4}, "encoder found: dimension 4 does not match the router's (wanted: 3)"),
        (
            {"weights_digest": "sha256:" + "9" * 64},
            f"encoder found: weights_digest sha256:{'9' * 64} does not match the router's (wanted: sha256:{'2' * 64})",
        ),
    ],
)
def test_another_encoder_is_refused(change: dict[str, str], message: str) -> None:
    wanted = Encoder(
        id="wanted",
        config_digest="sha256:" + "1" * 64,
        weights_digest="sha256:" + "2" * 64,
        dimension=3,
        is_normalized=True,
    )
    require_encoder(wanted, replace(wanted, id="other name"))
    with pytest.raises(RouteError) as caught:
        require_encoder(wanted, replace(wanted, id="found", **change))  # type: ignore[arg-type]
    assert caught.value.message == message


def _foreign_module(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "os.path.join"
    (folder / "modules.json").write_text(json.dumps(modules))


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _no_list(folder: Path) -> None:
    (folder / "modules.json").unlink()


def _cut_off(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:1000])


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (_foreign_module, RouteError, "expected modules of sentence-transformers, got os.path.join"),
        (_pickle, TransferError, "expected weights in model.safetensors"),
        (_no_list, RouteError, "expected a sentence-transformers folder with modules.json"),
        (_cut_off, RouteError, "cannot be loaded as a sentence encoder"),
    ],
)
def test_a_spoilt_folder_is_refused(
    encoder_folder: Path, tmp_path: Path, spoil: Callable[[Path], None], kind: type[Exception], message: str
) -> None:
    shutil.copytree(encoder_folder, tmp_path / "spoilt")
    spoil(tmp_path / "spoilt")
    with pytest.raises(kind, match=message):
        load_encoder(tmp_path / "spoilt")


class Counting:
    """An encoder that notes what it is asked for."""

    def __init__(self, dimension: int = 4, weights: str = "1") -> None:
        self.asked: list[str] = []
        self.identity = Encoder(
            id="counting",
            config_digest="sha256:" + "1" * 64,
            weights_digest="sha256:" + weights * 64,
            dimension=dimension,
            is_normalized=True,
        )

    def encode(self, texts: Sequence[str]) -> Floats:
        self.asked += texts
        return np.array([[len(text), 1.0, 0.0, 0.5] for text in texts])


def test_a_text_is_encoded_once(tmp_path: Path) -> None:
    encoder = Counting()
    cached = CachedEncoder(encoder, tmp_path / "cache" / "embeddings.sqlite")
    first = cached.encode(["a", "bb", "a"])
    np.testing.assert_array_equal(first, [[1, 1, 0, 0.5], [2, 1, 0, 0.5], [1, 1, 0, 0.5]])
    again = CachedEncoder(encoder, tmp_path / "cache" / "embeddings.sqlite")
    np.testing.assert_array_equal(again.encode(["bb", "ccc"]), [[2, 1, 0, 0.5], [3, 1, 0, 0.5]])
    assert encoder.asked == ["a", "bb", "ccc"]
    assert again.encode([]).shape == (0, 4)
    assert again.identity == encoder.identity


def test_the_cache_knows_encoders_apart(tmp_path: Path) -> None:
    first, second = Counting(), Counting(weights="2")
    for encoder in (first, second):
        CachedEncoder(encoder, tmp_path / "embeddings.sqlite").encode(["a"])
    assert (first.asked, second.asked) == (["a"], ["a"])


def test_a_cache_that_is_none_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "embeddings.sqlite").write_text("this is no database, but a text that somebody put here")
    with pytest.raises(StorageError, match="the cache of embeddings cannot be used") as caught:
        CachedEncoder(Counting(), tmp_path / "embeddings.sqlite").encode(["a"])
    assert caught.value.hint == "remove the file; it is made again"
