"""The door of a server."""

from __future__ import annotations

import asyncio
import socket

import pytest

from ual_registry.web.failure import HttpError
from ual_registry.web.gate import Gate
from ual_registry.web.serve import listen


def test_who_gives_up_waiting_leaves_the_line() -> None:
    async def walk() -> tuple[int, int]:
        gate = Gate(running=1, waiting=2)
        since = await gate.enter()
        first, second = (asyncio.ensure_future(gate.enter()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        gate.leave(since)
        await second
        return gate.running, gate.waiting

    assert asyncio.run(walk()) == (1, 0)


def test_a_place_given_to_who_gave_up_in_the_same_moment_is_handed_on() -> None:
    async def walk() -> tuple[int, int]:
        gate = Gate(running=1, waiting=2)
        since = await gate.enter()
        waiting = asyncio.ensure_future(gate.enter())
        await asyncio.sleep(0)
        gate.leave(since)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return gate.running, gate.waiting

    assert asyncio.run(walk()) == (0, 0)


def test_a_place_is_taken_at_once_only_where_one_is_free() -> None:
    gate = Gate(running=1, waiting=1)
    found = [gate.enter_at_once() is not None for _ in range(2)]
    assert (found, gate.running) == ([True, False], 1)


def test_a_closed_door_lets_nobody_in() -> None:
    async def walk() -> None:
        gate = Gate(running=1, waiting=1)
        gate.close()
        await gate.enter()

    with pytest.raises(HttpError) as caught:
        asyncio.run(walk())
    assert (caught.value.status, caught.value.kind) == (503, "stopping")


def test_a_socket_names_its_protocol_so_that_small_answers_do_not_wait() -> None:
    with listen("127.0.0.1", 0) as own:
        assert own.proto == socket.IPPROTO_TCP  # what asyncio asks before it sets TCP_NODELAY
