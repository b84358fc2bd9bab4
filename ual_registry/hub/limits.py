"""How many requests the Hub allows, and holding requests back before more are sent.

The Hub counts requests by kind (API, files, pages) in windows of some minutes, and tells with each answer how many are
left. What is told is believed; nothing is assumed: where nothing is known yet, or a window is over, one request alone
goes ahead, and the others wait for its answer. So a budget that others use too is never overdrawn by a burst.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from ual_registry.errors import HubUnavailableError
from ual_registry.hub.told import Told

if TYPE_CHECKING:
    import httpx2

__all__ = ["LONGEST_WAIT_S", "Limits", "StoppedError", "current", "patiently"]

LONGEST_WAIT_S = 900.0
"""How long a request is held back at most, in seconds; where more is told, it is refused."""

T = TypeVar("T")

_LONGEST = "longest_wait_s"
_REFUSALS = 20  # of one call, each waited for
_ROUNDING_S = 1.0  # RateLimit tells whole seconds, which may have been cut
_FIRST_PAUSE_S = 1.0  # after "too many requests" that does not say for how long
_LONGEST_PAUSE_S = 60.0
_LOOK_AGAIN_S = 0.5  # while the answer of another request is waited for, whose thread may have died
_TOO_MANY = 429
_BUSY = 503

_KINDS = {"resolve": "resolvers", "api": "api", "page": "pages"}
"""What the Hub calls the budget of each kind of address, until it tells otherwise."""


class StoppedError(BaseException):
    """Ends a request that was held back when everything is to stop; no ``except Exception`` on its way eats it."""


@dataclass(slots=True)
class _Budget:
    """What is known of one budget.

    Attributes:
        left: The lowest number told in this window; ``None`` where nothing is known.
        resets_at: When the window is over.
        held_until: Before this, no request at all.
        is_counted: Whether it is counted at all, as far as is known.
        flying: Threads that wait for an answer, and how many requests had stayed untold when theirs was sent.
        untold: How many requests were sent whose answer told nothing, or never came.
        pause_s: How long to wait after the next refusal that does not say for how long.
    """

    left: int | None = None
    resets_at: float = math.inf
    held_until: float = -math.inf
    is_counted: bool = True
    flying: dict[threading.Thread, int] = field(default_factory=dict)
    untold: int = 0
    pause_s: float = _FIRST_PAUSE_S

    def wait_s(self, now: float) -> float:
        """Return for how long a request must be held back now; infinite until another one is answered."""
        if now < self.held_until:
            return self.held_until - now
        if not self.is_counted:
            return 0.0
        if now >= self.resets_at:
            self.left, self.resets_at = None, math.inf
        if self.left is None:
            return math.inf if self.flying else 0.0
        if len(self.flying) < self.left:  # what flies may be counted in what was told, or not yet
            return 0.0
        return math.inf if self.left and self.flying else self.resets_at - now

    def learn(self, told: Told, now: float, *, untold_before: int) -> None:
        """Take in what an answer tells; what stayed untold since its request was sent may not be counted in it."""
        if told.remaining is not None and told.reset_s is not None:
            self.is_counted = True
            left = max(0, told.remaining - (self.untold - untold_before))
            self.left = left if self.left is None else min(self.left, left)
            self.resets_at = min(self.resets_at, now + told.reset_s + _ROUNDING_S)
        elif self.left is None:
            self.is_counted = False
        else:
            self.take()

    def take(self) -> None:
        """Count a request whose answer told nothing, or never came."""
        self.untold += 1
        if self.left:
            self.left -= 1

    def refuse(self, told: Told, now: float) -> None:
        """Take in a refusal: wait as long as told, then ask with one request."""
        wait_s = told.wait_s
        if wait_s is None:
            wait_s, self.pause_s = self.pause_s, min(2 * self.pause_s, _LONGEST_PAUSE_S)
        self.held_until = max(self.held_until, now + wait_s)
        self.left, self.resets_at, self.is_counted = None, math.inf, True


class Limits:
    """Holds requests back as the Hub tells; one object serves many threads.

    Args:
        longest_wait_s: How long a request is held back at most, in seconds.
        clock: Tells seconds; for tests.
        sleep: Waits on a condition for so many seconds at most; for tests.
    """

    def __init__(
        self,
        *,
        longest_wait_s: float = LONGEST_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        self._longest_wait_s = longest_wait_s
        self._clock = clock
        self._sleep = sleep
        self._changed = threading.Condition()
        self._budgets: dict[tuple[str, str], _Budget] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._flights: dict[threading.Thread, _Budget] = {}
        self._waiting: dict[threading.Thread, float] = {}
        self._is_stopped = False

    @property
    def waits_until(self) -> float | None:
        """When the first of the requests that are held back by a told time goes on; ``None`` where none is."""
        with self._changed:
            return min(self._waiting.values(), default=None)

    def stop(self) -> None:
        """Hold nothing back any more: every request from now on, and each that waits, ends."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def before(self, url: str) -> None:
        """Wait until a request may be sent to ``url``.

        Raises:
            HubUnavailableError: The Hub tells a longer wait than is accepted.
            StoppedError: Everything is to stop.
        """
        thread = threading.current_thread()
        with self._changed:
            self._lose(thread)  # a thread sends one request at a time, so the one before was never answered
            try:
                budget = self._wait(url, thread)
            finally:
                self._waiting.pop(thread, None)
            budget.flying[thread] = budget.untold
            self._flights[thread] = budget

    def after(self, url: str, status: int, told: Told) -> None:
        """Take in what the answer from ``url`` tells of budgets."""
        with self._changed:
            left_from, untold_before = self._land(threading.current_thread())
            kind = _kind_of(url)
            if told.resource is not None:
                self._names[kind] = told.resource
            budget, now = self._budget(kind), self._clock()
            if budget is not left_from:
                untold_before = 0
            if status == _TOO_MANY or (status == _BUSY and told.retry_after_s is not None):
                budget.refuse(told, now)
            else:
                budget.learn(told, now, untold_before=untold_before)
                budget.pause_s = _FIRST_PAUSE_S
            self._changed.notify_all()

    def _wait(self, url: str, thread: threading.Thread) -> _Budget:
        while True:
            if self._is_stopped:
                raise StoppedError
            for other in [other for other in self._flights if not other.is_alive()]:
                self._lose(other)
            budget, now = self._budget(_kind_of(url)), self._clock()  # an answer may have told another budget
            wait_s = budget.wait_s(now)
            if wait_s <= 0:
                return budget
            if math.isinf(wait_s):
                wait_s = _LOOK_AGAIN_S
            elif wait_s > self._longest_wait_s + _ROUNDING_S:
                raise _too_long(url, wait_s, self._longest_wait_s)
            else:
                self._waiting[thread] = now + wait_s
            self._sleep(self._changed, wait_s)

    def _lose(self, thread: threading.Thread) -> None:
        budget, _ = self._land(thread)
        if budget is not None:
            budget.take()  # the Hub may have counted it

    def _land(self, thread: threading.Thread) -> tuple[_Budget | None, int]:
        budget = self._flights.pop(thread, None)
        if budget is None:
            return None, 0
        self._changed.notify_all()
        return budget, budget.flying.pop(thread, 0)

    def _budget(self, kind: tuple[str, str]) -> _Budget:
        name = self._names.get(kind, _KINDS[kind[1]])
        return self._budgets.setdefault((kind[0], name), _Budget())

    @contextlib.contextmanager
    def installed(self) -> Iterator[Limits]:
        """Let every request of ``huggingface_hub`` in this process pass here until the block ends.

        Its client may make a new session at any time, so the way in which sessions are made is what is changed.
        """
        from huggingface_hub import set_client_factory  # noqa: PLC0415  # only where the Hub is used
        from huggingface_hub.utils import _http  # noqa: PLC0415  # as above

        before = _http._GLOBAL_CLIENT_FACTORY  # noqa: SLF001  # nothing public tells it

        def limited() -> httpx2.Client:
            client = before()
            client.event_hooks["request"].append(lambda request: self.before(str(request.url)))
            client.event_hooks["response"].insert(0, self._answered)  # before any that may raise
            return client

        set_client_factory(limited)
        _INSTALLED.append(self)
        try:
            yield self
        finally:
            _INSTALLED.remove(self)
            set_client_factory(before)

    def _answered(self, response: httpx2.Response) -> None:
        self.after(str(response.request.url), response.status_code, Told.read(response.headers))


