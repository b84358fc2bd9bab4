"""Requests are held back as the Hub tells, one thread or many, and never longer or shorter."""

from __future__ import annotations

import datetime
import math
import random
import threading
import time
from collections.abc import Callable

import httpx2
import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils import _http
from huggingface_hub.utils._http import close_session, get_session

from ual_registry.errors import HubUnavailableError
from ual_registry.hub.limits import Limits, StoppedError, patiently
from ual_registry.hub.told import Told

API = "https://hub.example/api/models/org/name"
FILE = "https://hub.example/org/name/resolve/main/adapter.air"
PAGE = "https://hub.example/org/name.git/info/lfs/objects/batch"
NOTHING = Told()


def told(remaining: int, reset_s: int, resource: str = "api") -> Told:
    return Told(resource=resource, remaining=remaining, reset_s=reset_s)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Told()),
        ({"ratelimit": '"api";r=0;t=55'}, told(0, 55)),
        ({"ratelimit": '"api" ; t = 7 ; r = 499'}, told(499, 7)),
        ({"ratelimit": '"resolvers";r=3;t=1, "api";r=9;t=2'}, told(3, 1, "resolvers")),
        ({"ratelimit": '"api";r=many;t=soon'}, Told()),
        ({"ratelimit": '"api";r=-1;t=5'}, Told(resource="api", reset_s=5)),
        ({"ratelimit": "api;r=0;t=55"}, Told()),
        ({"ratelimit-policy": '"fixed window";"api";q=500;w=300'}, Told(window_s=300)),
        ({"ratelimit-policy": "q=500"}, Told()),
        ({"retry-after": " 12 "}, Told(retry_after_s=12.0)),
        ({"retry-after": "-1"}, Told()),
        ({"retry-after": "soon"}, Told()),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, Told(retry_after_s=30.0)),
        ({"retry-after": "Wed, 21 Oct 2015 07:00:00 GMT"}, Told(retry_after_s=0.0)),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 -0000"}, Told()),
        (
            {"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"x";"api";q=5;w=60', "retry-after": "9"},
            Told(resource="api", remaining=0, reset_s=55, window_s=60, retry_after_s=9.0),
        ),
    ],
)
def test_headers_are_read_and_what_is_not_understood_is_not_told(headers: dict[str, str], expected: Told) -> None:
    now = datetime.datetime(2015, 10, 21, 7, 28, tzinfo=datetime.UTC)
    assert Told.read(headers, now=now) == expected


@pytest.mark.parametrize(
    ("answer", "wait_s"),
    [
        (Told(retry_after_s=2.0, remaining=0, reset_s=9, window_s=60), 2.0),
        (Told(remaining=0, reset_s=9, window_s=60), 9),
        (Told(remaining=4, reset_s=9, window_s=60), 60),
        (Told(remaining=4, reset_s=9), None),
        (Told(), None),
    ],
)
def test_a_refusal_tells_how_long_to_wait(answer: Told, wait_s: float | None) -> None:
    assert answer.wait_s == wait_s


class FakeTime:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def limits(self, **options: float) -> Limits:
        return Limits(clock=lambda: self.now, sleep=self._sleep, **options)

    def _sleep(self, _: threading.Condition, duration_s: float) -> None:
        self.slept.append(duration_s)
        self.now += duration_s


def exchange(limits: Limits, url: str, answer: Told = NOTHING, status: int = 200) -> None:
    limits.before(url)
    limits.after(url, status, answer)


def test_an_empty_budget_is_waited_for_with_the_second_that_rounding_may_hide() -> None:
    fake = FakeTime()
    limits = fake.limits()
    exchange(limits, API, told(1, 20))
    exchange(limits, API, told(0, 20))
    assert fake.slept == []
    limits.before(API)
    assert fake.slept == [21.0]


def test_the_lowest_number_of_a_window_counts_and_a_new_window_begins_anew() -> None:
    fake = FakeTime()
    limits = fake.limits()
    exchange(limits, API, told(1, 20))
    exchange(limits, API, told(3, 20))  # an answer that was overtaken
    exchange(limits, API)  # one that tells nothing took one too
    exchange(limits, API, told(500, 300))
    assert fake.slept == [21.0]
    for left in range(40):
        exchange(limits, API, told(499 - left, 300))
    assert fake.slept == [21.0]


@pytest.mark.parametrize("status", [429, 503])
def test_what_a_refusal_tells_is_waited_exactly(status: int) -> None:
    fake = FakeTime()
    limits = fake.limits()
    exchange(limits, API, Told(resource="api", remaining=0, reset_s=55, window_s=300, retry_after_s=7.0), status)
    exchange(limits, API, told(499, 300))
    assert fake.slept == [7.0]


def test_a_refusal_without_a_wait_is_followed_by_longer_and_longer_ones_up_to_a_minute() -> None:
    fake = FakeTime()
    limits = fake.limits()
    for _ in range(9):
        exchange(limits, API, status=429)
    exchange(limits, API)
    exchange(limits, API, status=429)
    exchange(limits, API)
    assert fake.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 1.0]


@pytest.mark.parametrize("status", [200, 404, 500, 503])
def test_answers_that_tell_nothing_hold_nothing_back(status: int) -> None:
    fake = FakeTime()
    limits = fake.limits()
    for _ in range(5):
        exchange(limits, API, status=status)
    assert fake.slept == []


