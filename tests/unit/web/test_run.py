"""Parts come from a thread to an event loop: all of them, in their order, and joined where they come closely."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.web.engine import Part, Reply
from ual_registry.web.handover import Handover
from ual_registry.web.run import Run


def parts_of(texts: Sequence[str], gate: threading.Event | None = None) -> Generator[Part, None, None]:
    for number, text in enumerate(texts, start=1):
        if gate is not None and number > 1:
            assert gate.wait(20)
            gate.clear()
        yield Part(text, number, "length" if number == len(texts) else None)


def reply_of(parts: Generator[Part, None, None]) -> Reply:
    decision = Decision(reason=Reason.FORCED, domain=None, adapter="sha256:00")
    return Reply(decision=decision, adapter="sha256:00", is_fallback=False, parts=parts)


async def collected(run: Run, gate: threading.Event | None = None) -> list[Part]:
    await run.reply()
    found = []
    async for part in run.parts():
        found.append(part)
        if gate is not None:
            gate.set()
    return found


async def noted(run: Run, found: list[str]) -> None:
    async for part in run.parts():
        found.append(part.text)  # noqa: PERF401  # it may end with an error


def run_of(texts: Sequence[str], *, is_whole: bool = False, gate: threading.Event | None = None) -> list[Part]:
    async def main() -> list[Part]:
        with ThreadPoolExecutor(1) as threads:
            run = Run(threads, lambda: reply_of(parts_of(texts, gate)), lambda: None, is_whole=is_whole)
            return await collected(run, gate)

    return asyncio.run(main())


def test_parts_that_come_one_after_the_other_stay_parts() -> None:
    found = run_of("abc", gate=threading.Event())
    assert found == [Part("a", 1), Part("b", 2), Part("c", 3, "length")]


def test_parts_that_come_closely_are_joined_and_none_is_lost() -> None:
    texts = [str(number) for number in range(500)]
    found = run_of(texts)
    assert "".join(part.text for part in found) == "".join(texts)
    assert len(found) < len(texts)
    assert (found[-1].tokens, found[-1].finish) == (500, "length")


def test_a_whole_reply_is_one_part() -> None:
    assert run_of("abc", is_whole=True) == [Part("abc", 3, "length")]


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_breaks_on_the_way_is_raised_after_the_parts_before_it(is_whole: bool) -> None:
    def breaking() -> Generator[Part, None, None]:
        yield Part("a", 1)
        raise ZeroDivisionError

    async def main() -> list[str]:
        found: list[str] = []
        with ThreadPoolExecutor(1) as threads:
            run = Run(threads, lambda: reply_of(breaking()), lambda: None, is_whole=is_whole)
            await run.reply()
            with pytest.raises(ZeroDivisionError):
                await noted(run, found)
        return found

    assert asyncio.run(main()) == ([] if is_whole else ["a"])


def test_the_last_item_ends_a_rest_and_no_rest_comes_after_it() -> None:
    async def main() -> list[int]:
        items: Handover[int] = Handover()
        items.put(1)
        threading.Timer(0.02, lambda: items.put(2, is_last=True)).start()
        await asyncio.wait_for(items.rest(600), 20)
        await asyncio.wait_for(items.rest(600), 20)
        return await items.take()

    assert asyncio.run(main()) == [1, 2]
