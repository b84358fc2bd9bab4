"""Mutations of legal files, and a campaign that shows every one of them to both readers.

    python -m tests.hostile.fuzzing --count 10000 --seed 0

Each mutated file must be judged by a report within a second; both readers must agree on whether it is legal. Nothing
else may happen: no other exception, no hang, no memory beyond 200 MB.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import canonical_bytes
from ual_registry.air.validate import validate_file
from ual_registry.digest import Digest
from ual_registry.errors import FormatError, QueryError, UALError
from ual_registry.registry.fields import FIELDS, ORDERS
from ual_registry.registry.query import parse_query

__all__ = ["Campaign", "mutate_file", "mutate_query", "peak_bytes", "reference_reader", "run_files", "run_queries"]

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "spec" / "vectors" / "1.0"
LIMIT_S = 1.0
LIMIT_BYTES = 200 * 10**6

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53, -(2**63), 1e308, 0.5),
    *("", "x", "../../etc/passwd", "/dev/zero", "https://example.org/", "\u0000", "\U0001f600", "sha256:" + "0" * 64),
    *([], {}, [[]], {"x": 1}, ["encoder"], "adapter", "router", "1.9", "2.0", "layers.0.attention_query.lora_A"),
)


def reference_reader() -> Any:
    """Load the independent reader, which imports nothing of this package."""
    spec = importlib.util.spec_from_file_location("air_reader", ROOT / "spec" / "reference" / "air_reader.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def seeds() -> list[bytes]:
    """Return the legal files that mutations start from, in a fixed order."""
    files = []
    for case in sorted(VECTORS.glob("*/case.json")):
        document = json.loads(case.read_text(encoding="utf-8"))
        if document["operation"] == "validate" and document["expected"]["valid"]:
            files.append((case.parent / document["path"]).read_bytes())
    return files


# Mutations of bytes


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 8, 64, len(data))) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    piece = data[start : start + rng.choice((1, 8, 64))]
    return data[:start] + piece * rng.choice((2, 3, 100)) + data[start:]


def _length(data: bytes, rng: random.Random) -> bytes:
    length = rng.choice((0, 1, 7, len(data), max(len(data) - 8, 0), 10**8, 10**8 + 1, 2**40, 2**63, 2**64 - 1))
    return length.to_bytes(8, "little") + data[8:]


# Mutations of documents


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _text(document: Any) -> bytes:
    """Write a document canonically where it can be, and somehow where it cannot."""
    try:
        return canonical_bytes(document)
    except FormatError:
        return json.dumps(document).encode()


def _joined(header: Any, rest: bytes, *, padded: bool) -> bytes:
    text = _text(header)
    text += b" " * (-(8 + len(text)) % 64 if padded else 0)
    return len(text).to_bytes(8, "little") + text + rest


def _change(document: Any, rng: random.Random) -> None:
    """Change one value somewhere in a document: replace, remove, add or repeat it."""
    holders: list[Any] = []
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, (dict, list)) and value:
            holders.append(value)
            stack.extend(value.values() if isinstance(value, dict) else value)
    holder = rng.choice(holders)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    action = rng.randrange(7)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder[rng.choice(("unknown", "extra", "stack", "slice", "features", "\u00e9"))] = rng.choice(_VALUES)
    elif action == 2 and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    elif action >= 3 and type(holder[key]) is int:
        holder[key] += rng.choice((-1, 1, 2, 64))
    elif action >= 3 and isinstance(holder[key], str) and rng.random() < 0.5:
        holder[key] = holder[key].replace(
            rng.choice(("0", "1", "query", "up", "lora_A", "a")), rng.choice(("1", "value", ""))
        )
    else:
        holder[key] = copy.deepcopy(rng.choice(_VALUES))


def _header(data: bytes, rng: random.Random) -> bytes:
    header, rest = _split(data)
    for _ in range(rng.choice((1, 1, 2))):
        _change(header, rng)
    return _joined(header, rest, padded=rng.random() < 0.9)


def _manifest(data: bytes, rng: random.Random) -> bytes:
    """Change the manifest and, as a rule, seal it again, so that the rules behind the digest are reached."""
    header, rest = _split(data)
    manifest = json.loads(header["__metadata__"]["air"])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _change(manifest, rng)
    if rng.random() < 0.9:
        body = {key: value for key, value in manifest.items() if key != "manifest_digest"}
        manifest["manifest_digest"] = str(Digest.of_bytes(_text(body)))
    header["__metadata__"]["air"] = _text(manifest).decode()
    return _joined(header, rest, padded=True)


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _cut, _repeat, _length),
    *(_header, _header, _header, *(8 * [_manifest])),
)


def mutate_file(data: bytes, rng: random.Random) -> bytes:
    """Return a legal file with something wrong, as a rule."""
    return rng.choice(_MUTATIONS)(data, rng)


_TOKENS = (
    *FIELDS,
    *(
        ":",
        ">=",
        "<=",
        ">",
        "<",
        "(",
        ")",
        '"',
        "OR",
        "NOT",
        " ",
        "  ",
        "\n",
        "\\",
        "\u00e9",
        "\x00",
        "%",
        "_",
        "'",
        ";",
    ),
    *(
        ":",
        "*",
        ",",
        "..",
        "-",
        "AND",
        "order:",
        "eval.",
        "=",
        "1.5GiB",
        "2026-01-01",
        "sha256:ab",
        "a@3",
        "true",
        *ORDERS,
    ),
    *("16", "-1", "99999999999", "mlp_gate", "llama", "((((", "NOT NOT", '"a b"', "1e3", "\U0001f600"),
)


def mutate_query(rng: random.Random) -> str:
    """Return words of the search language in any order."""
    return "".join(rng.choice(_TOKENS) + rng.choice(("", " ")) for _ in range(rng.randrange(12)))


@dataclass(slots=True)
class Campaign:
    """What happened.

    Attributes:
        verdicts: How many files were legal, and how many had each code first.
        failures: What must not happen, each with the number of its mutation.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def run_files(count: int, seed: int, folder: Path) -> Campaign:
    """Show ``count`` mutated files to both readers.

    Args:
        count: How many.
        seed: Which ones.
        folder: Where to write them, one at a time; one that fails is kept there.
    """
    campaign, reader, legal = Campaign(), reference_reader(), seeds()
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        path = folder / "mutated.air"
        path.write_bytes(mutate_file(rng.choice(legal), rng))
        failure = _judge(path, reader, campaign)
        if failure:
            campaign.failures.append(f"{number}: {failure}")
            path.rename(folder / f"failed-{seed}-{number}.air")
    return campaign


