"""A proxy before a server that behaves as vLLM does."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.unit.web.fake_vllm import BASE, FakeVLLM
from tests.unit.web.running import running, wait_for
from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.web import upstream
from ual_registry.web.engine import ServedModel
from ual_registry.web.limits import Limits
from ual_registry.web.proxy import make_proxy
from ual_registry.web.upstream import Supply, Upstream

BANKING, TRAVEL = "sha256:" + "b" * 64, "sha256:" + "7" * 64
NAME = "ual-" + "b" * 16


@dataclass
class MemoryChooser:
    """Queries that begin with a domain's name belong to it."""

    digests: dict[str, str] = field(default_factory=lambda: {"bank@live": BANKING, "trip": TRAVEL})
    is_closed: bool = False
    logged: list[tuple[str, str, str]] = field(default_factory=list)

    def route(self, query: str) -> Decision:
        domain = query.split(maxsplit=1)[0]
        if domain == "banking":
            return Decision(reason=Reason.OK, domain=domain, adapter=self.digests["bank@live"], probability=0.9)
        if domain == "new":
            return Decision(reason=Reason.NO_ADAPTER, domain=domain, adapter=None, probability=0.8)
        return Decision(reason=Reason.OUT_OF_SCOPE, domain="banking", adapter=None, probability=0.4)

    def digest(self, reference: str) -> str | None:
        return self.digests.get(reference)

    def log(self, query: str, decision: Decision, answered_by: str) -> None:
        self.logged.append((query, str(decision.reason), answered_by))

    def model(self, name: str) -> ServedModel | None:
        return next((model for model in self.models() if model.id == name), None)

    def models(self) -> list[ServedModel]:
        return [ServedModel(id=name, root=digest) for name, digest in self.digests.items()]

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Scene:
    """A proxy and what is behind it."""

    url: str
    vllm: FakeVLLM
    chooser: MemoryChooser
    exported: list[str]
    folder: Path
    may_export: threading.Event

    def ask(
        self, query: str | list[int] = "banking please", model: str = "auto", *, timeout_s: float = 20, **more: Any
    ) -> httpx.Response:
        body = {"model": model, "prompt": query, "max_tokens": 3, **more}
        headers = {"authorization": "Bearer key"}
        return httpx.post(f"{self.url}/v1/completions", json=body, headers=headers, timeout=timeout_s)


@contextlib.contextmanager
def scene(folder: Path, supply: Supply, **options: Any) -> Iterator[Scene]:
    vllm, chooser, exported, may_export = FakeVLLM(), MemoryChooser(), [], threading.Event()
    may_export.set()

    def export(digest: str, place: Path) -> None:
        exported.append(digest)
        assert may_export.wait(20)
        place.mkdir()

    with running(vllm.app()) as (behind, _):
        names = options.pop("names", None)
        own = Upstream(behind, supply=supply, folder=folder, export=export, names=names)
        with running(make_proxy(chooser, own, Limits(max_body_bytes=10_000), **options)) as (url, _):
            yield Scene(url, vllm, chooser, exported, folder, may_export)
    assert chooser.is_closed


@pytest.fixture
def loading(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, Supply.API) as found:
        yield found


def test_a_routed_adapter_is_loaded_once_and_answers_under_its_digest(loading: Scene) -> None:
    first, second = loading.ask(extra_field=[1]), loading.ask()
    assert loading.vllm.loads == [{"lora_name": NAME, "lora_path": str(loading.folder / NAME)}]
    assert loading.exported == [BANKING]
    assert loading.vllm.asked == [
        {"model": NAME, "prompt": "banking please", "max_tokens": 3, "extra_field": [1]},
        {"model": NAME, "prompt": "banking please", "max_tokens": 3},
    ]
    assert loading.vllm.keys == ["Bearer key"] * 2
    assert [own.json()["choices"][0]["text"] for own in (first, second)] == [NAME, NAME]
    own = {name: value for name, value in first.headers.items() if name.startswith("x-ual-")}
    assert own == {
        "x-ual-domain": "banking",
        "x-ual-adapter": BANKING,
        "x-ual-reason": "ok",
        "x-ual-probability": "0.9000",
    }


def test_an_alias_that_moves_leads_to_another_adapter(loading: Scene) -> None:
    loading.ask()
    loading.chooser.digests["bank@live"] = TRAVEL
    assert loading.ask().json()["model"] == "ual-" + "7" * 16


def test_a_server_that_was_started_again_gets_the_adapter_once_more(loading: Scene) -> None:
    loading.ask()
    loading.vllm.loaded.clear()
    assert loading.ask().json()["model"] == NAME
    assert (len(loading.vllm.loads), loading.exported) == (2, [BANKING])


