"""How long the registry takes to answer at 100,000 revisions: ``python -m benchmarks.registry_search URL``.

The database must have been filled by ``benchmarks.registry_data``. Every question is asked with other values each
time, drawn from what the generator writes; values that were asked before would find their pages in memory.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import text

from benchmarks.measure import machine
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.registry import Registry
from ual_registry.registry.session import Database

_RANKS = (4, 8, 16, 32, 64, 128)
_ROLES = ("mlp_gate", "mlp_up", "attention_query", "attention_key")
_ARCHITECTURES = ("llama", "qwen2", "mistral", "gemma2", "gpt_neox", "gpt2")
_LICENSES = ("apache-2.0", "mit", "llama3.2", "cc-by-4.0", "proprietary")

_NAMES = "SELECT DISTINCT adapter_name FROM revisions WHERE yanked_at IS NULL ORDER BY adapter_name LIMIT 20000"

Question = Callable[[random.Random], object]


def _questions(registry: Registry, limit: int) -> dict[str, Question]:
    with registry.database.session() as session:
        names = [name for (name,) in session.execute(text(_NAMES))]
        aliases = "SELECT d.name FROM aliases a JOIN adapters d ON d.id = a.adapter_id WHERE a.name = 'production'"
        named = [name for (name,) in session.execute(text(aliases + " ORDER BY d.id LIMIT 20000"))]
        digests = [found for (found,) in session.execute(text("SELECT child_digest FROM lineage_edges LIMIT 20000"))]

    def search(make: Callable[[random.Random], str]) -> Question:
        return lambda rng: registry.search(make(rng), limit=limit)

    return {
        "get by name": lambda rng: registry.resolve(rng.choice(names)),
        "get by alias": lambda rng: registry.resolve(f"{rng.choice(named)}@production"),
        "role, rank and base": search(
            lambda r: f"role:{r.choice(_ROLES)} rank>={r.choice(_RANKS)} base:{r.choice(_ARCHITECTURES)}"
        ),
        "domain and license": search(
            lambda r: f'domain:"domain {int(r.paretovariate(0.5)) % 3000}" license:{r.choice(_LICENSES)}'
        ),
        "tag": search(lambda r: f"tag:team=team-{r.randrange(200)}"),
        "full text": search(lambda r: f"w{int(r.paretovariate(0.4)) % 5000:x}ord"),
        "phrase": search(lambda r: f'"w{r.randrange(30):x}ord w{r.randrange(300):x}ord"'),
        "params, newest first": search(
            lambda r: f"params:{r.randrange(1, 30)}M..{r.randrange(30, 90)}M order:-created"
        ),
        "recovered and method": search(
            lambda r: f"recovered>={r.random():.2f} method:{r.choice(('svd', 'activations', 'truncate'))}"
        ),
        "lineage up, 10": lambda rng: registry.lineage(rng.choice(digests), down=False, depth=10),
        "lineage down, 10": lambda rng: registry.lineage(rng.choice(digests), up=False, depth=10),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask every question and print how long the answers took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--limit", type=int, default=100)
    options = parser.parse_args(arguments)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Database.open(options.url), BlobStore(Path(folder)))
        for title, question in _questions(registry, options.limit).items():
            rng = random.Random(title)
            times, spent = [], []
            for run in range(options.runs + 20):
                start, cpu = time.perf_counter(), time.process_time()
                question(rng)
                if run >= 20:
                    times.append((time.perf_counter() - start) * 1e3)
                    spent.append((time.process_time() - cpu) * 1e3)
            p95, p95_cpu = (statistics.quantiles(values, n=20)[-1] for values in (times, spent))
            p50, p50_cpu = statistics.median(times), statistics.median(spent)
            print(f"{title:22} p50 {p50:7.1f} ms  p95 {p95:7.1f} ms   processor: {p50_cpu:6.1f} and {p95_cpu:6.1f} ms")


if __name__ == "__main__":
    main()
