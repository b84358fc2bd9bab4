"""What many adapters on one base model cost, and what a server over them adds.

    python -m benchmarks.dispatch [--part mixed ...] [--seconds 120]

Targets: a mixed batch of 8 adapters 3 times as fast as switching from one to the next, with the same answers; an
adapter that is in the cache given in 5 ms; 200 adapters in the registry of which 20 are at work, 90 % of the rate of a
single one; a server on this machine adds at most 5 ms to a request; 32 clients for two minutes while an alias moves: no
answer of another adapter, no error, flat memory.

The base model of the first three parts is SmolLM2-135M-Instruct in float32, from the package that
``examples/materials.py`` pins; its adapters have random factors, rank 8 on query and value, since what an adapter says
costs nothing. The server's part runs on a tiny model, so that what is measured is the server; its adapters say one
letter each, over and over.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click

from benchmarks.measure import in_turns, machine
from examples.materials import calm_threads, model_folder

calm_threads()

from benchmarks.dispatch_adapters import fill_registry, peft_switching  # noqa: E402  # after the threads are calmed
from benchmarks.dispatch_overhead import overhead  # noqa: E402  # as above
from benchmarks.dispatch_server import crowd  # noqa: E402  # as above
from ual_registry.dispatch.dispatcher import LoRADispatcher  # noqa: E402  # as above
from ual_registry.dispatch.generate import Settings  # noqa: E402  # as above
from ual_registry.models.loaded import LoadedBase, load_base_model  # noqa: E402  # as above

_MIXED, _REGISTERED, _WORKING, _TOKENS = 8, 200, 20, 64
_SETTINGS = Settings(max_tokens=_TOKENS)
_QUERIES = (
    "Where is my card?",
    "Which gate does my flight leave from, and how long before must I be there?",
    "How hot is the oven for bread?",
    "What is the weather like in Oslo in May?",
)


def _queries(count: int) -> list[str]:
    return [f"{_QUERIES[place % len(_QUERIES)]} ({place})" for place in range(count)]


def mixed(base: LoadedBase, folder: Path) -> None:
    """Print how long a mixed batch takes, beside one adapter after the other."""
    registry, names = fill_registry(base, folder, _MIXED)
    queries = _queries(_MIXED)
    print(f"\n{_MIXED} queries, each with its own adapter, up to {_TOKENS} tokens each (seconds)", flush=True)
    with LoRADispatcher(None, base, registry) as dispatcher:

        def together() -> list[str]:
            return [own.text for own in dispatcher.generate_batch(queries, adapters=names, settings=_SETTINGS)]

        def one_by_one() -> list[str]:
            pairs = zip(queries, names, strict=True)
            return [dispatcher.generate(query, adapter=name, settings=_SETTINGS).text for query, name in pairs]

        switching = peft_switching(base, registry, dict(zip(names, queries, strict=True)), _TOKENS, folder / "peft")
        said = together()
        is_same, is_alike = said == one_by_one(), said == switching()
        batch, single, peft = in_turns([together, one_by_one, switching], runs=3, warm_up=0)
    print(f"mixed batch                   {batch.text()}")
    print(f"one by one, ours              {single.text()}: {single.median / batch.median:.2f} times, same: {is_same}")
    print(f"one by one, PEFT set_adapter  {peft.text()}: {peft.median / batch.median:.2f} times, same: {is_alike}")


def many(base: LoadedBase, folder: Path) -> None:
    """Print what the cache costs, and the rate with many adapters at work beside that with one."""
    registry, names = fill_registry(base, folder, _REGISTERED)
    working = names[:: _REGISTERED // _WORKING]
    queries = _queries(_WORKING)
    with LoRADispatcher(None, base, registry) as dispatcher:
        for name in working:
            dispatcher.generate("x", adapter=name, settings=Settings(max_tokens=1))
        limit = dispatcher.cache_statistics().size_bytes * 2
    with LoRADispatcher(None, base, registry, cache_bytes=limit) as dispatcher:
        loading = _loading(dispatcher, working)
        digest = dispatcher.pin(working[0])
        cache = dispatcher._answerer.cache  # noqa: SLF001  # the cost of the cache alone

        def hit() -> None:
            with cache.hold(digest, _not_there):
                pass

        (cost,) = in_turns([hit], runs=200)
        answer = _answering(dispatcher, queries)
        one, several = in_turns([lambda: answer([working[0]] * _WORKING), lambda: answer(working)], runs=3)
        batch = _answering(dispatcher, queries, is_batch=True)
        one_batch, mixed_batch = in_turns([lambda: batch([working[0]] * _WORKING), lambda: batch(working)], runs=3)
        found = dispatcher.cache_statistics()
    print(f"\n{_REGISTERED} adapters registered, {_WORKING} at work, {_WORKING} queries a round")
    print(f"load and prove an adapter     {loading * 1e3:.1f} ms")
    print(f"a hit of the cache            {cost.text(1e-3)} ms (target 5)")
    print(f"one adapter, one by one       {one.text()} s")
    print(f"{_WORKING} adapters, one by one       {several.text()} s: {one.median / several.median:.2%} of the rate")
    print(f"one adapter, in a batch       {one_batch.text()} s")
    ratio = one_batch.median / mixed_batch.median
    print(f"{_WORKING} adapters, in a batch       {mixed_batch.text()} s: {ratio:.2%} of the rate")
    print(f"hits {found.hits}, misses {found.misses}, evictions {found.evictions}", flush=True)


def _not_there() -> NoReturn:
    raise AssertionError("it was pinned")


def _loading(dispatcher: LoRADispatcher, names: list[str]) -> float:
    """Return the seconds that loading an adapter in the background takes, mean over adapters."""
    start = time.perf_counter()
    for waiting in dispatcher.preload(*names):
        waiting.result()
    return (time.perf_counter() - start) / len(names)


def _answering(
    dispatcher: LoRADispatcher, queries: list[str], *, is_batch: bool = False
) -> Callable[[list[str]], object]:
    settings = Settings(max_tokens=8)

    def answer(names: list[str]) -> object:
        if is_batch:
            return dispatcher.generate_batch(queries, adapters=names, settings=settings)
        pairs = zip(queries, names, strict=True)
        return [dispatcher.generate(query, adapter=name, settings=settings) for query, name in pairs]

    return answer


_PARTS = ("mixed", "many", "overhead", "crowd")


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(_PARTS), help="What to measure; all where absent.")
@click.option("--seconds", default=120, show_default=True, help="How long the 32 clients ask.")
def main(parts: tuple[str, ...], seconds: int) -> None:
    """Measure dispatchers and servers."""
    print(f"machine: {machine()}")
    wanted = parts or _PARTS
    base = load_base_model(model_folder("smollm2")) if {"mixed", "many"}.intersection(wanted) else None
    for part in wanted:
        with tempfile.TemporaryDirectory(prefix="ual-dispatch-") as folder:
            place = Path(folder)
            if part == "mixed":
                assert base is not None
                mixed(base, place)
            elif part == "many":
                assert base is not None
                many(base, place)
            elif part == "overhead":
                overhead(place)
            else:
                crowd(place, seconds)


if __name__ == "__main__":
    main()
