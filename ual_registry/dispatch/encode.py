"""Sentences become embeddings: a sentence encoder with an identity, and a cache of what it said."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError

from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.air.router import Encoder
from ual_registry.digest import Digest
from ual_registry.dispatch.classifier import Floats
from ual_registry.errors import RouteError, StorageError
from ual_registry.models.characters import characters
from ual_registry.models.loaded import weights_digest, without_progress_bars
from ual_registry.storage import read_file

__all__ = [
    "CachedEncoder",
    "SentenceEncoder",
    "TextEncoder",
    "View",
    "load_encoder",
    "require_encoder",
    "sentence_width",
]

_MODULES = "modules.json"
_OWN_MODULES = "sentence_transformers."
_CONFIGS = ("modules.json", "config.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json")
_MAX_CONFIG_BYTES = 64 << 20
_BATCH = 64
_KEPT_AT_ONCE = 2048
"""Texts after which the cache writes what it has, so that whoever stops a long run loses little of it."""
_REFUSALS = (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, TypeError)
_MOST_CHARACTERS = 20_000
"""Of a longer text only the beginning is encoded: no encoder reads further, and its tokenizer would take seconds."""


class TextEncoder(Protocol):
    """What turns texts into embeddings."""

    @property
    def identity(self) -> Encoder:
        """What the encoder is."""
        ...

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return the embeddings, (texts, dimension), of unit length."""
        ...


def sentence_width(encoder: TextEncoder) -> int:
    """Return how many numbers at the front of an embedding are the sentence embedding.

    They are all where the encoder has no attribute ``sentence_width`` that says otherwise.
    """
    return int(getattr(encoder, "sentence_width", encoder.identity.dimension))


class View(StrEnum):
    """What of an encoder makes an embedding."""

    PLAIN = "plain"
    """The sentence embedding that the encoder was made to give."""
    LAYERED = "layers and peaks"
    """The same, beside the means of the embedding layer and of the middle layer, and the peaks of the last layer.

    The lower layers keep the words, which tell narrow domains apart where the top layer has only the gist. A peak is
    the largest number of a feature over the tokens, which a mean would water down. One forward pass gives them all. On
    CLINC150 and BANKING77 it makes fewer errors than the plain view (benchmarks/router.py).
    """


