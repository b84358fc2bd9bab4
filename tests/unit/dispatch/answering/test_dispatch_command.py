"""``ual dispatch``: what it prints, what it logs, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Result
from tests.unit.dispatch.answering.stage import FLIGHT, MONEY, OUT_OF_SCOPE, Stage
from ual_registry.air.schema import schema_problems
from ual_registry.cli.main import run
from ual_registry.dispatch.log import read_log
from ual_registry.registry.registry import Registry

pytestmark = pytest.mark.filterwarnings("ignore")

Ask = Callable[..., Result]


@pytest.fixture
def registry(stage: Stage, tmp_path: Path) -> Registry:
    return stage.registry(tmp_path / "home", "AB")


@pytest.fixture
def at_hand(stage: Stage, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Make a folder with a router the working folder, and the registry the usual one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "home"))
    stage.router.save("router.air")
    return stage


@pytest.fixture
def ask(at_hand: Stage, encoder_folder: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run ``ual dispatch`` there."""
    adapters = ("--domain", "banking=letter@1", "--domain", "travel=letter@live")
    given = ("--base", at_hand.folder, "--encoder", encoder_folder, *adapters, "--max-tokens", 3)

    def call(query: str, *more: object) -> Result:
        capsys.readouterr()
        code = run([str(word) for word in ("dispatch", "router.air", query, *given, *more)])
        caught = capsys.readouterr()
        assert "Traceback" not in caught.err
        return Result(code, caught.out, caught.err)

    return call


def test_a_query_is_answered_and_who_answered_is_told(ask: Ask, registry: Registry) -> None:
    digest = registry.resolve("letter@1")
    found = ask(MONEY)
    assert (found.code, found.out) == (0, "AAA\n")
    assert found.err.splitlines()[-1] == f"banking: ok; answered by {digest}, its effect not recorded"
    assert ask(MONEY, "--stream").out == "AAA\n"


def test_the_document_follows_its_schema(ask: Ask, registry: Registry, stage: Stage) -> None:
    document = ask(FLIGHT, "--json", "--stop", "BB").document
    assert list(schema_problems("1.0/cli/dispatch.json", document, root="document")) == []
    digest = str(registry.resolve("letter@2"))
    decision = document.pop("decision")
    assert document == {
        "base": str(stage.folder),
        "query": FLIGHT,
        "text": "",
        "tokens": 2,
        "finish": "stop",
        "adapter": digest,
        "is_fallback": False,
        "effect": "not_recorded",
    }
    assert (decision["reason"], decision["domain"], decision["adapter"]) == ("ok", "travel", digest)


def test_a_forced_adapter_answers_without_an_encoder(ask: Ask) -> None:
    document = ask(OUT_OF_SCOPE, "--adapter", "letter@2", "--encoder", "none", "--json").document
    assert list(schema_problems("1.0/cli/dispatch.json", document, root="document")) == []
    assert (document["text"], document["decision"]["reason"]) == ("BBB", "forced")


def test_the_fallback_answers_or_refuses_and_the_log_says_so(ask: Ask, registry: Registry) -> None:
    found = ask(OUT_OF_SCOPE, "--fallback", "letter@2", "--log", "log.jsonl")
    assert found.out == "BBB\n"
    assert found.err.splitlines()[-1].endswith(
        f"out_of_scope; answered by {registry.resolve('letter@2')}, as the fallback, its effect not recorded"
    )
    refused = ask(OUT_OF_SCOPE, "--fallback", "refuse", "--log", "log.jsonl")
    assert (refused.code, refused.out) == (7, "")
    assert refused.err.splitlines()[0] == f"error [refused]: no adapter answers '{OUT_OF_SCOPE}': out_of_scope"
    logged = [(row.query, row.reason) for row in read_log(Path("log.jsonl"))]
    assert logged == [(OUT_OF_SCOPE, "out_of_scope")] * 2


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--json", "--stream"), 2, "Error: --stream and --json exclude each other"),
        (("--domain", "banking"), 2, "Error: Invalid value for '--domain': 'banking': expected DOMAIN=REF"),
        (("--max-tokens", 0), 7, "error [generation]: max_tokens: expected at least 1, got 0"),
        (("--adapter", "none"), 8, "error [not-found]: adapter 'none': not in this registry"),
        (("--base", "none"), 11, "error [storage]: cannot read none: no such file or folder"),
    ],
)
def test_mistakes_are_told(ask: Ask, more: tuple[object, ...], code: int, message: str) -> None:
    found = ask(MONEY, *more)
    assert found.code == code
    assert message in found.err.splitlines()
