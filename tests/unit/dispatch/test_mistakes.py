"""What the commands about routers make of queries, files and settings that are not what they should be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_encoder import sentence_encoder
from tests.commands import Result, Ual
from tests.handmade import small_adapter
from tests.unit.dispatch.clouds import AXES, cloud, fitted
from tests.unit.dispatch.clouds import ENCODER as ENCODER_IDENTITY
from tests.unit.dispatch.conftest import ENCODER, write_rows
from ual_registry.air.write import write
from ual_registry.dispatch.classifier import Floats
from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.dispatch.log import DecisionLog, read_log
from ual_registry.workflows.route import route


@pytest.mark.parametrize("query", ["money " * 180_000, "请给我转账", "مرحبا 🦊", "money\x00card", "a\nb"])
def test_any_text_is_decided(ual: Ual, query: str) -> None:
    (document,) = ual("route", "desk", query, *ENCODER, "--json").document
    assert document["reason"] in {"ok", "out_of_scope", "ambiguous", "no_adapter"}
    said = ual("route", "desk", query, "money", *ENCODER)
    assert (said.code, len(said.out.splitlines())) == (0, 4)
    assert max(map(len, said.out.splitlines())) < 200


def test_text_that_is_no_utf_8_is_logged(desk: Path) -> None:
    log = DecisionLog(Path("log.jsonl"))
    log.write("caf\udce9 \ud800", Decision(reason=Reason.FORCED, domain=None, adapter="tone@3"))
    assert [row.query for row in read_log(Path("log.jsonl"))] == ["caf\udce9 \ud800"]


def _settings(text: str) -> Callable[[], None]:
    def make() -> None:
        Path("bad.yaml").write_text(text)

    return make


def _cut_off() -> None:
    Path("bad.air").write_bytes(Path("desk.air").read_bytes()[:9000])


def _changed() -> None:
    data = bytearray(Path("desk.air").read_bytes())
    data[-3] ^= 1
    Path("bad.air").write_bytes(data)


def _other_encoder() -> None:
    sentence_encoder(Path("narrow"), width=16)


def _unregistered() -> None:
    write(small_adapter(name="new"), "new.air")
    _settings("domains: {a: {adapter: new.air, examples: [x, y]}, b: {examples: [z, u]}}")()


def _rows(*given: dict[str, Any]) -> Callable[[], None]:
    def make() -> None:
        write_rows(Path("bad.jsonl"), list(given))

    return make


def _nothing() -> None:
    pass


TRAIN = "router train --config bad.yaml --encoder tiny/encoder -o out.air"
EVALUATE = "router evaluate desk --encoder tiny/encoder --data bad.jsonl"
HELD_OUT = "hint: thresholds are fitted on examples that are held out; give five or more\n"

BAD: list[tuple[Callable[[], None], str, int, str]] = [
    (
        _settings("domains: {a: {}, b: {examples: [x, y]}}"),
        TRAIN,
        7,
        "error [examples]: domain 'a': 0 examples, expected at least 2\n" + HELD_OUT,
    ),
    (
        _settings("domains: {a: {examples: [x]}, b: {examples: [x, y]}}"),
        TRAIN,
        7,
        "error [examples]: domain 'a': 1 examples, expected at least 2\n" + HELD_OUT,
    ),
    (
        _settings("domains: {a: {examples: [x, x]}, b: {examples: [x, y]}}"),
        TRAIN,
        7,
        "error [examples]: domain 'a': 1 examples, expected at least 2\n" + HELD_OUT,
    ),
    (
        _settings("domains: {a: {examples: [x, y], prompt: z}}"),
        TRAIN,
        7,
        "error [queries]: bad.yaml: domains.a: unknown 'prompt', expected adapter, min_probability, examples\n",
    ),
    (
        _settings("domain: {a: {}}"),
        TRAIN,
        7,
        "error [queries]: bad.yaml: settings: unknown 'domain', expected name, encoder, target, thresholds, domains\n",
    ),
    (_settings("domains: {}"), TRAIN, 7, "error [queries]: bad.yaml: domains: expected names with their settings\n"),
    (
        _settings("target: {kept: 95}\ndomains: {a: {}}"),
        TRAIN,
        7,
        "error [queries]: bad.yaml: target.kept: expected a number from 0 to 1, got 95\n",
    ),
    (
        _settings("domains: {a: {adapter: absent, examples: [x, y]}}"),
        TRAIN,
        8,
        "error [not-found]: adapter 'absent': not in this registry\nhint: this registry holds: desk, money, trips\n",
    ),
    (
        _unregistered,
        TRAIN,
        8,
        (
            "error [not-found]: domain 'a': the registry does not hold the adapter new.air\n"
            "hint: register it with 'ual add new.air --name NAME'\n"
        ),
    ),
    (
        _nothing,
        "route desk.air",
        2,
        (
            "Usage: ual route [OPTIONS] ROUTER [QUERY]...\nTry 'ual route --help' for help.\n\n"
            "Error: give a QUERY, or --data FILE with some\n"
        ),
    ),
    (
        _nothing,
        "route desk x",
        7,
        (
            "error [encoder]: the router's encoder 'encoder' was a folder, and there is none of that name here\n"
            "hint: give the folder with --encoder\n"
        ),
    ),
    (
        _other_encoder,
        "route desk x --encoder narrow",
        7,
        (
            "error [encoder]: encoder narrow: dimension 16 does not match the router's (encoder: 128)\n"
            "hint: thresholds hold for one encoder only; give that one, or train the router again\n"
        ),
    ),
    (
        _nothing,
        "route money x --encoder tiny/encoder",
        3,
        "error [kind]: money: is an adapter, expected a router\n",
    ),
    (
        _nothing,
        "route nobody x",
        8,
        "error [not-found]: adapter 'nobody': not in this registry\nhint: this registry holds: desk, money, trips\n",
    ),
    (
        _cut_off,
        "route bad.air x --encoder tiny/encoder",
        3,
        "error [truncated]: ",
    ),
    (
        _changed,
        "route bad.air x --encoder tiny/encoder",
        3,
        "error [tensor-digest]: ",
    ),
    (
        _rows({"text": "x", "domain": "sports"}),
        EVALUATE,
        7,
        "error [domains]: bad.jsonl: line 1: the router has no domain 'sports' (it has banking, cooking, travel)\n",
    ),
    (
        _rows({"text": "x"}),
        EVALUATE,
        7,
        "error [queries]: no query has a domain; there is nothing to measure\n",
    ),
    (
        _rows({"text": "x", "domain": "travel"}, {"text": 3}),
        EVALUATE,
        7,
        'error [queries]: bad.jsonl: line 2: expected an object with "text", got {"text": 3}\n',
    ),
    (
        _rows({"text": "x", "domain": "travel"}),
        f"{EVALUATE} --plot map.pdf",
        11,
        "error [storage]: cannot draw map.pdf: a picture is a file that ends in .png or .svg\n",
    ),
    (
        _nothing,
        "router remove desk sports -o out.air",
        7,
        "error [domains]: the router has no domain 'sports' (it has banking, cooking, travel)\n",
    ),
    (
        _nothing,
        "router add desk travel --data tiny/examples.jsonl --encoder tiny/encoder -o out.air",
        7,
        "error [domains]: the router has a domain 'travel' already; remove it first\n",
    ),
    (
        _nothing,
        "router add desk sports --data tiny/examples.jsonl --encoder tiny/encoder -o out.air",
        7,
        "error [examples]: domain 'sports': 0 examples, expected at least 2\n",
    ),
    (
        _rows({"query": "x", "domain": None, "adapter": "y", "reason": "forced"}),
        "router replay desk --log bad.jsonl --encoder tiny/encoder",
        7,
        "error [log]: bad.jsonl: holds no decision to make once more\n",
    ),
    (
        _rows({"query": "x"}),
        "router replay desk --log bad.jsonl --encoder tiny/encoder",
        7,
        (
            "error [log]: bad.jsonl: line 1: is no decision\n"
            "hint: a log is what 'ual route --log' writes; remove a line that was cut off\n"
        ),
    ),
    (
        _rows({"query": "x", "domain": "a", "adapter": None, "reason": "ok", "nearest": {"distance": 0.1}}),
        "router drift --log bad.jsonl",
        7,
        (
            "error [log]: 0 older and 1 newer decisions, expected at least 20 of each\n"
            "hint: only decisions of a router count; --since or --split say where the newer part begins\n"
        ),
    ),
    (
        _nothing,
        "route desk money --encoder tiny/encoder --log desk.air",
        7,
        (
            "error [log]: desk.air: line 1: is no decision\n"
            "hint: a log is what 'ual route --log' writes; remove a line that was cut off\n"
        ),
    ),
    (
        _rows({"query": "x", "domain": "travel", "adapter": None, "reason": "ok"}),
        EVALUATE,
        7,
        (
            'error [queries]: bad.jsonl: line 1: expected an object with "text", got '
            '{"query": "x", "domain": "travel", "adapter": null, "reason": "ok"}\n'
            "hint: a log is read by 'ual router replay' and 'ual router drift'\n"
        ),
    ),
    (
        _settings("domains: {Banking: {}, Travel: {}}"),
        f"{TRAIN} --data tiny/examples.jsonl",
        7,
        (
            "error [examples]: domain 'Banking': 0 examples, expected at least 2\n"
            "hint: the data has examples of banking, cooking, travel, which the settings do not name\n"
        ),
    ),
    (
        _nothing,
        "router train --config tiny/router.yaml --data tiny/examples.jsonl --name bad/name",
        8,
        (
            "error [name]: adapter name 'bad/name': expected 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', "
            "the first a letter or digit\n"
        ),
    ),
    (
        _nothing,
        "router drift --log none.jsonl",
        11,
        "error [storage]: cannot read none.jsonl: No such file or directory\nhint: check the path\n",
    ),
]


@pytest.mark.parametrize(("make", "command", "code", "message"), BAD, ids=[case[3][:60] for case in BAD])
def test_bad_input_is_refused_by_name(
    ual: Ual, make: Callable[[], None], command: str, code: int, message: str
) -> None:
    make()
    found = ual(*command.split())
    assert (found.code, found.out) == (code, "")
    assert found.err == message if message.endswith("\n") else found.err.startswith(message)
    assert not Path("out.air").exists()


class Noting:
    """The encoder of a router of two domains, which notes how it is asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.identity = ENCODER_IDENTITY

    def encode(self, texts: Sequence[str]) -> Floats:
        self.asked.append(list(texts))
        return cloud(AXES["banking"], len(texts), 1)


