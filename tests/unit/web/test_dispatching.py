"""The server over a real dispatcher, in this process and as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.unit.dispatch.answering.stage import FLIGHT, MONEY, OUT_OF_SCOPE, random_adapter
from tests.unit.web.conftest import Desk
from tests.unit.web.fake_vllm import FakeVLLM
from tests.unit.web.running import running
from ual_registry.air.write import write
from ual_registry.dispatch.dispatcher import LoRADispatcher
from ual_registry.dispatch.log import DecisionLog, read_log
from ual_registry.errors import FormatError, RegistryNotFoundError, RouteError, StorageError
from ual_registry.registry.registry import Registry
from ual_registry.web.app import make_app
from ual_registry.web.choosing import DispatchChooser
from ual_registry.web.dispatching import DispatchEngine
from ual_registry.web.limits import Limits
from ual_registry.web.proxy import make_proxy
from ual_registry.web.upstream import Supply, Upstream
from ual_registry.workflows.serve import ServeOrder, open_served, vllm_export

pytestmark = pytest.mark.filterwarnings("ignore")

ADAPTERS = {"banking": "letter@1", "travel": "letter@live"}


@pytest.fixture
def url(desk: Desk) -> Iterator[str]:
    dispatcher = LoRADispatcher(
        desk.stage.router, desk.stage.base, desk.registry, encoder=desk.stage.encoder, adapters=ADAPTERS
    )
    engine = DispatchEngine(dispatcher, desk.registry)
    with running(make_app(engine, Limits(max_running=4, default_tokens=3))) as (address, _):
        yield address


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as own:
        yield own


def test_each_query_is_answered_by_the_adapter_of_its_domain(client: openai.OpenAI, desk: Desk) -> None:
    first = client.completions.with_raw_response.create(model="auto", prompt=MONEY, temperature=0)
    second = client.completions.with_raw_response.create(model="auto", prompt=FLIGHT, temperature=0)
    assert [own.parse().choices[0].text for own in (first, second)] == ["AAA", "BBB"]
    assert [own.headers["x-ual-domain"] for own in (first, second)] == ["banking", "travel"]
    assert first.headers["x-ual-adapter"] == str(desk.registry.resolve("letter@1"))
    usage = first.parse().usage
    assert usage is not None
    assert usage.completion_tokens == 3
    assert client.completions.create(model="letter", prompt=MONEY, temperature=0).choices[0].text == "BBB"
    chunks = client.completions.create(model="letter@1", prompt=FLIGHT, temperature=0, stream=True)
    assert "".join(own.choices[0].text for own in chunks) == "AAA"
    assert client.completions.with_raw_response.create(model="auto", prompt=OUT_OF_SCOPE).headers["x-ual-reason"] == (
        "out_of_scope"
    )


def test_the_models_are_auto_and_what_the_registry_names(client: openai.OpenAI, desk: Desk) -> None:
    found = {model.id: model.to_dict()["root"] for model in client.models.list()}
    newest = str(desk.registry.resolve("letter"))
    assert found == {"auto": None, "letter": newest, "letter@live": newest}


@pytest.mark.parametrize("name", ["nobody", "letter@9", "letter@nowhere", "sha256:00", "a b", "/etc/passwd", "x/y.air"])
def test_a_name_that_means_nothing_here_is_no_model(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model=name, prompt=MONEY)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_file_of_this_machine_is_no_model(client: openai.OpenAI, desk: Desk) -> None:
    place = desk.home / "A.air"
    assert place.is_file()
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model=str(place), prompt=MONEY)


def test_a_prompt_that_is_longer_than_the_model_reads_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="auto", prompt=f"{MONEY} " * 400)
    assert caught.value.code == "context_length_exceeded"


def test_messages_need_a_chat_template(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": MONEY}])
    assert caught.value.code == "no_chat_template"


def test_many_clients_get_the_answer_of_the_adapter_that_the_headers_name(url: str, desk: Desk) -> None:
    letters = {str(desk.registry.resolve(f"letter@{number}")): letter for number, letter in ((1, "A"), (2, "B"))}
    is_over = threading.Event()

    def move() -> None:
        number = 2
        while not is_over.wait(0.05):
            number = 3 - number
            desk.registry.alias("letter", "live", str(number))
        desk.registry.alias("letter", "live", "2")

    def ask(number: int) -> str | None:
        body = {"model": "auto", "prompt": (MONEY, FLIGHT)[number % 2], "temperature": 0, "max_tokens": 3}
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
        text, expected = answer.json()["choices"][0]["text"], letters[answer.headers["x-ual-adapter"]] * 3
        return None if text == expected else text

    mover = threading.Thread(target=move)
    mover.start()
    try:
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(ask, range(24))) == [None] * 24
    finally:
        is_over.set()
        mover.join()


def test_a_fallback_that_is_no_adapter_is_told_before_anybody_asks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UAL_HOME", str(desk.home))
    with pytest.raises(RegistryNotFoundError):
        open_served(ServeOrder(base=str(desk.stage.folder), fallback="nobody"))
    for fallback in ("letter@1", "base", "refuse"):
        open_served(ServeOrder(base=str(desk.stage.folder), fallback=fallback)).dispatcher.close()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"adapters": {"bankin": "letter"}}, RouteError, "the router has no domain 'bankin'"),
        ({"adapters": {"banking": "nobody"}}, RegistryNotFoundError, "adapter 'nobody': not in this registry"),
        ({"log": Path("/dev/null/x.jsonl")}, StorageError, "cannot write /dev/null/x.jsonl: "),
        ({"router": "cut"}, FormatError, "which has 300 bytes"),
    ],
)
def test_what_would_go_wrong_with_a_query_is_told_before_anybody_asks(
    desk: Desk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    change: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setenv("UAL_HOME", str(desk.home))
    cut = tmp_path / "cut.air"
    cut.write_bytes(desk.router.read_bytes()[:300])
    own = {"router": str(desk.router), "base": str(desk.stage.folder), "encoder": str(desk.encoder), **change}
    own["router"] = str(cut) if own["router"] == "cut" else own["router"]
    with pytest.raises(error) as caught:
        open_served(ServeOrder(**own))
    assert message in str(caught.value)


def test_threads_that_export_one_adapter_leave_one_whole_folder(desk: Desk, tmp_path: Path) -> None:
    source = tmp_path / "plain.air"
    digest = str(write(random_adapter(desk.stage.base, 0), source))
    both = threading.Barrier(2)

    def find(_: str) -> Path:
        both.wait(20)
        return source

    export = vllm_export(find)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(export, [digest] * 2, [tmp_path / "out" / "own"] * 2)) == [None, None]
    places = sorted(str(place.relative_to(tmp_path / "out")) for place in (tmp_path / "out").rglob("*"))
    assert places == ["own", "own/adapter_config.json", "own/adapter_model.safetensors"]


@contextlib.contextmanager
def process(desk: Desk, *arguments: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``ual serve`` with the desk's router; it gives the address and the process."""
    command = [sys.executable, "-m", "ual_registry", "serve", str(desk.router), "--encoder", str(desk.encoder)]
    command += ["--port", "0", *map(str, arguments)]
    environment = {**os.environ, "UAL_HOME": str(desk.home), "OMP_NUM_THREADS": "1"}
    own = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert own.stdout is not None
        line = own.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:"), line
        yield line.split()[-1].removesuffix("/v1"), own
    finally:
        own.kill()
        own.wait()


