"""The dispatcher as a whole: who answers, what happens where nobody can, and that no thread meets another's adapter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from examples.tiny_encoder import sentences
from tests.unit.dispatch.answering.stage import (
    FLIGHT,
    MONEY,
    OUT_OF_SCOPE,
    Stage,
    letter_adapter,
    make_router,
    silent_adapter,
)
from tests.unit.web.running import wait_for
from ual_registry.air.adapter import Adapter
from ual_registry.air.write import write
from ual_registry.dispatch.acting import AdapterLoader, EffectProof, LoadedAdapter
from ual_registry.dispatch.answer import Answer, Fallback, decision_of
from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.dispatch.dispatcher import LoRADispatcher
from ual_registry.dispatch.domains import Domains
from ual_registry.dispatch.generate import Finish, Settings
from ual_registry.dispatch.log import read_log
from ual_registry.errors import (
    BaseMismatchError,
    DigestMismatchError,
    RegistryNotFoundError,
    RouteError,
    StorageError,
)
from ual_registry.registry.registry import Registry

pytestmark = pytest.mark.filterwarnings("ignore")

SHORT = Settings(max_tokens=4)


@pytest.fixture
def registry(stage: Stage, tmp_path: Path) -> Registry:
    return stage.registry(tmp_path / "home")


@pytest.fixture
def make(stage: Stage, registry: Registry) -> Callable[..., LoRADispatcher]:
    def made(**options: object) -> LoRADispatcher:
        given = {"encoder": stage.encoder, "adapters": {"banking": "letter@1", "travel": "letter@2"}, **options}
        return LoRADispatcher(stage.router, stage.base, registry, **given)  # type: ignore[arg-type]

    return made


def add(registry: Registry, folder: Path, name: str, adapter: Adapter) -> str:
    write(adapter, folder / f"{name}.air")
    return registry.add(folder / f"{name}.air", name=name).digest


def test_every_query_is_answered_by_the_adapter_of_its_domain(
    make: Callable[..., LoRADispatcher], registry: Registry
) -> None:
    with make() as dispatcher:
        found = dispatcher.generate_batch([FLIGHT, MONEY, FLIGHT], settings=SHORT)
        single = dispatcher.generate(MONEY, settings=SHORT)
    digests = [str(registry.resolve(f"letter@{number}")) for number in (2, 1, 2)]
    assert [answer.text for answer in found] == ["BBBB", "AAAA", "BBBB"]
    assert [answer.adapter for answer in found] == digests
    assert [answer.decision.adapter for answer in found] == digests
    # A sum over rows of a batch may differ from that of one row in its last bits.
    probabilities = single.decision.scores.probabilities
    assert probabilities == pytest.approx(found[1].decision.scores.probabilities, rel=1e-6)
    scores = replace(found[1].decision.scores, probabilities=probabilities)
    assert single == replace(found[1], decision=replace(found[1].decision, scores=scores))
    assert found[1] == Answer(
        query=MONEY,
        text="AAAA",
        tokens=4,
        finish=Finish.LENGTH,
        adapter=digests[1],
        is_fallback=False,
        decision=found[1].decision,
        effect=EffectProof.NOT_RECORDED,
    )
    assert (found[1].decision.reason, found[1].decision.domain) == (Reason.OK, "banking")
    fields = {"query", "text", "tokens", "finish", "adapter", "is_fallback", "effect", "decision"}
    assert set(found[1].document()) == fields


def test_the_router_s_own_adapters_answer_where_no_reference_is_given(stage: Stage, registry: Registry) -> None:
    digest = str(registry.resolve("letter@3"))
    router = make_router(stage.encoder, {"banking": digest, "travel": "sha256:" + "0" * 64})
    with LoRADispatcher(router, stage.base, registry, encoder=stage.encoder) as dispatcher:
        assert dispatcher.generate(MONEY, settings=SHORT).text == "CCCC"
        decision = dispatcher.route_query(FLIGHT)
    assert (decision.reason, decision.domain, decision.adapter) == (Reason.NO_ADAPTER, "travel", None)
    assert decision.detail == f"sha256:{'0' * 64}: no such artifact in this registry"


def test_an_alias_that_moves_is_followed_at_the_next_call(
    make: Callable[..., LoRADispatcher], registry: Registry
) -> None:
    with make(adapters={"banking": "letter@live"}) as dispatcher:
        assert dispatcher.generate(MONEY, settings=SHORT).text == "CCCC"
        registry.alias("letter", "live", "1")
        assert dispatcher.generate(MONEY, settings=SHORT).text == "AAAA"
        assert dispatcher.route_query(MONEY).adapter == str(registry.resolve("letter@1"))


def test_eight_threads_never_get_another_adapter_s_answer_while_an_alias_moves(
    make: Callable[..., LoRADispatcher], registry: Registry
) -> None:
    letters = {str(registry.resolve(f"letter@{number}")): letter for number, letter in ((1, "A"), (2, "B"), (3, "C"))}
    # A cache of one adapter, so that they come and go all the time.
    dispatcher = make(adapters={"banking": "letter@live", "travel": "letter@2"}, cache_bytes=12_000)
    moved, wrong, late, seen = threading.Event(), list[object](), list[Answer](), set[str]()

    def ask(number: int) -> None:
        try:
            talk(number)
        except Exception as error:  # noqa: BLE001  # a thread would die in silence
            wrong.append(error)

    def talk(number: int) -> None:
        for turn in range(6):
            is_after = moved.is_set()
            texts = [(MONEY, FLIGHT, MONEY)[: 1 + (number + turn) % 3], (FLIGHT,)][turn % 2]
            for answer in dispatcher.generate_batch(texts, settings=SHORT):
                seen.add(answer.text)
                if answer.text != letters[str(answer.adapter)] * 4:
                    wrong.append(answer)
                if answer.query == FLIGHT and answer.text != "BBBB":
                    wrong.append(answer)
                if answer.query == MONEY and is_after and answer.text != "AAAA":
                    late.append(answer)
            if number == 0 and turn == 2:
                registry.alias("letter", "live", "1")
                moved.set()
            if number == 1:
                pieces = dispatcher.stream(FLIGHT, settings=SHORT)
                if "".join(piece.text for piece in pieces) != "BBBB":
                    wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wrong, late) == ([], [])
    assert seen == {"AAAA", "BBBB", "CCCC"}
    assert dispatcher.cache_statistics().adapters == 1
    assert dispatcher.cache_statistics().evictions > 2
    dispatcher.close()


def count_hooks(stage: Stage) -> int:
    return sum(len(module._forward_hooks) for module in stage.base.model.modules())


def test_two_dispatchers_on_one_base_do_not_meet(make: Callable[..., LoRADispatcher], stage: Stage) -> None:
    before = count_hooks(stage)
    first, second = make(), make(adapters={"banking": "letter@3"})
    pieces = first.stream(MONEY, settings=SHORT)
    assert next(pieces).text == "A"
    assert second.generate(MONEY, settings=SHORT).text == "CCCC"
    assert "".join(piece.text for piece in pieces) == "AAA"
    first.close()
    second.close()
    assert count_hooks(stage) == before


def test_dispatchers_of_many_threads_share_one_base(make: Callable[..., LoRADispatcher], stage: Stage) -> None:
    before = count_hooks(stage)

    def ask(number: int) -> list[str]:
        found = []
        for _ in range(3):  # hooks come and go while the others generate
            letter = 1 + number % 3
            with make(adapters={"banking": f"letter@{letter}", "travel": "letter@2"}) as own:
                found += [answer.text for answer in own.generate_batch([MONEY, FLIGHT], settings=SHORT)]
                found.append("".join(piece.text for piece in own.stream(MONEY, settings=SHORT)))
        return found

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(ask, range(6)))
    expected = [["ABC"[number % 3] * 4, "BBBB", "ABC"[number % 3] * 4] * 3 for number in range(6)]
    assert found == expected
    assert count_hooks(stage) == before


def test_an_answer_ends_with_an_error_when_its_dispatcher_is_closed(
    make: Callable[..., LoRADispatcher], stage: Stage
) -> None:
    before = count_hooks(stage)
    dispatcher, begun = make(), threading.Event()
    pieces = dispatcher.stream(MONEY, settings=SHORT)
    assert next(pieces).text == "A"

    def ask() -> BaseException | None:
        try:
            dispatcher.generate(MONEY, settings=Settings(max_tokens=200))
        except RouteError as error:
            return error
        return None

    hook = stage.base.model.register_forward_hook(lambda *_: begun.set())  # a token is there, and others are to come
    with hook, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask)
        assert begun.wait(20)
        dispatcher.close()
        error = asked.result()
    assert isinstance(error, RouteError)
    assert (error.problem_code, error.message) == ("closed", "the dispatcher was closed")
    for call in (lambda: next(pieces), lambda: dispatcher.generate(FLIGHT), lambda: dispatcher.preload("letter@3")):
        with pytest.raises(RouteError) as caught:
            call()
        assert caught.value.problem_code == "closed"
    dispatcher.close()
    assert count_hooks(stage) == before


@pytest.mark.parametrize(
    "failure",
    [
        (RuntimeError("boom"), None),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out-of-memory"),
        (MemoryError(), "out-of-memory"),
        (KeyboardInterrupt(), None),
    ],
)
def test_what_fails_in_the_engine_keeps_its_decision(
    failure: tuple[BaseException, str | None],
    make: Callable[..., LoRADispatcher],
    stage: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised, code = failure
    with make(log=tmp_path / "log.jsonl") as dispatcher:
        expected = dispatcher.generate(MONEY, settings=SHORT).decision

        def fail(*_: object, **__: object) -> None:
            raise raised

        monkeypatch.setattr(stage.base.model, "forward", fail)
        for call in (dispatcher.generate, lambda query: next(dispatcher.stream(query))):
            with pytest.raises(RouteError if code else type(raised)) as caught:
                call(MONEY)
            assert decision_of(caught.value) == expected
            if isinstance(caught.value, RouteError):
                assert (caught.value.problem_code, caught.value.__cause__) == (code, raised)
    logged = [(row.query, row.domain, row.adapter) for row in read_log(tmp_path / "log.jsonl")]
    assert logged == [(MONEY, "banking", expected.adapter)] * 3


def test_who_waits_for_an_adapter_that_fails_keeps_a_decision_of_their_own(
    stage: Stage,
    make: Callable[..., LoRADispatcher],
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add(registry, tmp_path, "silent", silent_adapter(stage.base))
    load = AdapterLoader.load
    with make(adapters={"banking": "silent", "travel": "silent"}) as dispatcher:

        def load_when_all_wait(own: AdapterLoader, adapter: Adapter, digest: str) -> LoadedAdapter:
            wait_for(lambda: dispatcher.cache_statistics().hits == 7)
            return load(own, adapter, digest)

        monkeypatch.setattr(AdapterLoader, "load", load_when_all_wait)

        def ask(query: str) -> BaseException | None:
            try:
                dispatcher.generate(query)
            except RouteError as error:
                return error
            return None

        with ThreadPoolExecutor(8) as threads:
            errors = list(threads.map(ask, [MONEY, FLIGHT] * 4))
        counts = dispatcher.cache_statistics()
    assert (counts.hits, counts.misses) == (7, 1)
    found = [
        decision_of(error) for error in errors if isinstance(error, RouteError) and error.problem_code == "no-effect"
    ]
    assert [own.domain for own in found if own is not None] == ["banking", "travel"] * 4


def _upper(query: str, decision: Decision) -> str | None:
    return "letter@3" if decision.reason is Reason.OUT_OF_SCOPE else None


@pytest.mark.parametrize(("fallback", "number"), [("base", None), ("letter@3", 3), (_upper, 3)])
def test_a_query_from_elsewhere_is_answered_by_the_fallback(
    make: Callable[..., LoRADispatcher], registry: Registry, fallback: Fallback, number: int | None
) -> None:
    with make(fallback=fallback) as dispatcher:
        found = dispatcher.generate(OUT_OF_SCOPE, settings=SHORT)
    expected = None if number is None else str(registry.resolve(f"letter@{number}"))
    assert (found.is_fallback, found.adapter) == (True, expected)
    assert (found.decision.reason, found.decision.adapter) == (Reason.OUT_OF_SCOPE, None)
    assert (found.text == "CCCC") == (number == 3)


def test_a_refused_query_is_an_error_that_says_why(make: Callable[..., LoRADispatcher], tmp_path: Path) -> None:
    with make(fallback="refuse", log=tmp_path / "log.jsonl") as dispatcher:
        with pytest.raises(RouteError) as caught:
            dispatcher.generate(OUT_OF_SCOPE, settings=SHORT)
        dispatcher.generate(MONEY, settings=SHORT)
    assert caught.value.message == "no adapter answers 'moss fox rain': out_of_scope"
    assert caught.value.problem_code == "refused"
    lines = [(row.query, row.reason) for row in read_log(tmp_path / "log.jsonl")]
    assert lines == [(OUT_OF_SCOPE, "out_of_scope"), (MONEY, "ok")]


def test_a_forced_adapter_answers_whatever_is_asked(make: Callable[..., LoRADispatcher], registry: Registry) -> None:
    with make(encoder=None) as dispatcher:
        found = dispatcher.generate(OUT_OF_SCOPE, adapter="letter@3", settings=SHORT)
    digest = str(registry.resolve("letter@3"))
    assert found.text == "CCCC"
    assert found.decision == Decision(reason=Reason.FORCED, domain=None, adapter=digest)


def test_forced_and_routed_queries_mix(make: Callable[..., LoRADispatcher]) -> None:
    with make() as dispatcher:
        found = dispatcher.generate_batch(
            [MONEY, MONEY, FLIGHT],
            adapters=["letter@3", None, None],
            prompts=["x", "a longer prompt", "y"],
            settings=[Settings(max_tokens=count) for count in (1, 2, 3)],
        )
    assert [answer.text for answer in found] == ["C", "AA", "BBB"]


def test_an_adapter_of_another_base_is_incompatible_and_never_run(
    stage: Stage, make: Callable[..., LoRADispatcher], registry: Registry, tmp_path: Path
) -> None:
    adapter = letter_adapter(stage.base, "Z")
    other = replace(adapter.manifest.base_model, id="owner/other", weights_digest="sha256:" + "9" * 64)
    digest = add(registry, tmp_path, "foreign", Adapter(replace(adapter.manifest, base_model=other), adapter.tensors))
    why = (
        f"made for owner/other with weights_digest sha256:{'9' * 64}, "
        f"not for tiny with {stage.base.base.weights_digest}"
    )
    with make(adapters={"banking": "foreign"}) as dispatcher:
        found = dispatcher.generate(MONEY, settings=SHORT)
        assert (found.decision.reason, found.decision.detail) == (Reason.INCOMPATIBLE, f"foreign: {why}")
        assert (found.adapter, found.is_fallback) == (None, True)
        for call in (
            lambda: dispatcher.generate(MONEY, adapter="foreign"),
            lambda: dispatcher.register_domain("banking", "foreign"),
            lambda: dispatcher.preload("foreign"),
        ):
            with pytest.raises(BaseMismatchError) as caught:
                call()
            assert caught.value.message == f"foreign: {why}"
    with make(adapters={"banking": "foreign"}, is_any_base=True) as dispatcher:
        assert dispatcher.generate(MONEY, settings=SHORT).adapter == digest


def test_an_adapter_that_does_not_act_is_an_error(
    stage: Stage, make: Callable[..., LoRADispatcher], registry: Registry, tmp_path: Path
) -> None:
    digest = add(registry, tmp_path, "silent", silent_adapter(stage.base))
    with make(adapters={"banking": "silent"}) as dispatcher:
        for ask in (dispatcher.generate, dispatcher.stream):
            with pytest.raises(RouteError) as caught:
                ask(MONEY)
            assert caught.value.message == f"adapter {digest}: does nothing, every lora_B is zero"


def test_adapters_in_files_are_followed_when_the_file_changes(
    stage: Stage, make: Callable[..., LoRADispatcher], tmp_path: Path
) -> None:
    path = tmp_path / "own.air"
    write(letter_adapter(stage.base, "X"), path)
    with make(adapters={"banking": str(path)}) as dispatcher:
        assert dispatcher.generate(MONEY, settings=SHORT).text == "XXXX"
        write(letter_adapter(stage.base, "Y"), path)
        assert dispatcher.generate(MONEY, settings=SHORT).text == "YYYY"
        path.unlink()
        assert dispatcher.route_query(MONEY).reason is Reason.NO_ADAPTER
        with pytest.raises(StorageError):
            dispatcher.generate(MONEY, adapter=str(path))
        with pytest.raises(RegistryNotFoundError):
            dispatcher.generate(MONEY, adapter="unknown")


@pytest.mark.parametrize("is_there", [True, False])
def test_bytes_that_left_a_named_file_are_found_in_the_registry(
    stage: Stage, make: Callable[..., LoRADispatcher], registry: Registry, tmp_path: Path, is_there: bool
) -> None:
    named, alone = tmp_path / "named.air", tmp_path / "alone.air"
    digest, other = str(registry.get("letter@1", named)), str(write(letter_adapter(stage.base, "X"), alone))
    with make(adapters={"banking": str(named), "travel": str(alone)}, cache_bytes=0) as dispatcher:
        assert [dispatcher.generate(query, settings=SHORT).text for query in (MONEY, FLIGHT)] == ["AAAA", "XXXX"]
        for path in (named, alone):
            path.unlink()
            if is_there:
                write(letter_adapter(stage.base, "Y"), path)
        assert dispatcher.generate(MONEY, adapter=digest, settings=SHORT).text == "AAAA"
        assert dispatcher.adapter_file(digest) == registry.find(digest)
        with pytest.raises(DigestMismatchError if is_there else StorageError):
            dispatcher.generate(FLIGHT, adapter=other, settings=SHORT)


def test_a_named_file_of_the_registry_itself_is_compared_too(
    stage: Stage, make: Callable[..., LoRADispatcher], registry: Registry
) -> None:
    digest = str(registry.resolve("letter@1"))
    named = registry.find(digest)
    with make(adapters={"banking": str(named)}, cache_bytes=0) as dispatcher:
        assert dispatcher.generate(MONEY, settings=SHORT).text == "AAAA"
        write(letter_adapter(stage.base, "Y"), named)
        with pytest.raises(DigestMismatchError):
            dispatcher.generate(MONEY, adapter=digest, settings=SHORT)


def test_adapters_are_loaded_before_they_are_needed_and_pinned(
    make: Callable[..., LoRADispatcher], registry: Registry
) -> None:
    with make(cache_bytes=0) as dispatcher:
        digest = dispatcher.pin("letter@2")
        for done in dispatcher.preload("letter@2", "letter@1"):
            done.result(timeout=60)
        assert dispatcher.generate(FLIGHT, settings=SHORT).text == "BBBB"
        found = dispatcher.cache_statistics()
        assert (found.adapters, found.pinned, found.hits, found.misses, found.loads) == (1, 1, 1, 0, 2)
        dispatcher.unpin(digest)
        assert dispatcher.cache_statistics().adapters == 0


def test_a_stream_that_nobody_reads_holds_nothing(make: Callable[..., LoRADispatcher]) -> None:
    with make(cache_bytes=0) as dispatcher:
        dispatcher.stream(MONEY, settings=SHORT)
        begun = dispatcher.stream(MONEY, settings=SHORT)
        assert next(begun).text == "A"
        assert dispatcher.cache_statistics().adapters == 1
        begun.close()  # type: ignore[attr-defined]  # a generator has it
        assert dispatcher.cache_statistics().adapters == 0


def test_a_stream_loads_its_adapter_once_even_where_the_cache_keeps_none(make: Callable[..., LoRADispatcher]) -> None:
    with make(cache_bytes=0) as dispatcher:
        assert "".join(piece.text for piece in dispatcher.stream(MONEY, settings=SHORT)) == "AAAA"
        found = dispatcher.cache_statistics()
        assert (found.loads, found.hits, found.misses, found.adapters) == (1, 0, 1, 0)


def test_domains_are_registered_trained_saved_and_loaded(stage: Stage, registry: Registry, tmp_path: Path) -> None:
    with LoRADispatcher(base=stage.base, registry=registry, encoder=stage.encoder, fallback="letter@3") as made:
        made.register_domain("banking", "letter@1", sentences("banking", 40))
        made.register_domain("travel", "letter@live")
        report = made.train_router({"travel": sentences("travel", 40)}, name="both")
        assert (report.examples, made.domains) == (80, ("banking", "travel"))
        assert [answer.text for answer in made.generate_batch([MONEY, FLIGHT], settings=SHORT)] == ["AAAA", "CCCC"]
        overlap = made.analyze_domain_overlap()
        assert overlap.names == ("banking", "travel")
        made.save(tmp_path / "saved")
    assert made.router is not None
    assert [domain.adapter for domain in made.router.manifest.domains] == [
        str(registry.resolve(f"letter@{number}")) for number in (1, 3)
    ]
    registry.alias("letter", "live", "2")
    with LoRADispatcher.load(tmp_path / "saved", stage.folder, registry, encoder=stage.encoder) as found:
        assert found.fallback == "letter@3"
        assert found.generate(FLIGHT, settings=SHORT).text == "BBBB"
        with pytest.raises(StorageError):
            found.save(tmp_path / "saved")
        found.fallback = _upper
        with pytest.raises(RouteError, match="the fallback is a function"):
            found.save(tmp_path / "saved", force=True)
    (tmp_path / "saved" / "dispatcher.json").write_text('{"version": "2.0"}')
    with pytest.raises(RouteError) as caught:
        LoRADispatcher.load(tmp_path / "saved")
    assert caught.value.problem_code == "dispatcher"


def test_examples_that_threads_add_at_once_are_all_kept() -> None:
    domains = Domains(None, None, {})

    def add_some(thread: int) -> None:
        for number in range(100):
            domains.extend({"banking": [f"{thread} {number}"], "empty": []})

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(add_some, range(8))) == [None] * 8
    found = domains.examples
    assert list(found) == ["banking"]
    assert sorted(found["banking"]) == sorted(f"{thread} {number}" for thread in range(8) for number in range(100))


def test_a_prompt_is_counted_and_the_file_of_an_adapter_is_found(
    make: Callable[..., LoRADispatcher], stage: Stage, registry: Registry, tmp_path: Path
) -> None:
    named = tmp_path / "named.air"
    digest = str(write(letter_adapter(stage.base, "D"), named))
    with make(adapters={"banking": str(named)}) as dispatcher:
        read = dispatcher.read_prompt("money")
        assert len(read.ids) == 5
        assert dispatcher.generate(MONEY, settings=SHORT).text == "DDDD"
        assert dispatcher.adapter_file(digest) == named
        first = str(registry.resolve("letter@1"))
        assert dispatcher.adapter_file(first) == registry.find(first)


def test_a_batch_larger_than_one_pass_keeps_its_order(make: Callable[..., LoRADispatcher]) -> None:
    asked = [MONEY if place % 3 else FLIGHT for place in range(40)]
    with make() as dispatcher:
        found = dispatcher.generate_batch(asked, settings=Settings(max_tokens=1))
    assert [answer.text for answer in found] == ["A" if query == MONEY else "B" for query in asked]
    assert [answer.query for answer in found] == asked


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        ({}, lambda own: own.generate(" "), "query 1 is empty"),
        ({}, lambda own: own.route_queries([MONEY, ""]), "query 2 is empty"),
        ({"encoder": None}, lambda own: own.route_query(MONEY), "there is no sentence encoder"),
        (
            {},
            lambda own: own.generate("x" * 300),
            "the prompt has 300 tokens, expected fewer than the 256 that tiny can read",
        ),
        ({}, lambda own: own.analyze_domain_overlap(), "overlap: no example is given"),
        ({}, lambda own: own.analyze_domain_overlap({"law": ["x"]}), "overlap: the router has no domain 'law'"),
        ({}, lambda own: own.train_router(), "no domain is given"),
        (
            {},
            lambda own: own.generate_batch([MONEY, FLIGHT], prompts=["x"]),
            "prompts: expected one for each of 2 queries, got 1",
        ),
        (
            {},
            lambda own: own.generate_batch([MONEY], adapters=[None, None]),
            "adapters: expected one for each of 1 queries, got 2",
        ),
        (
            {},
            lambda own: own.generate_batch([MONEY], settings=[]),
            "settings: expected one for each of 1 queries, got 0",
        ),
    ],
)
def test_what_cannot_be_done_is_told(
    make: Callable[..., LoRADispatcher],
    options: dict[str, object],
    call: Callable[[LoRADispatcher], object],
    message: str,
) -> None:
    with make(**options) as dispatcher, pytest.raises(RouteError) as caught:
        call(dispatcher)
    assert caught.value.message == message


def test_parts_that_are_missing_are_named(stage: Stage, encoder_folder: Path) -> None:
    with pytest.raises(RouteError, match="there is no router"):
        LoRADispatcher(encoder=encoder_folder).route_query(MONEY)
    with pytest.raises(RouteError, match="there is no base model to generate with"):
        LoRADispatcher(stage.router, encoder=stage.encoder).generate(MONEY)
    other = replace(stage.encoder, identity=replace(stage.encoder.identity, weights_digest="sha256:" + "1" * 64))
    with pytest.raises(RouteError, match="weights_digest"):
        LoRADispatcher(stage.router, encoder=other)
