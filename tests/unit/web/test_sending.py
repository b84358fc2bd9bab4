"""What is sent together, and what is done for a client for as long as the client is there."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from ual_registry.web.failure import ClientGoneError
from ual_registry.web.presence import Presence
from ual_registry.web.sending import GatheringTransport


class FakeTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.written.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.written

    def get_extra_info(self, name: str) -> str:
        return f"its {name}"


def gathering() -> tuple[FakeTransport, GatheringTransport]:
    own = FakeTransport()
    return own, GatheringTransport(cast("Any", own), asyncio.get_running_loop())


def test_what_is_written_in_one_round_is_sent_as_one() -> None:
    async def main() -> list[bytes | str]:
        own, transport = gathering()
        transport.write(b"head ")
        transport.write(b"first")
        assert own.written == []
        await asyncio.sleep(0)
        transport.write(b"")
        await asyncio.sleep(0)
        transport.write(b"last")
        transport.close()
        await asyncio.sleep(0)
        assert transport.get_extra_info("peer") == "its peer"
        return own.written

    assert asyncio.run(main()) == [b"head first", b"last", "closed"]


def test_much_is_not_held_back() -> None:
    async def main() -> list[int]:
        own, transport = gathering()
        transport.write(b"x" * 40_000)
        transport.write(b"x" * 40_000)
        transport.write(b"x")
        sizes = [len(part) for part in own.written]
        await asyncio.sleep(0)
        return [*sizes, len(own.written[-1])]

    assert asyncio.run(main()) == [80_000, 1]


class FakeClient:
    """Leaves when it is told to."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.asked = 0

    async def receive(self) -> dict[str, str]:
        self.asked += 1
        if self.asked == 1:
            return {"type": "http.request"}
        await self.leaves.wait()
        return {"type": "http.disconnect"}


async def forever(done: list[str]) -> None:
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 20)  # nobody may have to end the run of the tests by hand
    finally:
        done.append("ended")


def test_work_ends_where_the_client_goes_away() -> None:
    async def main() -> list[str]:
        client = FakeClient()
        done: list[str] = []
        asyncio.get_running_loop().call_later(0.01, client.leaves.set)
        with pytest.raises(ClientGoneError):
            async with Presence(client.receive):
                await forever(done)
        await asyncio.sleep(0)  # nothing is left to be cancelled
        return done

    assert asyncio.run(main()) == ["ended"]


def test_work_that_is_done_does_not_hear_of_a_client_that_leaves_later() -> None:
    async def main() -> int:
        client = FakeClient()
        async with Presence(client.receive):
            await asyncio.sleep(0)
            client.leaves.set()
        for _ in range(3):
            await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1


def test_a_fault_in_the_work_stays_what_it_is() -> None:
    async def main() -> None:
        async with Presence(FakeClient().receive):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


def test_work_that_somebody_else_ends_is_cancelled() -> None:
    async def work(client: FakeClient, done: list[str]) -> None:
        async with Presence(client.receive):
            await forever(done)

    async def main() -> list[str]:
        done: list[str] = []
        task = asyncio.create_task(work(FakeClient(), done))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return done

    assert asyncio.run(main()) == ["ended"]