def test_a_process_finishes_what_runs_on_sigterm_and_ends_well(desk: Desk, tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    domains = ("--domain", "banking=letter@1", "--log", log)
    with process(desk, "--base", desk.stage.folder, *domains) as (url, own):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=3) as client:
            stream = client.completions.create(model="auto", prompt=MONEY, max_tokens=40, temperature=0, stream=True)
            texts = [next(stream).choices[0].text]
            own.send_signal(signal.SIGTERM)
            texts += [chunk.choices[0].text for chunk in stream]
        assert "".join(texts) == "A" * 40
        assert own.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")
    assert [(row.query, row.domain, row.reason) for row in read_log(log)] == [(MONEY, "banking", "ok")]


def test_a_proxy_writes_adapters_that_its_server_can_load(desk: Desk, tmp_path: Path) -> None:
    vllm, registry = FakeVLLM(), Registry.open(tmp_path / "home")
    write(random_adapter(desk.stage.base, 0), tmp_path / "plain.air")
    in_file = str(write(random_adapter(desk.stage.base, 1), tmp_path / "file.air"))
    registry.add(tmp_path / "plain.air", name="plain", aliases=["live"])
    dispatcher = LoRADispatcher(
        desk.stage.router, None, registry, encoder=desk.stage.encoder, adapters={"banking": "plain@live"}
    )
    dispatcher.register_domain("travel", str(tmp_path / "file.air"))
    log = tmp_path / "decisions.jsonl"
    with running(vllm.app()) as (behind, _):
        upstream = Upstream(
            behind, supply=Supply.API, folder=tmp_path / "out", export=vllm_export(dispatcher.adapter_file, "org/base")
        )
        with running(make_proxy(DispatchChooser(dispatcher, registry, DecisionLog(log)), upstream)) as (url, _):
            routed = httpx.post(f"{url}/v1/completions", json={"model": "auto", "prompt": MONEY}, timeout=60)
            forced = httpx.post(f"{url}/v1/completions", json={"model": "plain", "prompt": MONEY}, timeout=60)
            of_file = httpx.post(f"{url}/v1/completions", json={"model": "auto", "prompt": FLIGHT}, timeout=60)
    name, other = ("ual-" + digest.removeprefix("sha256:")[:16] for digest in (str(registry.resolve("plain")), in_file))
    assert [answer.json()["model"] for answer in (routed, forced, of_file)] == [name, name, other]
    assert vllm.loads == [{"lora_name": own, "lora_path": str(tmp_path / "out" / own)} for own in (name, other)]
    folder = tmp_path / "out" / name
    assert sorted(place.name for place in folder.parent.iterdir()) == sorted([name, other])
    assert sorted(place.name for place in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/base"
    logged = [(row.query, row.domain, row.reason) for row in read_log(log)]
    assert logged == [(MONEY, "banking", "ok"), (MONEY, None, "forced"), (FLIGHT, "travel", "ok")]
