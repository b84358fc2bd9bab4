"""The server as OpenAI's own client and a plain HTTP client see it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.unit.web.memory_engine import MemoryEngine
from tests.unit.web.running import running, wait_for
from ual_registry.errors import RouteError
from ual_registry.web.app import make_app
from ual_registry.web.limits import Limits

CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "banking please"}], "max_tokens": 3}


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
def url(engine: MemoryEngine) -> Iterator[str]:
    limits = Limits(max_running=4, max_waiting=64, max_body_bytes=20_000, max_prompt_tokens=1000, max_tokens=100)
    with running(make_app(engine, limits)) as (address, _):
        yield address


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as own:
        yield own


def test_auto_is_routed_and_the_headers_say_who_answers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**ASKED)
    answer = raw.parse()
    assert answer.to_dict() == {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": "auto",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "BBB"},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    }
    assert answer.id.startswith("chatcmpl-")
    own = {name: value for name, value in raw.headers.items() if name.startswith("x-ual-")}
    assert own == {
        "x-ual-domain": "banking",
        "x-ual-adapter": "sha256:B",
        "x-ual-reason": "ok",
        "x-ual-probability": "0.9877",
    }
    assert raw.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("model", "query", "expected"),
    [
        ("trip@live", "banking please", ("TT", "forced", "sha256:T")),
        ("auto", "travel far", ("TT", "ok", "sha256:T")),
        ("auto", "nothing known", ("--", "out_of_scope", "base")),
    ],
)
def test_a_name_forces_an_adapter_and_what_no_domain_takes_goes_to_the_base(
    client: openai.OpenAI, model: str, query: str, expected: tuple[str, str, str]
) -> None:
    raw = client.completions.with_raw_response.create(model=model, prompt=query, max_tokens=2)
    text = raw.parse().choices[0].text
    assert (text, raw.headers["x-ual-reason"], raw.headers["x-ual-adapter"]) == expected


def test_a_chat_streams_and_ends_with_what_it_used(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    first, *texts = [own.choices[0].delta.content for own in chunks[:-1]]
    assert (first, "".join(texts)) == ("", "BBB")  # parts that follow each other closely come as one
    ends = [own.choices[0].finish_reason for own in chunks[:-1]]
    assert ends == [None] * len(texts) + ["length"]
    assert [own.usage for own in chunks[:-1]] == [None] * len(ends)
    assert (chunks[-1].choices, chunks[-1].usage.to_dict()) == (
        [],
        {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    )
    assert len({own.id for own in chunks}) == 1


def test_a_completion_streams_events_and_ends_with_done(url: str) -> None:
    asked = {"model": "trip", "prompt": ["go"], "max_tokens": 2, "stream": True}
    answer = httpx.post(f"{url}/v1/completions", json=asked)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    choices = [choice for own in events[:-1] for choice in json.loads(own)["choices"]]
    assert "".join(choice["text"] for choice in choices) == "TT"
    end = {"index": 0, "text": choices[-1]["text"], "logprobs": None, "finish_reason": "length"}
    assert (choices[-1], {choice["finish_reason"] for choice in choices[:-1]}) == (
        end,
        {None} if choices[1:] else set(),
    )


def test_the_models_are_auto_and_the_adapters(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "bank@live", "trip@live", "trip"]
    assert client.models.retrieve("trip@live").to_dict()["root"] == "sha256:T"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


def test_an_unknown_model_is_told_as_openai_tells_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**{**ASKED, "model": "nobody"})
    assert caught.value.body == {
        "message": "the model 'nobody' does not exist",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"model": ""}, "missing_required_parameter", "model: expected a name, or auto"),
        ({"model": 3}, "missing_required_parameter", "model: expected a name, or auto"),
        ({"messages": []}, "missing_required_parameter", "messages: expected a list of messages"),
        ({"messages": ["hi"]}, "invalid_value", "messages[0]: expected an object, got 'hi'"),
        (
            {"messages": [{"role": "wizard", "content": "x"}]},
            "invalid_value",
            "messages[0].role: expected one of system, developer, user, assistant, got 'wizard'",
        ),
        (
            {"messages": [{"role": "user", "content": None}]},
            "invalid_value",
            "messages[0].content: expected a text, got None",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "invalid_value",
            "messages[0].content[0]: expected a part of type text",
        ),
        (
            {"messages": [{"role": "user", "content": " \n"}]},
            "invalid_value",
            "messages: expected a text of the user that is not empty",
        ),
        ({"max_tokens": 101}, "invalid_value", "max_tokens: expected a whole number from 1 to 100, got 101"),
        (
            {"max_completion_tokens": 0},
            "invalid_value",
            "max_completion_tokens: expected a whole number from 1 to 100, got 0",
        ),
        ({"max_tokens": True}, "invalid_value", "max_tokens: expected a whole number from 1 to 100, got True"),
        ({"temperature": 2.5}, "invalid_value", "temperature: expected a number from 0 to 2, got 2.5"),
        ({"top_p": 0}, "invalid_value", "top_p: expected a number above 0, got 0"),
        ({"stop": ["", "x"]}, "invalid_value", "stop: expected up to 4 texts, none empty"),
        ({"stream": 1}, "invalid_value", "stream: expected true or false, got 1"),
        ({"stream_options": [1]}, "invalid_value", "stream_options: expected an object, got [1]"),
        ({"n": 2}, "unsupported_parameter", "n: this server does not offer it"),
        ({"logprobs": True}, "unsupported_parameter", "logprobs: this server does not offer it"),
        ({"tools": [{"type": "function"}]}, "unsupported_parameter", "tools: this server does not offer it"),
        (
            {"messages": [{"role": "user", "content": "banking " * 1001}]},
            "context_length_exceeded",
            "the prompt has 1001 tokens, expected at most 1000",
        ),
    ],
)
def test_a_wrong_field_is_refused(url: str, change: dict[str, Any], code: str, message: str) -> None:
    answer = httpx.post(url + CHAT, json={**ASKED, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["message"]) == (400, code, message)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("query", [b'"banking \\ud800"', b'"banking \xed\xa0\x80"'])
def test_half_a_character_in_a_query_is_read_as_a_question_mark(engine: MemoryEngine, url: str, query: bytes) -> None:
    body = b'{"model": "auto", "max_tokens": 2, "prompt": ' + query + b"}"
    answer = httpx.post(f"{url}/v1/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["choices"][0]["text"]) == (200, "BB")
    assert engine.queries == ["banking ?"]


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b"\xff", b"[" * 10_000, b'"x"', b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}']
)
def test_a_body_that_is_no_json_object_is_refused(url: str, body: bytes) -> None:
    answer = httpx.post(url + CHAT, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_body_of_another_type_is_refused(url: str) -> None:
    answer = httpx.post(url + CHAT, content=json.dumps(ASKED), headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_content_type")


def test_a_body_that_is_too_large_is_refused_and_the_server_goes_on(url: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{**ASKED, "messages": [{"role": "user", "content": "x" * 200_000}]})
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
    assert client.chat.completions.create(**ASKED).choices[0].message.content == "BBB"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("POST", "/chat/completions", 404, "unknown_url"),
    ],
)
def test_an_address_that_nothing_answers_is_an_error_of_the_same_shape(
    url: str, method: str, path: str, status: int, code: str
) -> None:
    hint = "" if path.startswith("/v1/") else "; the addresses of OpenAI's interface begin with /v1/"
    answer = httpx.request(method, url + path)
    assert answer.status_code == status
    assert answer.json() == {
        "error": {
            "message": f"nothing answers {method} {path}{hint}",
            "type": "invalid_request_error",
            "param": None,
            "code": code,
        }
    }


@pytest.mark.parametrize(("query", "code"), [("banking corrupt", "digest_mismatch"), ("banking bug", "internal")])
def test_a_fault_of_the_server_is_told_without_detail_and_logged_whole(
    client: openai.OpenAI, caplog: pytest.LogCaptureFixture, query: str, code: str
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(model="auto", prompt=query)
    assert caught.value.code == code
    assert "secret" not in caught.value.response.text
    wait_for(lambda: "secret" in caplog.text)


def test_a_refused_query_is_an_error_of_the_request_that_says_why_and_is_counted(
    engine: MemoryEngine, client: openai.OpenAI, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ual_registry.web")
    engine.fallback_is_refused = True
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="auto", prompt="who knows")
    assert (caught.value.code, caught.value.body["message"]) == (  # type: ignore[index]  # it is a document
        "refused",
        "no adapter answers 'who knows': out_of_scope",
    )
    headers = caught.value.response.headers
    assert {name: value for name, value in headers.items() if name.startswith("x-ual-")} == {
        "x-ual-domain": "banking",
        "x-ual-reason": "out_of_scope",
        "x-ual-probability": "0.5000",
    }
    wait_for(lambda: bool(caplog.records))
    line = json.loads(caplog.records[0].getMessage())
    assert (line["status"], line["reason"], line["error"]) == (400, "out_of_scope", "refused")
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    assert 'ual_queries_total{domain="banking",reason="out_of_scope"} 1.0' in lines
    assert "ual_fallbacks_total 0.0" in lines
    assert not any(own.startswith("ual_first_part_seconds_count") for own in lines)


@pytest.mark.parametrize("is_streamed", [True, False])
def test_an_answer_that_breaks_was_decided_about_all_the_same(
    engine: MemoryEngine, url: str, is_streamed: bool
) -> None:
    engine.breaks_at = 2
    answer = httpx.post(f"{url}/v1/completions", json={"model": "trip", "prompt": "go", "stream": is_streamed})
    assert (answer.headers["x-ual-reason"], answer.headers["x-ual-adapter"]) == ("forced", "sha256:T")
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    assert 'ual_queries_total{domain="none",reason="forced"} 1.0' in lines


def test_a_generation_that_breaks_in_mid_stream_is_told_in_the_stream(
    engine: MemoryEngine, client: openai.OpenAI
) -> None:
    engine.breaks_at = 2
    stream = client.completions.create(model="trip", prompt="go", max_tokens=3, stream=True)
    assert next(stream).choices[0].text == "T"
    with pytest.raises(openai.APIError) as caught:
        next(stream)
    assert caught.value.body == {
        "message": "internal error; the server's log says more",
        "type": "server_error",
        "param": None,
        "code": "internal",
    }


def test_a_client_that_goes_away_in_mid_stream_stops_the_generation(engine: MemoryEngine, url: str) -> None:
    engine.pause_s = 0.02
    asked = {"model": "trip", "prompt": "go", "max_tokens": 100, "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=asked) as answer:
        next(answer.iter_bytes())
    wait_for(lambda: engine.ended == 1)
    assert engine.written < 100
    assert httpx.get(f"{url}/health").json() == {"status": "ok", "running": 0, "waiting": 0}
    assert 'ual_requests_total{endpoint="completions",status="499"} 1.0' in httpx.get(f"{url}/metrics").text


def test_a_client_that_goes_away_before_a_whole_answer_stops_the_generation(engine: MemoryEngine, url: str) -> None:
    engine.pause_s = 0.02
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/completions", json={"model": "trip", "prompt": "go", "max_tokens": 100}, timeout=0.3)
    wait_for(lambda: engine.ended == 1)
    assert engine.written < 100
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    assert 'ual_queries_total{domain="none",reason="forced"} 1.0' in lines
    assert 'ual_first_part_seconds_count{endpoint="completions"} 1.0' in lines


def test_a_request_beyond_the_queue_is_told_when_to_come_again(engine: MemoryEngine) -> None:
    engine.pause_s = 0.05
    asked = {"model": "trip", "prompt": "go", "max_tokens": 20}
    with running(make_app(engine, Limits(max_running=1, max_waiting=1))) as (url, _), ThreadPoolExecutor(2) as threads:
        first = threads.submit(httpx.post, f"{url}/v1/completions", json=asked, timeout=30)
        wait_for(lambda: httpx.get(f"{url}/health").json()["running"] == 1)
        second = threads.submit(httpx.post, f"{url}/v1/completions", json=asked, timeout=30)
        wait_for(lambda: httpx.get(f"{url}/health").json()["waiting"] == 1)
        third = httpx.post(f"{url}/v1/completions", json=asked)
        assert (third.status_code, third.headers["retry-after"]) == (429, "2")
        assert third.json()["error"] == {
            "message": "1 requests run and 1 wait; come back later",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        assert [first.result().status_code, second.result().status_code] == [200, 200]


def test_a_stopped_server_finishes_what_runs_and_sends_away_what_waits(engine: MemoryEngine) -> None:
    engine.pause_s = 0.05
    asked = {"model": "trip", "prompt": "go", "max_tokens": 20}
    with ThreadPoolExecutor(2) as threads:
        with running(make_app(engine, Limits(max_running=1, max_waiting=1))) as (url, server):
            first = threads.submit(httpx.post, f"{url}/v1/completions", json=asked, timeout=30)
            wait_for(lambda: httpx.get(f"{url}/health").json()["running"] == 1)
            second = threads.submit(httpx.post, f"{url}/v1/completions", json=asked, timeout=30)
            wait_for(lambda: httpx.get(f"{url}/health").json()["waiting"] == 1)
            server.stop()
        assert first.result().json()["choices"][0]["text"] == "T" * 20
        assert (second.result().status_code, second.result().json()["error"]["code"]) == (503, "stopping")
    assert engine.is_closed


def test_the_metrics_count_queries_fallbacks_and_the_cache(url: str) -> None:
    for query in ("banking a", "travel a", "travel b", "odd"):
        httpx.post(f"{url}/v1/completions", json={"model": "auto", "prompt": query, "max_tokens": 2})
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    for line in (
        'ual_queries_total{domain="banking",reason="ok"} 1.0',
        'ual_queries_total{domain="travel",reason="ok"} 2.0',
        'ual_queries_total{domain="banking",reason="out_of_scope"} 1.0',
        "ual_fallbacks_total 1.0",
        'ual_requests_total{endpoint="completions",status="200"} 4.0',
        'ual_tokens_total{kind="prompt"} 7.0',
        'ual_tokens_total{kind="completion"} 8.0',
        'ual_request_seconds_count{endpoint="completions"} 4.0',
        'ual_first_part_seconds_count{endpoint="completions"} 4.0',
        "ual_cache_hits_total 3.0",
        "ual_cache_misses_total 1.0",
        "ual_cache_hit_ratio 0.75",
        "ual_running 0.0",
    ):
        assert line in lines


def test_a_request_leaves_one_log_line_without_what_was_said(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ual_registry.web")
    answer = httpx.post(url + CHAT, json=ASKED)
    wait_for(lambda: bool(caplog.records))
    line = json.loads(caplog.records[0].getMessage())
    assert line.pop("seconds") >= 0
    assert line == {
        "id": answer.headers["x-request-id"],
        "endpoint": "chat",
        "status": 200,
        "model": "auto",
        "domain": "banking",
        "adapter": "sha256:B",
        "reason": "ok",
        "probability": 0.98765,
        "is_fallback": False,
        "prompt_tokens": 2,
        "completion_tokens": 3,
    }


def test_32_clients_never_get_a_mixed_answer_while_an_alias_moves(engine: MemoryEngine, url: str) -> None:
    engine.pause_s = 0.001
    is_over = threading.Event()

    def move() -> None:
        while not is_over.wait(0.01):
            engine.aliases = {**engine.aliases, "bank@live": "C" if engine.aliases["bank@live"] == "B" else "B"}

    def ask(number: int) -> list[str]:
        wrong = []
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as own:
            for turn in range(8):
                domain = ("banking", "travel", "odd")[(number + turn) % 3]
                raw = own.completions.with_raw_response.create(
                    model="auto", prompt=f"{domain} {number}", max_tokens=5, stream=False
                )
                text, letter = raw.parse().choices[0].text, raw.headers["x-ual-adapter"].removeprefix("sha256:")
                expected = {"banking": "BC", "travel": "T", "odd": ""}[domain]
                is_right = letter in expected and text == letter * 5 if expected else text == "-----"
                wrong += [] if is_right else [f"{domain}: {letter}: {text}"]
        return wrong

    mover = threading.Thread(target=move)
    mover.start()
    with ThreadPoolExecutor(32) as threads:
        found = [line for wrong in threads.map(ask, range(32)) for line in wrong]
    is_over.set()
    mover.join()
    assert found == []
    assert (engine.begun, engine.ended) == (256, 256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_running": 0}, "max_running: expected at least 1, got 0"),
        ({"max_waiting": -1}, "max_waiting: expected 0 or more, got -1"),
    ],
)
def test_limits_that_no_server_can_keep_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(RouteError) as caught:
        Limits(**change)
    assert (caught.value.message, caught.value.problem_code) == (message, "limits")
