"""The cache keeps its limit, loads once, and never drops what is in use; the loader proves that adapters act."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.dispatch.answering.stage import Stage, letter_adapter, random_adapter, silent_adapter
from ual_registry.air.adapter import Adapter
from ual_registry.dispatch.acting import AdapterLoader, LoadedAdapter
from ual_registry.dispatch.adapter_cache import AdapterCache, CacheStatistics
from ual_registry.dispatch.mixing import MixingModel
from ual_registry.errors import NumericalError, RouteError, TransferError, UnresolvedModuleError

pytestmark = pytest.mark.filterwarnings("ignore")


def item(name: str, size_bytes: int = 10) -> Callable[[], LoadedAdapter]:
    return lambda: LoadedAdapter(digest=name, updates={}, size_bytes=size_bytes, largest_change=1.0)


def use(cache: AdapterCache, *names: str) -> None:
    for name in names:
        with cache.hold(name, item(name)) as found:
            assert found.digest == name


def held(cache: AdapterCache, names: str) -> str:
    return "".join(name for name in names if cache.holds(name))


def test_the_least_recently_used_goes_first() -> None:
    cache = AdapterCache(30)
    use(cache, "a", "b", "c", "a", "d")
    assert held(cache, "abcd") == "acd"
    use(cache, "b")
    assert held(cache, "abcd") == "abd"
    found = cache.statistics()
    assert found == CacheStatistics(
        adapters=3,
        pinned=0,
        size_bytes=30,
        limit_bytes=30,
        hits=1,
        misses=5,
        loads=5,
        failures=0,
        evictions=2,
    )
    assert found.document()["hit_rate"] == found.hit_rate == 1 / 6
    assert AdapterCache(0).statistics().hit_rate is None


def test_a_pinned_one_stays_and_one_in_use_stays_over_the_limit() -> None:
    cache = AdapterCache(20)
    cache.pin("a")
    use(cache, "a", "b", "c")
    assert held(cache, "abc") == "ac"
    with cache.hold("b", item("b")), cache.hold("c", item("c")):
        assert held(cache, "abc") == "abc"
        assert cache.statistics().size_bytes == 30
    assert held(cache, "abc") == "ab"  # c was let go while b was still in use
    cache.unpin("a")
    use(cache, "c")
    assert held(cache, "abc") == "bc"
    assert cache.statistics().pinned == 0


def test_one_larger_than_the_limit_is_given_and_not_kept() -> None:
    cache = AdapterCache(5)
    use(cache, "a")
    assert held(cache, "a") == ""


def test_an_adapter_that_many_ask_for_is_loaded_once() -> None:
    cache, begun, go, loads = AdapterCache(100), threading.Event(), threading.Event(), []

    def load() -> LoadedAdapter:
        loads.append(1)
        begun.set()
        go.wait(10)
        return item("a")()

    def ask() -> None:
        with cache.hold("a", load) as found:
            assert found.digest == "a"

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go.set()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert (cache.statistics().hits, cache.statistics().misses) == (7, 1)


def test_a_failure_is_told_and_tried_again() -> None:
    cache = AdapterCache(100)

    def fail() -> LoadedAdapter:
        raise RouteError("broken", code="no-effect")

    for _ in range(2):
        with pytest.raises(RouteError, match="broken"), cache.hold("a", fail):
            pass
    use(cache, "a")
    assert (cache.statistics().failures, cache.statistics().loads) == (2, 1)


def test_a_preloaded_adapter_is_there_when_it_is_asked_for() -> None:
    cache = AdapterCache(100)
    cache.preload("a", item("a")).result(timeout=10)
    use(cache, "a")
    assert (cache.statistics().hits, cache.statistics().misses) == (1, 0)

    def fail() -> LoadedAdapter:
        raise RouteError("broken", code="no-effect")

    with pytest.raises(RouteError, match="broken"):
        cache.preload("b", fail).result(timeout=10)
    cache.close()
    with pytest.raises(RouteError, match="the cache is closed"):
        cache.preload("c", item("c"))
    assert held(cache, "abc") == ""


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(RouteError) as caught:
        AdapterCache(-1)
    assert caught.value.message == "cache limit: expected 0 bytes or more, got -1"


@pytest.fixture
def loader(stage: Stage) -> AdapterLoader:
    return AdapterLoader(MixingModel(stage.base.model))


def test_an_adapter_that_acts_is_loaded_with_its_size(stage: Stage, loader: AdapterLoader) -> None:
    adapter = letter_adapter(stage.base, "A")
    found = loader.load(adapter, "sha256:a")
    assert found.digest == "sha256:a"
    assert set(found.updates) == {entry.source for entry in adapter.entries}
    assert found.size_bytes == 4 * adapter.parameter_count
    assert found.largest_change > 1


def test_an_adapter_that_does_nothing_is_refused(stage: Stage, loader: AdapterLoader) -> None:
    with pytest.raises(RouteError) as caught:
        loader.load(silent_adapter(stage.base), "sha256:a")
    assert caught.value.message == "adapter sha256:a: does nothing, every lora_B is zero"
    assert caught.value.problem_code == "no-effect"
    with pytest.raises(RouteError) as caught:
        loader.load(random_adapter(stage.base, 1, 1e-20), "sha256:b")
    assert caught.value.message == "adapter sha256:b: does nothing, the logits of the probe are those of the base model"
    with pytest.raises(NumericalError) as overflown:
        loader.load(random_adapter(stage.base, 1, 1e36), "sha256:c")
    assert overflown.value.message == "adapter sha256:c: the logits of the probe are not finite"


def _changed(adapter: Adapter, **changes: object) -> Adapter:
    first, *rest = adapter.entries
    return Adapter(replace(adapter.manifest, entries=(replace(first, **changes), *rest)), adapter.tensors)  # type: ignore[arg-type]


def test_an_adapter_of_modules_that_are_not_there_or_not_run_is_refused(stage: Stage, loader: AdapterLoader) -> None:
    adapter = random_adapter(stage.base, 1)
    with pytest.raises(UnresolvedModuleError):
        loader.load(_changed(adapter, source="model.layers.9.self_attn.k_proj"), "sha256:a")
    with pytest.raises(TransferError):
        loader.load(_changed(adapter, expert=1), "sha256:a")
    stage.base.model.spare = stage.base.model.get_submodule("model.layers.0.self_attn.k_proj").__class__(32, 16)
    try:
        with pytest.raises(RouteError) as caught:
            loader.load(_changed(adapter, source="spare"), "sha256:a")
    finally:
        del stage.base.model.spare
    assert caught.value.message == "adapter sha256:a: the model does not run 1 of its modules, spare among them"
