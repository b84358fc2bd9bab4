"""A request as a route sees it, and the answer that it gives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tests.hub_server.log import Exchange

__all__ = ["ID", "Answer", "Body", "BrokenOff", "FilePart", "Refused", "Request", "Route", "refusal"]

ID = r"(?P<id>[\w.-]+(?:/[\w.-]+)?)"
"""What stands for the id of a repository in the address of a route."""

_PIECE_BYTES = 1 << 20


class BrokenOff(Exception):  # noqa: N818  # not an error of the server
    """The connection is to be closed without an answer."""


class Refused(Exception):  # noqa: N818  # an answer, not an error of the server
    """The request is refused.

    Args:
        status: The status.
        message: What is wrong, for a human.
        code: The Hub's word for it, by which the client tells errors apart.
        headers: More headers.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}


class Body:
    """The body of a request, read as it comes.

    Args:
        source: Where it comes from.
        length: How long it is; ``None`` where it comes in chunks.
        exchange: Where to note how much was read.
        break_after: Break off after so many bytes.
    """

    def __init__(self, source: BinaryIO, length: int | None, exchange: Exchange, break_after: int | None) -> None:
        self._source = source
        self._left = length
        self._exchange = exchange
        self._break_after = break_after
        self._ended = length == 0

    def pieces(self) -> Iterator[bytes]:
        """Give the body piece by piece.

        Raises:
            BrokenOff: The client went away, or a fault says to break off.
        """
        while not self._ended:
            piece = self._piece()
            self._exchange.received_bytes += len(piece)
            if self._break_after is not None and self._exchange.received_bytes >= self._break_after:
                raise BrokenOff
            if piece:
                yield piece

    def _piece(self) -> bytes:
        want = self._chunk_length() if self._left is None else self._left
        if want == 0:
            self._ended = True
            if self._left is None:
                self._source.readline()
            return b""
        limit = _PIECE_BYTES if self._break_after is None else max(1, self._break_after - self._exchange.received_bytes)
        piece = self._source.read(want if self._left is None else min(want, limit))
        if not piece or (self._left is None and len(piece) < want):
            raise BrokenOff
        if self._left is None:
            self._source.readline()
        else:
            self._left -= len(piece)
            self._ended = self._left == 0
        return piece

    def _chunk_length(self) -> int:
        line = self._source.readline()
        if not line.strip():
            raise BrokenOff
        return int(line.split(b";")[0], 16)

    def read(self) -> bytes:
        """Read what is left."""
        return b"".join(self.pieces())

    def drain(self) -> None:
        """Read what is left and forget it, so that the connection can be used again."""
        for _ in self.pieces():
            pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request.

    Attributes:
        method: The method.
        path: Its path, as it was sent, without the query.
        query: The query's values by name.
        headers: Its headers; names in any case.
        body: Its body.
        arguments: What the route's pattern took from the path, unquoted.
        ignore_range: Whether a range is to be answered with the whole.
        flip: The place that a fault inverts, for routes that do so themselves.
    """

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: Body
    arguments: Mapping[str, str]
    ignore_range: bool = False
    flip: int | None = None

    def json(self) -> Any:
        """Read the body as JSON.

        Raises:
            Refused: It is none.
        """
        try:
            return json.loads(self.body.read())
        except ValueError as error:
            raise Refused(400, "Invalid JSON in body") from error

    def first(self, name: str, default: str = "") -> str:
        """Give the first value of a name of the query."""
        return self.query.get(name, [default])[0]

    def asks(self, name: str) -> bool:
        """Whether a name of the query is set to something true."""
        return self.first(name).lower() in ("1", "true")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """A part of a file, as a body."""

    path: Path
    start: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer.

    Attributes:
        status: The status.
        headers: The headers; the length is added.
        content: The body.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | FilePart = b""

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.length

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
        """Answer with JSON."""
        told = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        return cls(status=status, headers=told, content=json.dumps(value).encode())


def refusal(refused: Refused) -> Answer:
    """Answer as the Hub refuses: the reason in the body and in headers."""
    told = {"X-Error-Message": refused.message, **refused.headers}
    if refused.code:
        told["X-Error-Code"] = refused.code
    return Answer.json({"error": refused.message}, refused.status, told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An endpoint.

    Attributes:
        endpoint: Its name, for the log and for faults.
        methods: The methods that it takes.
        pattern: What the whole path looks like.
        answer: Answers a request.
        budget: Which budget a request counts against.
        flips_itself: Whether the route carries out a ``flip``, which else inverts a byte of its body.
    """

    endpoint: str
    methods: tuple[str, ...]
    pattern: re.Pattern[str]
    answer: Callable[[Request], Answer]
    budget: str = "api"
    flips_itself: bool = False