def test_budgets_are_kept_by_what_the_hub_calls_them_and_by_server() -> None:
    fake = FakeTime()
    limits = fake.limits()
    exchange(limits, API, told(0, 10))
    exchange(limits, FILE, told(0, 30, "resolvers"))
    exchange(limits, PAGE, told(0, 10, "api"))  # the Hub takes it from the budget of the API
    exchange(limits, API.replace("hub", "other"), told(0, 50))
    assert fake.slept == []
    limits.before(PAGE)
    assert fake.slept == [11.0]
    limits.before("https://hub.example/api/resolve-cache/models/org/name/abc/adapter.air")
    assert fake.slept == [11.0, 20.0]


def test_a_wait_that_is_too_long_is_refused_with_what_was_told() -> None:
    limits = FakeTime().limits(longest_wait_s=600.0)
    exchange(limits, API, Told(retry_after_s=3600.0), 429)
    with pytest.raises(HubUnavailableError) as caught:
        limits.before(API)
    assert caught.value.message == "hub.example tells to wait 3600 s before the next request, over 600 s"
    assert (caught.value.problem_code, caught.value.context) == (
        "hub-rate-limit",
        {"wait_s": 3600, "longest_wait_s": 600.0},
    )


@pytest.mark.parametrize(
    ("code", "context", "calls"),
    [
        ("hub-rate-limit", {"wait_s": 3}, 21),
        ("hub-rate-limit", {"wait_s": None}, 1),
        ("hub-rate-limit", {"wait_s": 3600, "longest_wait_s": 900.0}, 1),
        ("hub-timeout", {}, 1),
    ],
)
def test_a_call_is_made_again_only_where_a_wait_was_told(code: str, context: dict[str, object], calls: int) -> None:
    made: list[int] = []

    def call() -> None:
        made.append(1)
        raise HubUnavailableError("no", code=code, context=context)

    with pytest.raises(HubUnavailableError):
        patiently(call)
    assert len(made) == calls


def test_who_waits_can_be_seen_and_stopped() -> None:
    limits = Limits()
    exchange(limits, API, Told(retry_after_s=500.0), 429)
    assert limits.waits_until is None
    ended: list[type[BaseException]] = []

    def wait() -> None:
        try:
            limits.before(API)
        except StoppedError as error:
            ended.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: limits.waits_until is not None)
    limits.stop()
    thread.join(timeout=10)
    assert (ended, limits.waits_until) == ([StoppedError], None)
    with pytest.raises(StoppedError):
        limits.before(FILE)


def test_while_nothing_is_known_one_request_goes_ahead_alone() -> None:
    limits = Limits()
    sent: list[int] = []
    may_answer = threading.Event()

    def ask(number: int) -> None:
        limits.before(API)
        sent.append(number)
        may_answer.wait(timeout=10)
        limits.after(API, 200, told(8, 60))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(sent) == 1)
    time.sleep(0.05)
    assert len(sent) == 1
    may_answer.set()
    for thread in threads:
        thread.join(timeout=10)
    assert sorted(sent) == [0, 1, 2, 3]


def test_a_request_that_was_never_answered_holds_back_nobody_for_ever() -> None:
    limits = Limits()
    lost = threading.Thread(target=limits.before, args=(API,))
    lost.start()
    lost.join(timeout=10)
    limits.before(API)  # whoever asked before is gone
    limits.before(API)  # and this thread asks again without an answer


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


class ModelServer:
    """Counts requests in fixed windows as the Hub does, in a time that runs fast."""

    def __init__(self, quota: int, window_s: float, clock: Callable[[], float]) -> None:
        self._quota, self._window_s, self._clock = quota, window_s, clock
        self._started, self._used = clock(), 0
        self._lock = threading.Lock()
        self.statuses: list[int] = []

    def ask(self) -> tuple[int, Told]:
        with self._lock:
            now = self._clock()
            if now - self._started >= self._window_s:
                self._started, self._used = now, 0
            status = 200 if self._used < self._quota else 429
            self._used += status == 200
            self.statuses.append(status)
            reset_s = math.floor(self._window_s - (now - self._started))  # the unkind way to round
            return status, told(self._quota - self._used, reset_s)


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_counts_never_has_to_refuse_many_threads(seed: int) -> None:
    def clock() -> float:
        return time.monotonic() * 40

    limits = Limits(clock=clock, sleep=lambda condition, duration_s: condition.wait(duration_s / 40))
    server = ModelServer(quota=23, window_s=8.0, clock=clock)

    def ask_often(chance: random.Random) -> None:
        for _ in range(25):
            limits.before(API)
            time.sleep(chance.uniform(0, 0.004))
            status, answer = server.ask()
            time.sleep(chance.uniform(0, 0.004))  # so that answers overtake one another
            if chance.random() < 0.9:
                limits.after(API, status, answer)

    threads = [threading.Thread(target=ask_often, args=(random.Random(8 * seed + index),)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert server.statuses == [200] * 200


def test_it_sits_in_the_client_while_installed_and_is_gone_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    headers = {"RateLimit": '"api";r=0;t=5', "Retry-After": "3"}

    def client() -> httpx2.Client:
        return httpx2.Client(
            transport=httpx2.MockTransport(lambda _: httpx2.Response(429, headers=headers)),
            event_hooks={"request": [_http.hf_request_event_hook]},
        )

    before = _http._GLOBAL_CLIENT_FACTORY
    fake = FakeTime()
    set_client_factory(client)
    try:
        with fake.limits().installed():
            get_session().get(API)
            close_session()  # as the client does where a connection fails
            get_session().get(API)
            get_session().get(FILE)
            assert fake.slept == [3.0]
        assert _http._GLOBAL_CLIENT_FACTORY is client
        assert get_session().event_hooks == {"request": [_http.hf_request_event_hook], "response": []}
    finally:
        set_client_factory(before)