_BESIDE = 0.7
"""Length of each part beside a sentence embedding of length 1; a round number, others were not measured.

``benchmarks.router_choices --part beside`` would compare six, and has not been run.
"""


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """A sentence-transformers model.

    Attributes:
        model: The model.
        identity: What it is, the view included.
        view: What of it makes an embedding.
    """

    model: Any
    identity: Encoder
    view: View = View.LAYERED

    @property
    def sentence_width(self) -> int:
        """Numbers at the front of an embedding that are the sentence embedding."""
        return int(self.model.get_embedding_dimension() or self.identity.dimension)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return the embeddings, (texts, dimension), of unit length, float64.

        Raises:
            RouteError: An embedding is not finite.
        """
        found = np.empty((len(texts), self.identity.dimension))
        shortened = [characters(text[:_MOST_CHARACTERS]) for text in texts]
        order = sorted(range(len(texts)), key=lambda place: len(shortened[place]))
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            found[places] = _embedded(self.model, [shortened[place] for place in places], self.view)
        if not np.isfinite(found).all():
            raise RouteError(f"encoder {self.identity.id}: an embedding is not finite", code="encoder")
        return found


def _embedded(model: Any, texts: list[str], view: View) -> Floats:
    """Return the embeddings of one batch, (texts, dimension)."""
    features = {
        key: own.to(model.device) if hasattr(own, "to") else own for key, own in model.preprocess(texts).items()
    }
    with torch.inference_mode():
        out = model(features)
        top = torch.nn.functional.normalize(out["sentence_embedding"].double(), dim=-1)
        if view is View.PLAIN:
            return _numpy(top)
        layers, mask = out["all_layer_embeddings"], out["attention_mask"][..., None]
        beside = [(layers[own] * mask).sum(1) / mask.sum(1) for own in (0, (len(layers) - 1) // 2)]
        beside.append(layers[-1].masked_fill(mask == 0, -torch.inf).amax(1))
        parts = [_BESIDE * torch.nn.functional.normalize(own.double(), dim=-1) for own in beside]
        return _numpy(torch.nn.functional.normalize(torch.cat([top, *parts], dim=-1), dim=-1))


def _numpy(tensor: torch.Tensor) -> Floats:
    found: Floats = tensor.cpu().numpy()
    return found


def load_encoder(
    folder: str | Path, *, id: str | None = None, revision: str | None = None, view: View = View.LAYERED
) -> SentenceEncoder:
    """Load a sentence encoder from its folder; no code of the folder is run, and no pickle is read.

    Args:
        folder: A sentence-transformers folder with weights in safetensors.
        id: Its label; the name of the folder where absent.
        revision: Commit of the repository that it came from.
        view: What of it makes an embedding; an encoder without layers to show gives the plain view.

    Raises:
        RouteError: It is no such folder, or it asks for code of its own.
        TransferError: It has no weights in safetensors.
        StorageError: A file cannot be read.
    """
    place = Path(folder)
    _check_modules(place)
    weights = weights_digest(place)
    model = _load(place)
    if view is View.LAYERED and not _shows_layers(model):
        view = View.PLAIN
    identity = Encoder(
        id=id or place.resolve().name,
        revision=revision,
        config_digest=str(_config_digest(place, view)),
        weights_digest=str(weights),
        dimension=_embedded(model, ["probe"], view).shape[1],
        is_normalized=True,
    )
    return SentenceEncoder(model, identity, view)


def _load(place: Path) -> Any:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415  # seconds that a refusal must not cost

    try:
        with without_progress_bars():
            model = SentenceTransformer(
                str(place),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
                config_kwargs={"output_hidden_states": True},
            )
    except (*_REFUSALS, SafetensorError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise RouteError(f"{place}: cannot be loaded as a sentence encoder: {lines[0]}", code="encoder") from error
    return model.eval()


def _shows_layers(model: Any) -> bool:
    with torch.inference_mode():
        out = model(model.preprocess(["probe"]))
    return "all_layer_embeddings" in out and "attention_mask" in out


def require_encoder(expected: Encoder, found: Encoder) -> None:
    """Refuse an encoder that is not the one that a router was fitted on.

    Raises:
        RouteError: Its dimension, configuration or weights differ.
    """
    for name in ("dimension", "config_digest", "weights_digest"):
        wanted, got = getattr(expected, name), getattr(found, name)
        if wanted is not None and wanted != got:
            raise RouteError(
                f"encoder {found.id}: {name} {got} does not match the router's ({expected.id}: {wanted})",
                code="encoder",
                hint="thresholds hold for one encoder only; give that one, or train the router again",
            )


def _check_modules(folder: Path) -> None:
    if not (folder / _MODULES).is_file():
        raise RouteError(
            f"{folder}: expected a sentence-transformers folder with {_MODULES}",
            code="encoder",
            hint="save an encoder with SentenceTransformer.save_pretrained, or give its id on the Hub",
        )
    file = folder / _MODULES
    listed = parse_json(read_file(file, limit_bytes=_MAX_CONFIG_BYTES), what=str(file))
    rows = listed if isinstance(listed, list) else []
    kinds = [row.get("type") if isinstance(row, dict) else None for row in rows]
    foreign = [kind for kind in kinds if not isinstance(kind, str) or not kind.startswith(_OWN_MODULES)]
    if foreign or not kinds:
        got = foreign[0] if foreign else "none"
        raise RouteError(f"{file}: expected modules of sentence-transformers, got {got}", code="encoder")


def _config_digest(folder: Path, view: View) -> Digest:
    """Return a digest of everything but the weights that decides what the encoder says."""
    files = [folder / name for name in _CONFIGS if (folder / name).is_file()]
    files += sorted(path for path in folder.glob("*/config.json") if path.is_file())
    found = {str(path.relative_to(folder)): str(Digest.of_file(path)) for path in files}
    return Digest.of_bytes(canonical_bytes({"files": found, "view": str(view)}))


class CachedEncoder:
    """An encoder that keeps on disk what it said, by encoder and text.

    Args:
        encoder: The encoder.
        file: The cache; made where it is not there. Several processes may share it.
    """

    def __init__(self, encoder: TextEncoder, file: Path) -> None:
        self._encoder = encoder
        self._file = file
        own = encoder.identity
        self._key = hashlib.sha256(json.dumps([own.config_digest, own.weights_digest]).encode()).hexdigest()[:16]

    @property
    def identity(self) -> Encoder:
        """What the encoder is."""
        return replace(self._encoder.identity)

    @property
    def sentence_width(self) -> int:
        """Numbers at the front of an embedding that are the sentence embedding."""
        return sentence_width(self._encoder)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return the embeddings, (texts, dimension); only texts that were never seen are encoded.

        Raises:
            RouteError: An embedding is not finite.
            StorageError: The cache cannot be used.
        """
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        with self._open() as database:
            known = dict(self._known(database, set(keys)))
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
            for start in range(0, len(missing), _KEPT_AT_ONCE):
                part = list(missing)[start : start + _KEPT_AT_ONCE]
                # Kept as the float32 that encoders give, so that a hit is what a miss was.
                fresh = self._encoder.encode([missing[key] for key in part]).astype("<f4")
                known |= dict(zip(part, fresh, strict=True))
                rows = [(self._key, key, vector.tobytes()) for key, vector in zip(part, fresh, strict=True)]
                database.executemany("INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?)", rows)
                database.commit()
        found = [known[key] for key in keys]
        return np.array(found, dtype=np.float64).reshape(len(texts), self._encoder.identity.dimension)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._file, timeout=30)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS embeddings"
                    " (encoder TEXT, text BLOB, vector BLOB, PRIMARY KEY (encoder, text)) WITHOUT ROWID"
                )
                yield database
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"{self._file}: the cache of embeddings cannot be used: {error}",
                hint="remove the file; it is made again",
            ) from error

    def _known(self, database: sqlite3.Connection, keys: set[bytes]) -> Iterator[tuple[bytes, Any]]:
        width = self._encoder.identity.dimension
        for key in keys:
            row = database.execute(
                "SELECT vector FROM embeddings WHERE encoder = ? AND text = ?", (self._key, key)
            ).fetchone()
            if row is not None and len(row[0]) == 4 * width:
                yield key, np.frombuffer(row[0], dtype="<f4")
