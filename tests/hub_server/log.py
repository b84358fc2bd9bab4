"""What was asked of the origins, in the order of asking."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["Exchange", "Log"]

_OF_INTEREST = ("authorization", "content-type", "range", "user-agent", "x-hf-download-counter")


@dataclass(slots=True, kw_only=True)
class Exchange:
    """A request and what became of it.

    Attributes:
        origin: ``hub``, ``cdn`` or ``cas``.
        endpoint: The name of the route; ``""`` where there is none.
        method: The method.
        path: The path with its query.
        headers: The request's headers of interest, by name in lower case.
        status: The status that was sent, or 0 while or where none was.
        received_bytes: Bytes of the request's body that were read.
        sent_bytes: Bytes of the answer's body that were handed to the socket.
        fault: What went wrong on purpose, or ``None``.
    """

    origin: str
    endpoint: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    fault: str | None = None

    def __str__(self) -> str:
        fault = f" ({self.fault})" if self.fault else ""
        return f"{self.origin} {self.endpoint or '?'}: {self.method} {self.path} -> {self.status or 'no answer'}{fault}"


class Log:
    """Exchanges of all origins; safe between threads, since a test reads it while servers write."""

    def __init__(self) -> None:
        self._exchanges: list[Exchange] = []
        self._lock = threading.Lock()

    def begin(self, origin: str, endpoint: str, method: str, path: str, headers: Mapping[str, str]) -> Exchange:
        """Note a request; the caller fills in what becomes of it."""
        kept = {name: headers[name] for name in _OF_INTEREST if headers.get(name) is not None}
        exchange = Exchange(origin=origin, endpoint=endpoint, method=method, path=path, headers=kept)
        with self._lock:
            self._exchanges.append(exchange)
        return exchange

    def of(self, *endpoints: str) -> list[Exchange]:
        """Give the exchanges of some endpoints."""
        return [exchange for exchange in self if exchange.endpoint in endpoints]

    def endpoints(self) -> list[str]:
        """Name the endpoint of each exchange, in order."""
        return [exchange.endpoint for exchange in self]

    def clear(self) -> None:
        """Forget what was asked so far."""
        with self._lock:
            self._exchanges.clear()

    def __iter__(self) -> Iterator[Exchange]:
        with self._lock:
            return iter(list(self._exchanges))

    def __len__(self) -> int:
        return len(self._exchanges)

    def __getitem__(self, index: int) -> Exchange:
        return self._exchanges[index]

    def __str__(self) -> str:
        return "\n".join(str(exchange) for exchange in self)
