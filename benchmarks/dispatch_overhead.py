"""What a server adds to an answer, to a reader of sockets and to two clients; the rows of a table in Markdown.

A client takes its own time for every answer and every event. The reader takes as good as none, so that what it sees
more than the process itself is the server's; what a client sees beyond that is the client's.
"""

from __future__ import annotations

import json
import socket
import statistics
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai

from benchmarks.dispatch_server import ADAPTERS, placed, serving
from benchmarks.measure import Times, in_turns
from tests.unit.dispatch.answering.stage import MONEY
from ual_registry.dispatch.dispatcher import LoRADispatcher
from ual_registry.dispatch.generate import Settings

__all__ = ["overhead"]

_TOKENS, _RUNS = 16, 100
_BODY: dict[str, Any] = {"model": "auto", "prompt": MONEY, "temperature": 0, "max_tokens": _TOKENS}
_STREAMED = {**_BODY, "stream": True}


class _Reader:
    """A connection that reads an answer to its end, and knows no more of HTTP than where that is."""

    def __init__(self, url: str) -> None:
        place = urllib.parse.urlsplit(url)
        self._path = place.path
        self._own = socket.create_connection((place.hostname, place.port), timeout=60)
        self._own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, body: Mapping[str, Any]) -> bytes:
        """Return the whole answer to a question."""
        data = json.dumps(body).encode()
        head = f"POST {self._path}/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        self._own.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        found = b""
        while not _is_whole(found):
            part = self._own.recv(1 << 16)
            assert part, "the server went away"
            found += part
        assert found.startswith(b"HTTP/1.1 200 "), found
        return found

    def close(self) -> None:
        self._own.close()


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = head.lower().split(b"\r\n")
    size = next((int(own.partition(b":")[2]) for own in fields if own.startswith(b"content-length:")), None)
    return body.endswith(b"0\r\n\r\n") if size is None else len(body) >= size


def overhead(folder: Path) -> None:
    """Print what a request costs beside the same generation in a process of one's own."""
    place = placed(folder)
    own = LoRADispatcher(
        place.stage.router, place.stage.base, place.registry, encoder=place.stage.encoder, adapters=ADAPTERS
    )
    settings = Settings(max_tokens=_TOKENS)
    with (
        own as dispatcher,
        serving(place) as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as official,
    ):
        reader = _Reader(url)

        def direct() -> str:
            return dispatcher.generate(MONEY, settings=settings, is_plain=True).text

        asked = {"a reader of sockets": _reading(reader), "`httpx`": _httpx(client), "`openai`": _official(official)}
        assert json.loads(reader.ask(_BODY).partition(b"\r\n\r\n")[2])["choices"][0]["text"] == direct()
        tasks = [direct, lambda: dispatcher.route_query(MONEY), *(task for pair in asked.values() for task in pair)]
        alone, routing, *found = in_turns(tasks, runs=_RUNS, warm_up=5)
        reader.close()
    _print(alone, routing, dict(zip(asked, zip(found[::2], found[1::2], strict=True), strict=True)))


def _reading(reader: _Reader) -> tuple[Callable[[], object], Callable[[], object]]:
    return lambda: reader.ask(_BODY), lambda: reader.ask(_STREAMED)


def _httpx(client: httpx.Client) -> tuple[Callable[[], object], Callable[[], object]]:
    def streamed() -> int:
        with client.stream("POST", "/completions", json=_STREAMED) as answer:
            return sum(1 for _ in answer.iter_lines())

    return lambda: client.post("/completions", json=_BODY).json(), streamed


def _official(client: openai.OpenAI) -> tuple[Callable[[], object], Callable[[], object]]:
    return lambda: client.completions.create(**_BODY), lambda: sum(1 for _ in client.completions.create(**_STREAMED))


def _print(alone: Times, routing: Times, asked: Mapping[str, tuple[Times, Times]]) -> None:
    print(f"\n| {_TOKENS} tokens of a tiny model, routed | ms | more, ms |")
    print("|---|---|---|")
    print(f"| in the process itself | {alone.text(1e-3, 1)} | |")
    print(f"| of it, to route | {routing.text(1e-3, 1)} | |")
    for who, (whole, stream) in asked.items():
        print(f"| whole, to {who} | {whole.text(1e-3, 1)} | {_more(whole, alone)} |")
        print(f"| streamed, to {who} | {stream.text(1e-3, 1)} | {_more(stream, alone)} |", flush=True)


def _more(times: Times, alone: Times) -> str:
    """Return the middle of the differences of one turn each, and the middle half of them."""
    found = [(own - other) * 1e3 for own, other in zip(times.samples, alone.samples, strict=True)]
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"