def _judge(path: Path, reader: Any, campaign: Campaign) -> str | None:
    start = time.perf_counter()
    try:
        report = validate_file(path)
        middle = time.perf_counter()
        other = reader.validate(str(path))
    except Exception as error:  # noqa: BLE001  # anything else is what the campaign looks for
        return f"{type(error).__name__}: {error}"
    end = time.perf_counter()
    campaign.verdicts["legal" if report.ok else report.errors[0].code] += 1
    if max(middle - start, end - middle) > LIMIT_S:
        return f"took {middle - start:.2f} s and {end - middle:.2f} s"
    own = [(problem.code, problem.place) for problem in report.errors[:1]]
    others = [(fault["code"], fault["place"]) for fault in other["faults"][:1]]
    if report.ok != other["valid"] or _family(own) != _family(others):
        return f"the readers disagree: {own} and {others}"
    return None


_JSON = ("not-json", "too-deep", "repeated-key")


def _family(faults: list[tuple[str, str]]) -> object:
    """Return the first fault as far as the specification fixes it.

    Schema faults are told by their code alone, and of several faults of one JSON text any may be told.
    """
    code = faults[0][0] if faults else None
    return "json" if code in _JSON else code if code == "schema" else faults


def run_queries(count: int, seed: int) -> Campaign:
    """Parse ``count`` made-up queries."""
    campaign = Campaign()
    for number in range(count):
        query = mutate_query(random.Random(f"{seed}/{number}"))
        start = time.perf_counter()
        try:
            parse_query(query)
            campaign.verdicts["query"] += 1
        except QueryError as error:
            campaign.verdicts["mistake"] += 1
            column = error.context["column"]
            if not isinstance(column, int) or not 1 <= column <= len(query) + 1:
                campaign.failures.append(f"{number}: column {column} of {query!r}")
        except (UALError, Exception) as error:  # noqa: BLE001  # as above
            campaign.failures.append(f"{number}: {type(error).__name__}: {error} of {query!r}")
        if time.perf_counter() - start > LIMIT_S:
            campaign.failures.append(f"{number}: over {LIMIT_S} s: {query!r}")
    return campaign


def peak_bytes() -> int:
    """Return the peak of this process's resident memory, without what its parent held before it started."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run a campaign, print what happened, and end with 1 where something must not have."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = run_files(options.count, options.seed, Path(folder))
    queries = run_queries(options.count, options.seed)
    for verdict, count in files.verdicts.most_common():
        print(f"{count:6} {verdict}")
    print(f"queries: {dict(queries.verdicts)}")
    peak = peak_bytes()
    print(f"peak memory {peak / 1e6:.0f} MB (limit {LIMIT_BYTES / 1e6:.0f})")
    failures = files.failures + queries.failures + ([f"memory {peak}"] if peak > LIMIT_BYTES else [])
    print("\n".join(failures) or "no failure", file=sys.stderr if failures else sys.stdout)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
