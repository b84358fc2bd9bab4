"""Adapters that do not fit, registries that do not answer, files that broke: what a client of a real server is told."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from tests.unit.dispatch.answering.stage import FLIGHT, MONEY, letter_adapter
from tests.unit.web.conftest import Desk
from tests.unit.web.running import running, wait_for
from ual_registry.air.adapter import Adapter
from ual_registry.air.write import write
from ual_registry.dispatch.dispatcher import LoRADispatcher
from ual_registry.errors import RegistryUnavailableError
from ual_registry.registry.registry import Registry
from ual_registry.web import listing
from ual_registry.web.app import make_app
from ual_registry.web.dispatching import DispatchEngine
from ual_registry.web.limits import Limits

pytestmark = pytest.mark.filterwarnings("ignore")

ADAPTERS = {"banking": "letter@live", "travel": "foreign"}
OTHER = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Place:
    """A server over a registry with an adapter that fits, one of another base model, one that broke, and a router."""

    url: str
    registry: Registry
    desk: Desk

    def ask(self, model: str, prompt: str = MONEY) -> httpx.Response:
        body = {"model": model, "prompt": prompt, "temperature": 0}
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=60)

    def digest(self, reference: str) -> str:
        return str(self.registry.resolve(reference))

    def error(self, answer: httpx.Response) -> tuple[int, str, dict[str, str]]:
        own = {name: value for name, value in answer.headers.items() if name.startswith("x-ual-")}
        return answer.status_code, answer.json()["error"]["code"], own


def fill(desk: Desk, home: Path) -> Registry:
    """Return a registry whose ``letter@1`` and ``letter@2`` answer, and whose ``letter@3`` broke after it was added."""
    registry = desk.stage.registry(home, "ABX")
    registry.alias("letter", "live", "2")
    own = letter_adapter(desk.stage.base, "F")
    base = replace(own.manifest.base_model, config_digest=OTHER)
    write(Adapter(replace(own.manifest, base_model=base), own.tensors), home / "foreign.air")
    registry.add(home / "foreign.air", name="foreign")
    registry.add(desk.router, name="front-desk")
    blob = registry.find("letter@3")
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    return registry


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("misfits")


@pytest.fixture(scope="module")
def registry(desk: Desk, home: Path) -> Registry:
    return fill(desk, home)


@pytest.fixture(params=["base"])
def place(desk: Desk, registry: Registry, request: pytest.FixtureRequest) -> Iterator[Place]:
    dispatcher = LoRADispatcher(
        desk.stage.router,
        desk.stage.base,
        registry,
        encoder=desk.stage.encoder,
        adapters=ADAPTERS,
        fallback=request.param,
    )
    with running(make_app(DispatchEngine(dispatcher, registry), Limits(default_tokens=2))) as (url, _):
        yield Place(url, registry, desk)


def test_a_named_adapter_of_another_base_model_is_refused(place: Place) -> None:
    answer = place.ask("foreign")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "other_base_model")
    assert OTHER in answer.json()["error"]["message"]


def test_a_routed_adapter_of_another_base_model_does_not_answer(place: Place) -> None:
    answer = place.ask("auto", FLIGHT)
    own = {name: value for name, value in answer.headers.items() if name.startswith("x-ual-")}
    assert answer.status_code == 200
    assert own == {
        "x-ual-domain": "travel",
        "x-ual-reason": "incompatible",
        "x-ual-adapter": "base",
        "x-ual-probability": own["x-ual-probability"],
    }


@pytest.mark.parametrize("place", ["refuse"], indirect=True)
def test_a_query_whose_adapter_does_not_fit_can_be_refused(place: Place) -> None:
    status, code, own = place.error(place.ask("auto", FLIGHT))
    assert (status, code, own["x-ual-reason"], own["x-ual-domain"]) == (400, "refused", "incompatible", "travel")


def test_an_adapter_that_broke_is_the_servers_fault_and_the_server_goes_on(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [record.message for record in caplog.records if record.levelname == "INFO"]

    broken = str(place.registry.resolve("letter@3"))
    with caplog.at_level(logging.INFO, logger="ual_registry.web"):
        assert place.error(place.ask("letter@3")) == (500, "digest_mismatch", {"x-ual-reason": "forced"})
        place.registry.alias("letter", "live", "3")
        status, code, own = place.error(place.ask("auto"))
        place.registry.alias("letter", "live", "2")
        assert place.ask("auto").json()["choices"][0]["text"] == "BB"
        wait_for(lambda: len(told()) == 3)  # a line is written when its answer is on its way
    assert (status, code, own["x-ual-domain"], own["x-ual-reason"]) == (500, "digest_mismatch", "banking", "ok")
    lines = [json.loads(line) for line in told()]
    kept = [(line["status"], line["reason"], line["adapter"], line.get("error")) for line in lines]
    assert kept == [
        (500, "forced", broken, "digest_mismatch"),
        (500, "ok", broken, "digest_mismatch"),
        (200, "ok", str(place.registry.resolve("letter@2")), None),
    ]


def test_a_registry_that_does_not_answer_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RegistryUnavailableError("database is locked: /secret")

    for name in ("resolve", "list", "search"):
        monkeypatch.setattr(Registry, name, fail)
    told = {
        "message": "the registry cannot be used now",
        "type": "server_error",
        "param": None,
        "code": "registry_unavailable",
    }
    answers = [place.ask("auto"), place.ask("letter")]
    answers += [httpx.get(f"{place.url}/v1/models{path}") for path in ("", "/letter")]
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (503, "5", {"error": told})
    router = httpx.get(f"{place.url}/v1/models/auto")  # for which nobody asks the registry
    assert (router.status_code, router.json()["id"]) == (200, "auto")


def test_the_models_are_listed_page_by_page_and_routers_are_none(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_PAGE", 1)
    for name in ("spare", "live-too"):
        place.registry.alias("letter", name, "1")
    found = httpx.get(f"{place.url}/v1/models").json()
    assert found["object"] == "list"
    assert [model["id"] for model in found["data"]] == [
        "auto",
        "foreign",
        "letter",
        "letter@live",
        "letter@live-too",
        "letter@spare",
    ]


@pytest.mark.parametrize("reference", ["letter@1", "letter@live", "digest", "letter%40live"])
def test_a_model_is_shown_by_every_reference(place: Place, reference: str) -> None:
    name = str(place.registry.resolve("letter@2")) if reference == "digest" else reference.replace("%40", "@")
    answer = httpx.get(f"{place.url}/v1/models/{name if reference == 'digest' else reference}")
    (revision,) = [own for own in place.registry.revisions("letter") if own.digest == place.digest(name)]
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "id": name,
            "object": "model",
            "created": int(revision.created_at.timestamp()),
            "owned_by": "ual",
            "root": revision.digest,
            "parent": revision.base,
        },
    )


def test_a_hidden_revision_is_shown_to_who_names_it(place: Place) -> None:
    place.registry.yank("letter@1", why="wrong")
    answer = httpx.get(f"{place.url}/v1/models/letter@1")
    place.registry.unyank("letter@1")
    assert (answer.status_code, answer.json()["root"]) == (200, place.digest("letter@1"))


@pytest.mark.parametrize("name", ["nobody", "letter@9", "letter@nowhere", "sha256:00", "front-desk", "x/y.air", "a b"])
def test_what_is_no_adapter_is_not_shown(place: Place, name: str) -> None:
    answer = httpx.get(f"{place.url}/v1/models/{name}")
    assert (answer.status_code, answer.json()) == (
        404,
        {
            "error": {
                "message": f"the model {name!r} does not exist",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_found",
            }
        },
    )
