"""How the Hub's client behaves while this room uses it: how long it waits, and where a token may go.

The client's own session knows no time limit, sleeps as long as a server tells it to, follows a ``Link`` header to any
host with the token in hand, and logs addresses with their signatures. Its session is made by a factory that it lets us
choose; ours looks at requests and answers, but only inside ``conducted``. A factory that somebody else chose is left
alone.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ual_registry.errors import HubError, HubUnavailableError
from ual_registry.hub.answers import Question, cleaned, told_wait_s
from ual_registry.hub.wide import widen

__all__ = ["BACKOFF_S", "WAIT_LIMIT_S", "Conduct", "conducted", "conducting", "install", "retried"]

BACKOFF_S = (1.0, 2.0, 4.0)
"""Seconds before each further try of a call that changes nothing, where the Hub does not tell."""

WAIT_LIMIT_S = 60.0
"""Seconds that one command waits because it was told to; more is an error that says how long."""

_T = TypeVar("_T")
_ANSWER_S = 60.0  # for answers that need work, such as a commit, unless HF_HUB_DOWNLOAD_TIMEOUT says otherwise
_COUNTED = "ual_registry_counted"
_NO_CONNECTION = ("Connect", "Resolution", "Proxy")
"""Parts of the names of errors after which another try is no use, in either HTTP library."""

_WAITING_CODES = {"hub-rate-limit", "hub-unavailable", "hub-timeout"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """What the client may do on behalf of one command.

    Attributes:
        origin: The Hub's origin, which alone may see a token; ``None`` for the usual one.
        wait_limit_s: How many seconds to wait in all because the Hub says so.
        question: What is being asked, for errors.
    """

    origin: str | None = None
    wait_limit_s: float = WAIT_LIMIT_S
    question: Question = field(default_factory=lambda: Question(what="use", repository=""))
    _waited: list[float] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock)

    def count(self, wait_s: float) -> None:
        """Count a wait.

        Raises:
            HubUnavailableError: It would be longer than all waits together may be.
        """
        with self._lock:
            if sum(self._waited) + wait_s <= self.wait_limit_s:
                self._waited.append(wait_s)
                return
        limit = f"{self.wait_limit_s:g} s"
        raise self.question.fault(
            HubUnavailableError,
            code="hub-rate-limit",
            reason=f"the Hub asks to wait {wait_s:g} s, longer than this command waits ({limit} in all)",
            hint=f"try again in {wait_s:g} s",
            context={"wait_s": wait_s, "wait_limit_s": self.wait_limit_s},
        )


_CURRENT: ContextVar[Conduct | None] = ContextVar("ual_registry_hub_conduct", default=None)
_ASKED: ContextVar[Counter[tuple[str, str]] | None] = ContextVar("ual_registry_hub_asked", default=None)
"""How often each thing was asked in one try of ours: more than once where the client has tried again itself."""


@contextlib.contextmanager
def conducting(conduct: Conduct) -> Iterator[None]:
    """Let the client behave by ``conduct`` in this block; threads need a copy of the context."""
    mark = _CURRENT.set(conduct)
    try:
        yield
    finally:
        _CURRENT.reset(mark)


@contextlib.contextmanager
def conducted(question: Question) -> Iterator[None]:
    """Let the client behave in this block as around it, or else as usual; errors speak of ``question``."""
    with conducting(replace(_CURRENT.get() or Conduct(), question=question)):
        yield


def retried(call: Callable[[], _T]) -> _T:
    """Make a call that changes nothing, and again where the Hub or the network was busy.

    What the client, or its library for Xet, has tried again itself is not tried again: waits would multiply.

    Raises:
        HubError: As ``call``; the last one where it does not get better.
    """
    for backoff_s in BACKOFF_S:
        asked: Counter[tuple[str, str]] = Counter()
        mark = _ASKED.set(asked)
        try:
            return call()
        except HubUnavailableError as error:
            if max(asked.values(), default=0) > 1 or isinstance(error.__cause__, RuntimeError):
                raise
            wait_s = _wait_before_retry(error, backoff_s)
        finally:
            _ASKED.reset(mark)
        time.sleep(wait_s)
    return call()


def _wait_before_retry(error: HubError, backoff_s: float) -> float:
    """Return how long to wait.

    Raises:
        HubError: ``error``, where to wait is no use; or the wait is too long.
    """
    cause: Any = error.__cause__
    is_final = "wait_limit_s" in error.context or any(word in type(cause).__name__ for word in _NO_CONNECTION)
    if error.problem_code not in _WAITING_CODES or is_final:
        raise error
    told: Any = error.context.get("wait_s")
    if told is None:
        return backoff_s
    if not getattr(getattr(cause, "response", None), "extensions", {}).get(_COUNTED):
        (_CURRENT.get() or Conduct()).count(told)
    return float(told)


def install() -> None:
    """Let the client make its session as this module says, unless somebody has chosen how it is made."""
    from huggingface_hub import set_client_factory  # noqa: PLC0415  # only where the Hub is used
    from huggingface_hub.utils import _http  # noqa: PLC0415  # the factory in use is told nowhere else

    if _http._GLOBAL_CLIENT_FACTORY is _http.default_client_factory:  # noqa: SLF001  # as said above
        set_client_factory(_client)
    for handler in logging.getLogger("huggingface_hub").handlers:
        if _clean_record not in handler.filters:
            handler.addFilter(_clean_record)


def _clean_record(record: logging.LogRecord) -> bool:
    """Take signatures and tokens out of what the client logs."""
    if _CURRENT.get() is not None:
        record.msg, record.args = cleaned(record.getMessage()), ()
    return True


def _client() -> Any:
    from huggingface_hub.utils._http import default_client_factory  # noqa: PLC0415  # what ours adds to

    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks["request"], _spare_statistics, _count, _limit_time, _guard_token],
        "response": [*hooks["response"], _watch_waits],
    }
    client.send = _ending_unconnected(client.send)  # type: ignore[method-assign]  # wraps its own
    widen(client, lambda: _CURRENT.get() is not None)
    return client


def _ending_unconnected(send: Callable[..., Any]) -> Callable[..., Any]:
    """Let the client give up at once where there is no connection; it would try for half a minute, and say so."""
    import httpx2  # noqa: PLC0415  # only where the Hub is used

    class NoConnectError(httpx2.TransportError):
        """A ``ConnectError`` in a form that the client does not try again after."""

    def sent(request: Any, **options: Any) -> Any:
        try:
            return send(request, **options)
        except httpx2.ConnectError as error:
            if _CURRENT.get() is None:
                raise
            raise NoConnectError(str(error), request=request) from error

    return sent


class _SparedError(Exception):
    """Ends a request of the client that is for its statistics only; it takes any failure of it."""


def _spare_statistics(request: Any) -> None:
    """Refuse to ask for the list of programs that may call this one, which the client would tell the Hub about."""
    if _CURRENT.get() is not None and request.url.path.endswith("/api/agent-harnesses"):
        raise _SparedError


def _count(request: Any) -> None:
    asked = _ASKED.get()
    if asked is not None:
        asked[request.method, str(request.url)] += 1


def _limit_time(request: Any) -> None:
    """Limit the time of a request that nobody has limited; the client has calls that cannot be."""
    from huggingface_hub import constants  # noqa: PLC0415  # only where the Hub is used

    limits = request.extensions.get("timeout") or {}
    if _CURRENT.get() is None or any(limit is not None for limit in limits.values()):
        return
    usual, chosen = constants.DEFAULT_DOWNLOAD_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT
    answer_s = _ANSWER_S if chosen == usual else float(chosen)
    connect_s = float(constants.HF_HUB_ETAG_TIMEOUT)
    request.extensions["timeout"] = {"connect": connect_s, "read": answer_s, "write": answer_s, "pool": answer_s}


def _guard_token(request: Any) -> None:
    """Take the Hub's token from a request that goes elsewhere."""
    conduct = _CURRENT.get()
    if conduct is None or not request.headers.get("authorization", "").startswith("Bearer "):
        return
    if _origin(str(request.url)) not in _hub_origins(conduct):
        del request.headers["authorization"]


def _hub_origins(conduct: Conduct) -> set[tuple[str, str, int | None]]:
    from huggingface_hub import constants  # noqa: PLC0415  # only where the Hub is used

    return {_origin(conduct.origin or constants.ENDPOINT)}


def _watch_waits(response: Any) -> None:
    """Refuse to let the client sleep longer than is allowed."""
    conduct = _CURRENT.get()
    if conduct is None or response.status_code < 400:
        return
    headers = {name.lower(): value for name, value in response.headers.items()}
    wait_s = told_wait_s(response.status_code, headers)
    if wait_s is not None:
        conduct.count(wait_s)
        response.extensions[_COUNTED] = True


_PORTS = {"http": 80, "https": 443}


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