def test_many_who_meet_a_server_that_was_started_again_are_all_answered(loading: Scene) -> None:
    loading.ask()
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            loading.vllm.loaded.clear()
            answers = threads.map(lambda _: loading.ask(), range(8))
            assert [answer.status_code for answer in answers] == [200] * 8
    assert loading.exported == [BANKING]


def test_a_server_that_never_keeps_an_adapter_is_asked_twice_and_its_error_handed_on(loading: Scene) -> None:
    loading.vllm.keeps_adapters = False
    answer = loading.ask()
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "NotFoundError")
    assert (len(loading.vllm.asked), len(loading.vllm.loads)) == (2, 2)


def test_a_client_that_leaves_during_an_export_does_not_begin_a_second_one(loading: Scene) -> None:
    loading.may_export.clear()
    with pytest.raises(httpx.ReadTimeout):
        loading.ask(timeout_s=0.2)
    wait_for(lambda: httpx.get(f"{loading.url}/health").json()["running"] == 0)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(loading.ask)
        wait_for(lambda: httpx.get(f"{loading.url}/health").json()["running"] == 1)
        loading.may_export.set()
        assert second.result().status_code == 200
    assert (loading.exported, len(loading.vllm.loads)) == ([BANKING], 1)


def test_an_export_that_fails_is_told_and_tried_again(loading: Scene) -> None:
    (loading.folder / NAME).write_text("in the way")
    answer = loading.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    (loading.folder / NAME).unlink()
    assert (loading.ask().status_code, loading.exported) == (200, [BANKING, BANKING])


def test_a_name_that_somebody_else_loaded_is_taken(loading: Scene) -> None:
    loading.vllm.load_error = f"The lora adapter '{NAME}' has already been loaded."
    loading.vllm.loaded[NAME] = "elsewhere"
    assert loading.ask().status_code == 200


def test_an_adapter_that_the_server_does_not_load_is_told(loading: Scene) -> None:
    loading.vllm.load_error = "rank is too high"
    answer = loading.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_load")
    assert "rank is too high" in answer.json()["error"]["message"]
    assert (answer.headers["x-ual-domain"], answer.headers["x-ual-reason"]) == ("banking", "ok")


def test_a_name_forces_an_adapter_and_what_the_registry_has_not_is_handed_through(loading: Scene) -> None:
    forced, base, nobody = loading.ask(model="trip"), loading.ask(model=BASE), loading.ask(model="nobody")
    assert (forced.json()["model"], forced.headers["x-ual-reason"]) == ("ual-" + "7" * 16, "forced")
    assert (base.json()["model"], base.headers["x-ual-adapter"]) == (BASE, "org%2Fbase")
    assert (nobody.status_code, nobody.json()) == (
        404,
        {"error": {"message": "The model `nobody` does not exist.", "type": "NotFoundError", "code": 404}},
    )


def test_what_no_domain_takes_goes_to_the_base_model(loading: Scene) -> None:
    answer = loading.ask("odd")
    assert (answer.json()["model"], answer.headers["x-ual-reason"]) == (BASE, "out_of_scope")


def test_a_stream_comes_through_openais_client(loading: Scene) -> None:
    with openai.OpenAI(base_url=f"{loading.url}/v1", api_key="none", max_retries=0) as client:
        chunks = list(client.completions.create(model="auto", prompt="banking", max_tokens=3, stream=True))
    assert [own.choices[0].text for own in chunks] == [NAME] * 3


def test_a_client_that_goes_away_ends_the_stream_behind_too(loading: Scene) -> None:
    asked = {"model": "auto", "prompt": "banking", "max_tokens": 500, "stream": True}
    with httpx.stream("POST", f"{loading.url}/v1/completions", json=asked) as answer:
        next(answer.iter_bytes())
    wait_for(lambda: loading.vllm.ended == 1)
    assert loading.vllm.sent < 500
    wait_for(lambda: httpx.get(f"{loading.url}/health").json()["running"] == 0)


def test_the_models_are_auto_the_adapters_and_those_behind(loading: Scene) -> None:
    found = httpx.get(f"{loading.url}/v1/models").json()["data"]
    assert [model["id"] for model in found] == ["auto", "bank@live", "trip", BASE]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("auto", {"id": "auto", "object": "model", "created": 0, "owned_by": "ual", "root": None, "parent": None}),
        (
            "bank@live",
            {"id": "bank@live", "object": "model", "created": 0, "owned_by": "ual", "root": BANKING, "parent": None},
        ),
        (BASE, {"id": BASE, "object": "model", "parent": None}),
    ],
)
def test_a_model_is_shown_by_its_name(loading: Scene, name: str, found: dict[str, Any]) -> None:
    answer = httpx.get(f"{loading.url}/v1/models/{name}")
    assert (answer.status_code, answer.json()) == (200, found)


