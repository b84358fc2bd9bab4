"""The rows of a registry as a large team would have it, made at random.

Few bases serve most adapters, few domains are common and many are rare, names have a few revisions as a rule and some
have hundreds, and three artifacts in ten were made from others.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from ual_registry.registry.facets import SHOWN
from ual_registry.registry.labels import labels_text
from ual_registry.registry.record_tables import EvaluationRow, MeasuredRow, ProjectionRow
from ual_registry.registry.summaries import measurements_text, targets_text
from ual_registry.registry.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    BaseModelRow,
    LineageRow,
    RevisionRow,
    RevisionTextRow,
    RoleRow,
    Table,
    TagRow,
)

__all__ = ["Row", "registry_rows"]

Row = dict[str, Any]

_START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
_ATTENTION = ("attention_query", "attention_key", "attention_value", "attention_output")
_MLP = ("mlp_up", "mlp_down", "mlp_gate")
_SHAPES = ((7, _ATTENTION + _MLP, 16), (2, _ATTENTION, 28), (1, ("attention_query", "attention_value"), 56))
"""Share in tenths, roles, and blocks: 112 entries each."""

_RANKS = {4: 8, 8: 30, 16: 30, 32: 18, 64: 10, 128: 4}
_ARCHITECTURES = {"llama": 40, "qwen2": 25, "mistral": 12, "gemma2": 10, "gpt_neox": 8, "gpt2": 5}
_LICENSES = {"apache-2.0": 50, "MIT": 30, "llama3.2": 12, "cc-by-4.0": 6, "proprietary": 2}
_METHODS = {"svd": 30, "activations": 40, "interpolate": 20, "truncate": 10}
_RELATIONS = {"projected_from": 60, "converted_from": 20, "merged_from": 20}
_BASES, _DOMAINS, _WORDS, _OWNERS = 40, 3000, 5000, 200


class _Skewed:
    """Numbers from 0, each less common than the one before."""

    def __init__(self, count: int, exponent: float = 1.0) -> None:
        self._numbers = range(count)
        self._weights = list(accumulate(1 / (n + 1) ** exponent for n in self._numbers))

    def pick(self, rng: random.Random) -> int:
        return rng.choices(self._numbers, cum_weights=self._weights)[0]


_BASE, _DOMAIN, _WORD, _OWNER = _Skewed(_BASES), _Skewed(_DOMAINS, 1.1), _Skewed(_WORDS), _Skewed(_OWNERS, 0.5)


def _weighted(choices: dict[Any, int], rng: random.Random) -> Any:
    return rng.choices(list(choices), weights=list(choices.values()))[0]


def digest_of(number: int) -> str:
    """Return the digest of the artifact with a row number."""
    return "sha256:" + hashlib.sha256(str(number).encode()).hexdigest()


def _word(number: int) -> str:
    return f"w{number:x}ord"


def _text(rng: random.Random, count: int) -> str:
    return " ".join(_word(_WORD.pick(rng)) for _ in range(count))


def _bases(rng: random.Random) -> Iterator[tuple[type[Table], Row]]:
    for number in range(1, _BASES + 1):
        architecture = _weighted(_ARCHITECTURES, rng)
        yield (
            BaseModelRow,
            {
                "id": number,
                "label": f"org{number % 7}/{architecture}-{number}",
                "revision": "",
                "architecture": architecture,
                "model_type": architecture,
                "config_digest": digest_of(-number),
                "hidden_size": 2048,
                "num_layers": 16,
            },
        )


class _Adapters:
    """Names, and which of them the next revision belongs to: four in ten revisions are the first of theirs."""

    def __init__(self) -> None:
        self.newest: list[int] = []
        self.rows: list[Row] = []
        self.revision: list[int] = []

    def next(self, rng: random.Random, at: datetime.datetime) -> tuple[int, int]:
        if self.rows and rng.random() > 0.4:
            number = min(int(rng.paretovariate(0.6)), len(self.rows))
            self.newest[number - 1] += 1
            return number, self.newest[number - 1]
        number = len(self.rows) + 1
        name = f"{_word(_WORD.pick(rng))}-{_word(_WORD.pick(rng))}-{number}"
        self.rows.append({"id": number, "name": name, "owner": f"team-{_OWNER.pick(rng)}", "created_at": at})
        self.newest.append(1)
        self.revision.append(0)
        return number, 1


def _artifact(number: int, rng: random.Random) -> Row:
    rank = _weighted(_RANKS, rng)
    _, roles, layers = rng.choices(_SHAPES, weights=[share for share, _, _ in _SHAPES])[0]
    domain = None if rng.random() < 0.2 else f"domain {_DOMAIN.pick(rng)}"
    has_two_ranks = rng.random() < 0.05
    parameters = rank * len(roles) * layers * 4096
    return {
        "id": number,
        "digest": digest_of(number),
        "tensor_digest": digest_of(number),
        "kind": "adapter",
        "media_type": "application/vnd.ual.air.v1",
        "size_bytes": parameters * 2 + rng.randrange(4096),
        "base_model_id": 1 + _BASE.pick(rng),
        "title": _text(rng, 3),
        "description": _text(rng, 10),
        "method": "lora",
        "domain": domain,
        "license": _weighted(_LICENSES, rng),
        "parameter_count": parameters,
        "entry_count": 112,
        "rank_min": rank,
        "rank_max": rank * 2 if has_two_ranks else rank,
        "recovered_gain": None,
        "added_at": _START + datetime.timedelta(seconds=500 * number),
        "_roles": roles,
        "_layers": layers,
    }


def _roles(artifact: Row) -> Iterator[tuple[type[Table], Row]]:
    """Yield one row for each role, or two where the later half of the blocks has another rank."""
    layers, low, high = artifact["_layers"], artifact["rank_min"], artifact["rank_max"]
    spans = [(low, 0, layers - 1)] if low == high else [(low, 0, layers // 2 - 1), (high, layers // 2, layers - 1)]
    for role in artifact["_roles"]:
        for rank, first, last in spans:
            count = last - first + 1
            row = {"artifact_id": artifact["id"], "stack": "", "role": role, "rank": rank, "entry_count": count}
            yield RoleRow, {**row, "layer_min": first, "layer_max": last}


def _lineage(artifact: Row, rng: random.Random) -> Iterator[tuple[type[Table], Row]]:
    number = artifact["id"]
    if number < 10 or rng.random() > 0.3:
        return
    relation = _weighted(_RELATIONS, rng)
    near = number - 1 - int(rng.expovariate(0.5)) % (number - 1)
    popular = 1 + min(int(rng.paretovariate(0.5)), number - 2)
    parents = {near, popular} if relation == "merged_from" else {near if rng.random() < 0.7 else popular}
    for parent in sorted(parents - {number}):
        yield (
            LineageRow,
            {"child_digest": artifact["digest"], "parent_digest": digest_of(parent), "relation": relation},
        )
    if relation == "projected_from":
        artifact["method"] = _weighted(_METHODS, rng)
        artifact["recovered_gain"] = round(rng.betavariate(4, 2), 4) if rng.random() < 0.6 else None
        yield (
            ProjectionRow,
            {
                "artifact_id": number,
                "position": 0,
                "method": artifact["method"],
                "source_digest": digest_of(near),
                "recovered_gain": artifact["recovered_gain"],
                "parameters": {"method": artifact["method"]},
            },
        )


def _measurements(number: int, rng: random.Random) -> Iterator[tuple[type[Table], Row]]:
    if rng.random() < 0.5:
        for position, metric in enumerate(("accuracy", "loss")):
            row = {"artifact_id": number, "position": position, "metric": metric, "arm": "adapter"}
            yield EvaluationRow, {**row, "value": round(rng.betavariate(5, 2), 4)}


def _labels(number: int, rng: random.Random) -> Iterator[Row]:
    yield {"revision_id": number, "key": "team", "value": f"team-{_OWNER.pick(rng)}"}
    yield {"revision_id": number, "key": "stage", "value": rng.choice(("draft", "test", "test", "release"))}
    if rng.random() < 0.3:
        yield {"revision_id": number, "key": "run", "value": f"{rng.randrange(10**9):09}"}


def _facets(artifact: Row) -> Row:
    """Return what a revision keeps of its artifact."""
    folded = {f"{name}_folded": artifact[name] and artifact[name].lower() for name in ("domain", "license", "method")}
    same = ("base_model_id", "rank_min", "rank_max", "recovered_gain", "targets")
    return {**folded, **{name: artifact[name] for name in same}, "shown": artifact["_shown"]}


def _shown(artifact: Row, bases: Mapping[int, Row], separator: str) -> str:
    """Return what a revision keeps for its hits, as the engine writes it; measurements stand there as they are."""
    base = bases[artifact["base_model_id"]]
    own = [json.dumps(artifact[name]) for name in SHOWN]
    behind = [json.dumps(base[name]) for name in ("label", "architecture")]
    return f"[{separator.join([*own, artifact['measurements'] or 'null', *behind])}]"


def registry_rows(count: int, rng: random.Random, *, is_sqlite: bool) -> Iterator[tuple[type[Table], Row]]:
    """Yield every row, but for the entries, each after those that it refers to where it can.

    Args:
        count: How many revisions.
        rng: What is taken at random.
        is_sqlite: For which engine.
    """
    separator = "," if is_sqlite else ", "  # between the members of a list that it writes as JSON
    bases = {}
    for table, base in _bases(rng):
        bases[base["id"]] = base
        yield table, base
    adapters = _Adapters()
    for number in range(1, count + 1):
        artifact = _artifact(number, rng)
        yield from _lineage(artifact, rng)
        roles, measurements = list(_roles(artifact)), list(_measurements(number, rng))
        artifact["targets"] = targets_text(row for _, row in roles)
        artifact["measurements"] = measurements_text(row for _, row in measurements)
        artifact["_shown"] = _shown(artifact, bases, separator)
        yield from roles
        yield from measurements
        yield ArtifactRow, {key: value for key, value in artifact.items() if not key.startswith("_")}
        at = artifact["added_at"]
        adapter, revision = adapters.next(rng, at)
        name, owner = (adapters.rows[adapter - 1][key] for key in ("name", "owner"))
        adapters.revision[adapter - 1] = number
        tags = list(_labels(number, rng))
        words = [name, owner, artifact["title"], artifact["domain"], artifact["description"]]
        words += [word for tag in tags for word in (tag["key"], tag["value"])]
        yield RevisionTextRow, {"revision_id": number, "body": " ".join(filter(None, words)).replace("-", " ")}
        own = {"adapter_name": name, "number": revision}
        yield from ((TagRow, {**tag, **own}) for tag in tags)
        pairs = {tag["key"]: tag["value"] for tag in tags}
        labels = labels_text(owner, (), pairs, is_sqlite=is_sqlite)  # its aliases follow
        row = {"id": number, "adapter_id": adapter, "adapter_name": name, "number": revision, **_facets(artifact)}
        is_yanked = rng.random() < 0.01
        yield (
            RevisionRow,
            {
                **row,
                "artifact_id": number,
                "labels": labels,
                "created_at": at,
                "yanked_at": at if is_yanked else None,
            },
        )
        for _, measured in measurements:
            ends = {"lowest": measured["value"], "highest": measured["value"]}
            yield MeasuredRow, {"revision_id": number, "metric": measured["metric"], **ends, **own}
    for row, newest, revision in zip(adapters.rows, adapters.newest, adapters.revision, strict=True):
        yield AdapterRow, {**row, "newest": newest}
        for alias, share in (("production", 0.3), ("candidate", 0.1)):
            if rng.random() < share:
                own = {"adapter_id": row["id"], "name": alias, "revision_id": revision, "is_protected": False}
                yield AliasRow, {**own, "moved_at": _START}
