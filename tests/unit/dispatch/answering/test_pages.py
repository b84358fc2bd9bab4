"""The Python code of the pages on routing, answering and serving does what they say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.dispatch.answering.stage import MONEY, Stage, letter_adapter
from tests.unit.web.running import running
from ual_registry.air.write import write
from ual_registry.dispatch.dispatcher import LoRADispatcher
from ual_registry.dispatch.log import read_log
from ual_registry.models.loaded import load_base_model
from ual_registry.registry.registry import Registry
from ual_registry.web.app import make_app
from ual_registry.web.dispatching import DispatchEngine
from ual_registry.web.limits import Limits

pytestmark = pytest.mark.filterwarnings("ignore")

_DOCS = Path(__file__).resolve().parents[4] / "docs"


def run_page(name: str, said: Mapping[str, str]) -> None:
    """Run the Python code of a page, with some of its queries replaced."""
    page = _DOCS / name
    (code,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for query, other in said.items():
        assert query in code
        code = code.replace(query, other)
    exec(compile(code, str(page), "exec"), {})  # the page's own code


def test_the_page_on_answering_answers(
    stage: Stage,
    encoder_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "registry"))
    stage.router.save("front-desk.air")
    Path("smollm").symlink_to(stage.folder)
    Path("minilm").symlink_to(encoder_folder)
    write(letter_adapter(stage.base, "A"), "a.air")
    Registry.open().add("a.air", name="banking", aliases=["production"])
    # The tiny encoder knows few words.
    run_page("dispatch-generate.md", {"my card was swallowed": MONEY, "and where do I get a new card?": MONEY})
    assert capsys.readouterr().out == "banking ok 128\n" + "A" * 128 + "\n" + "A" * 128
    assert [(row.domain, row.reason) for row in read_log(Path("decisions.jsonl"))] == [("banking", "ok")] * 2


def test_the_client_of_the_page_on_serving_is_answered(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = load_base_model(stage.folder)
    base.text_tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    registry = stage.registry(tmp_path / "home", "A")
    adapters = {"banking": "letter@live"}
    dispatcher = LoRADispatcher(stage.router, base, registry, encoder=stage.encoder, adapters=adapters)
    with running(make_app(DispatchEngine(dispatcher, registry), Limits(default_tokens=3))) as (url, _):
        # Without a temperature the client would get what is drawn.
        said = {"http://127.0.0.1:8000": url, "my card was swallowed": MONEY, '"auto"': '"auto", temperature=0'}
        run_page("serve.md", said)
    assert capsys.readouterr().out == "banking AAA\n"


def test_the_page_on_routing_routes(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (desk / "tiny").is_dir()
    run_page("dispatch.md", {})
    assert capsys.readouterr().out.splitlines()[-1].startswith("banking ok {'banking': ")