def test_a_model_that_nobody_has_is_not_shown(loading: Scene) -> None:
    answer = httpx.get(f"{loading.url}/v1/models/nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_every_question_with_a_text_is_logged_with_who_was_to_answer(loading: Scene) -> None:
    for query, model in (("banking", "auto"), ("odd", "auto"), ("x", "trip"), ("x", BASE)):
        loading.ask(query, model)
    loading.ask([1, 2], BASE)
    assert loading.chooser.logged == [
        ("banking", "ok", BANKING),
        ("odd", "out_of_scope", "base"),
        ("x", "forced", TRAVEL),
        ("x", "forced", BASE),
    ]


def test_an_answer_that_breaks_off_behind_is_told(loading: Scene) -> None:
    loading.vllm.breaks = True
    answer = loading.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_broken")
    assert (answer.headers["x-ual-domain"], answer.headers["x-ual-reason"]) == ("banking", "ok")
    *_, last = loading.ask(stream=True).text.strip().split("\n\n")
    assert json.loads(last.removeprefix("data: ")) == {
        "error": {
            "message": "the server behind ended too soon",
            "type": "server_error",
            "param": None,
            "code": "upstream_broken",
        }
    }
    counted = httpx.get(f"{loading.url}/metrics").text
    assert 'ual_requests_total{endpoint="completions",status="502"} 2.0' in counted


def test_an_adapter_that_was_forgotten_is_brought_again(loading: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_MOST_NAMES", 1)
    for model in ("bank@live", "bank@live", "trip", "bank@live"):
        assert loading.ask(model=model).status_code == 200
    assert [own["lora_name"] for own in loading.vllm.loads] == [NAME, "ual-" + "7" * 16, NAME]
    assert loading.exported == [BANKING, TRAVEL]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prompt": "x"}, 400, "missing_required_parameter"),
        ({"model": "auto"}, 400, "missing_required_parameter"),
        ({"model": "auto", "prompt": "x" * 20_000}, 413, "request_too_large"),
    ],
)
def test_a_wrong_request_goes_no_further(loading: Scene, body: dict[str, Any], status: int, code: str) -> None:
    answer = httpx.post(f"{loading.url}/v1/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert loading.vllm.asked == []


def test_half_a_character_goes_behind_as_a_question_mark(loading: Scene) -> None:
    body = b'{"model": "auto", "prompt": "banking \\ud800", "odd": ["\\udfff", "\\ud83d\\ude00"]}'
    answer = httpx.post(f"{loading.url}/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert loading.vllm.asked == [{"model": NAME, "prompt": "banking ?", "odd": ["?", "\N{GRINNING FACE}"]}]


def test_a_number_that_is_none_goes_no_further(loading: Scene) -> None:
    body = b'{"model": "auto", "prompt": "banking", "temperature": 1e999}'
    answer = httpx.post(f"{loading.url}/v1/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert loading.vllm.asked == []


def test_a_resolver_finds_adapters_in_its_folder(tmp_path: Path) -> None:
    with scene(tmp_path, Supply.RESOLVER) as found:
        found.vllm.loaded[NAME] = "by its resolver"
        assert found.ask().json()["model"] == NAME
        assert (found.exported, found.vllm.loads) == ([BANKING], [])
    assert [place.name for place in tmp_path.iterdir()] == [NAME]


def test_a_server_that_has_its_adapters_is_asked_by_domain(tmp_path: Path) -> None:
    with scene(tmp_path, Supply.NONE, names={"banking": "bank-model"}) as found:
        found.vllm.loaded |= {"bank-model": "", "new": ""}
        assert [found.ask(query).json()["model"] for query in ("banking", "new", "odd")] == ["bank-model", "new", BASE]
        assert found.exported == []


@pytest.mark.parametrize(("fallback", "status", "model"), [("refuse", 400, None), ("other", 200, "other")])
def test_the_fallback_is_what_was_asked_for(tmp_path: Path, fallback: str, status: int, model: str | None) -> None:
    with scene(tmp_path, Supply.API, fallback=fallback) as found:
        found.vllm.loaded["other"] = ""
        answer = found.ask("odd")
        assert (answer.status_code, answer.json().get("model")) == (status, model)
        assert (answer.headers["x-ual-reason"], answer.headers.get("x-ual-adapter")) == ("out_of_scope", model)
        counted = httpx.get(f"{found.url}/metrics").text
        assert 'ual_queries_total{domain="banking",reason="out_of_scope"} 1.0' in counted


def test_a_server_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    upstream = Upstream("http://127.0.0.1:9", supply=Supply.NONE)
    with running(make_proxy(MemoryChooser(), upstream)) as (url, _):
        answer = httpx.post(f"{url}/v1/completions", json={"model": "auto", "prompt": "banking"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")
        assert httpx.get(f"{url}/v1/models").json()["error"]["code"] == "upstream_error"