def test_all_queries_are_encoded_in_one_go(tmp_path: Path) -> None:
    encoder = Noting()
    texts = [f"query {place}" for place in range(200)]
    found = route(fitted().router, texts, encoder=encoder, log=tmp_path / "log.jsonl")
    assert encoder.asked == [texts]
    assert {decision.domain for decision in found} == {"banking"}
    assert [row.query for row in read_log(tmp_path / "log.jsonl")] == texts


def test_an_empty_query_is_refused_by_its_place(ual: Ual) -> None:
    assert ual("route", "desk", "x", " ", *ENCODER) == Result(7, "", "error [queries]: query 2 is empty\n")


def test_a_router_is_no_adapter_of_a_domain(ual: Ual) -> None:
    Path("bad.yaml").write_text("domains: {a: {adapter: desk, examples: [x, y]}, b: {examples: [z, u]}}")
    found = ual(*TRAIN.split())
    assert found.code == 3
    assert found.err.endswith("is a router, expected an adapter\n")


@pytest.mark.parametrize("command", ["router drift --log log.jsonl", "route desk x", f"{TRAIN} -q"])
def test_what_must_be_installed_is_said(ual: Ual, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr("ual_registry.workflows.extras._is_installed", lambda package: package != "sklearn")
    found = ual(*command.split())
    assert (found.code, found.out) == (10, "")
    assert found.err.startswith("error [missing-extra]: ")
    assert found.err.endswith(
        "needs the extra 'dispatch', which is not installed\nhint: pip install 'ual-registry[dispatch]'\n"
    )