_INSTALLED: list[Limits] = []


def current() -> Limits | None:
    """Return what holds back the requests of this process; ``None`` where nothing does."""
    return _INSTALLED[-1] if _INSTALLED else None


def patiently(call: Callable[[], T]) -> T:
    """Make a call that may be made again, and again where the Hub said to wait: the next request is held back so long.

    It is for a Hub whose ``wait_limit_s`` is 0, so that its client ends a call instead of sleeping where nobody can
    stop it.

    Raises:
        HubUnavailableError: The Hub tells a longer wait than is accepted, or refuses too often.
    """
    for _ in range(_REFUSALS):
        try:
            return call()
        except HubUnavailableError as error:
            if error.problem_code != "hub-rate-limit" or _LONGEST in error.context or not error.context.get("wait_s"):
                raise
    return call()


def _kind_of(url: str) -> tuple[str, str]:
    """Return the server and the kind of an address: a file, an API call or a page."""
    parts = urlsplit(url)
    if "/resolve/" in parts.path or parts.path.startswith("/api/resolve-cache/"):
        return parts.netloc, "resolve"
    return parts.netloc, "api" if parts.path.startswith("/api/") else "page"


def _too_long(url: str, wait_s: float, longest_s: float) -> HubUnavailableError:
    return HubUnavailableError(
        f"{urlsplit(url).netloc} tells to wait {math.ceil(wait_s)} s before the next request, over {longest_s:g} s",
        code="hub-rate-limit",
        context={"wait_s": math.ceil(wait_s), _LONGEST: longest_s},
        hint="try again later; what is done stays done",
    )
