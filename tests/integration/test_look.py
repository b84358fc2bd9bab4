"""Looking at adapters on the Hub before they are fetched: only headers are read, and what is refused is told."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_adapter import make_tiny_models
from tests.handmade import small_adapter
from tests.hub_server.fixtures import HubEnvironment
from tests.hub_server.server import HubSite
from tests.unit.cli.conftest import Result, Ual, folder, ual
from ual_registry.air.problem import Problem
from ual_registry.air.tensor import Tensor
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.workflows.validate import validate

__all__ = ["folder", "ual"]  # fixtures of the command line in this process

_LIMIT_BYTES = 256 * 1024


@pytest.fixture
def site(hub_env: HubEnvironment, folder: Path) -> HubSite:
    """A Hub with an AIR file, a PEFT pair, several adapters, a pickle, and no adapter."""
    site = hub_env.site
    make_tiny_models(folder / "tour")
    pair = {file.name: file for file in (folder / "tour" / "adapter").iterdir()}
    site.put("tester/medical", {"adapter.air": folder / "small.air", "README.md": "a card"})
    site.put("tester/pair", pair)
    site.put("tester/many", {"german/adapter.air": folder / "small.air", "french/model.air": folder / "small.air"})
    site.put("tester/pickle", {"adapter_model.bin": b"x", "adapter_config.json": "{}"})
    site.put("tester/nothing", {"README.md": "a card"})
    site.clear_log()
    return site


def tip(site: HubSite, name: str) -> str:
    return str(site.repo(name).tip)


def small_digest() -> str:
    return str(Digest.of_file(Path("small.air")))


def asked(site: HubSite) -> list[str]:
    """Return the endpoints that were asked, and check that little came."""
    assert sum(exchange.sent_bytes for exchange in site.log) <= _LIMIT_BYTES
    return site.log.endpoints()


HEADER = ["model-info", "resolve-get", "cdn-get"]


def test_an_air_file_is_described_by_three_requests(site: HubSite, ual: Ual) -> None:
    local = ual("show", "./small.air").out.splitlines()
    shown = ual("show", "hf:tester/medical").out.splitlines()
    assert shown == [
        local[0].replace("./small.air", "hf:tester/medical"),
        f"commit     {tip(site, 'tester/medical')}",
        "file       adapter.air",
        f"{local[1]} (the word of the Hub; only the header was read)",
        *local[2:],
    ]
    assert asked(site) == HEADER


def test_the_document_is_that_of_a_file_and_says_where_it_is(site: HubSite, ual: Ual) -> None:
    local = ual("show", "./small.air", "--json").document
    site.repo("tester/medical").is_private, site.repo("tester/medical").gated = True, "manual"
    site.repo("tester/medical").granted.add("tester")
    commit = tip(site, "tester/medical")
    file = {"path": "adapter.air", "form": "air", "size_bytes": local["size_bytes"], "digest": small_digest()}
    assert ual("show", "hf:tester/medical", "--json").document == {
        **local,
        "path": f"hf:tester/medical@{commit}:adapter.air",
        "peft": None,
        "hub": {"repository": "tester/medical", "commit": commit, "is_private": True, "gated": "manual"},
        "adapters": [file],
        "left_out": [],
    }
    assert f"\ncommit     {commit}\naccess     private, gated (manual)\n" in ual("show", "hf:tester/medical").out


def test_a_revision_means_its_commit(site: HubSite, ual: Ual) -> None:
    before = tip(site, "tester/medical")
    site.put("tester/medical", {"adapter.air": b"no AIR file"})
    shown = ual("show", f"hf:tester/medical@{before}", "--json")
    assert (shown.code, shown.document["hub"]["commit"]) == (0, before)
    failed = ual("show", "hf:tester/medical")
    length = int.from_bytes(b"no AIR f", "little")
    message = f"hf:tester/medical: header of {length} bytes is over the limit of 100000000"
    assert (failed.code, failed.err.splitlines()[0]) == (3, f"error [header-too-large]: {message}")


def test_a_long_header_takes_one_request_more(site: HubSite, ual: Ual) -> None:
    remark = {"org.example.remark": "long " * 50_000}
    write(small_adapter(annotations=remark), Path("long.air"))
    site.put("tester/long", {"adapter.air": Path("long.air")})
    found = ual("show", "hf:tester/long", "--json")
    assert (found.code, found.document["manifest"]["annotations"]) == (0, remark)
    assert site.log.endpoints() == [*HEADER, "cdn-get"]


def test_the_size_of_the_tensors_does_not_count(site: HubSite, ual: Ual) -> None:
    adapter = small_adapter()
    large = Tensor.of_bytes("I8", (4_000_000,), bytes(4_000_000))
    wide = replace(adapter, tensors={**adapter.tensors, adapter.manifest.extra[0].tensor: large})
    write(wide, Path("wide.air"))
    site.put("tester/wide", {"adapter.air": Path("wide.air")})
    site.clear_log()
    found = ual("show", "hf:tester/wide", "--json")
    assert (found.code, found.document["size_bytes"] > 4_000_000) == (0, True)
    assert asked(site) == HEADER


def test_of_a_peft_pair_the_configuration_is_described_by_two_requests(site: HubSite, ual: Ual) -> None:
    weights = Path("tour/adapter/adapter_model.safetensors")
    assert ual("show", "hf:tester/pair").out == (
        "hf:tester/pair  PEFT adapter, 150 kB\n"
        f"commit     {tip(site, 'tester/pair')}\n"
        "file       adapter_model.safetensors\n"
        f"digest     {Digest.of_file(weights)} (the word of the Hub)\n"
        "base       example/tiny-llama, at 0123456789abcdef0123456789abcdef01234567\n"
        "method     LoRA rank 8, alpha 16, scaling alpha/rank, CAUSAL_LM\n"
        "targets    down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj\n"
        "tensors    not read; layers, shapes and roles show when it is pulled\n"
        "\n"
        "'ual pull tester/pair' makes an AIR file of it\n"
    )
    assert asked(site) == ["model-info", "resolve-get"]
    assert ual("show", "hf:tester/pair", "--json").document["peft"] == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base": "example/tiny-llama",
        "base_revision": "0123456789abcdef0123456789abcdef01234567",
        "rank": 8,
        "alpha": 16,
        "target_modules": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
        "config": json.loads(Path("tour/adapter/adapter_config.json").read_text()),
        "refusal": None,
    }


def test_a_peft_adapter_that_air_cannot_carry_is_described_with_the_reason(site: HubSite, ual: Ual) -> None:
    config = {"peft_type": "IA3", "base_model_name_or_path": "org/base", "r": "many", "target_modules": "all-linear"}
    site.put("tester/other", {"sub/adapter_config.json": json.dumps(config), "sub/adapter_model.safetensors": b"x"})
    lines = ual("show", "hf:tester/other@main:sub").out.splitlines()
    assert lines[0] == "hf:tester/other@main:sub  PEFT adapter, 1 B"
    assert lines[4:] == [
        "base       org/base, unpinned",
        "method     IA3 rank unknown, alpha unknown, scaling alpha/rank",
        "targets    all-linear",
        "tensors    not read; layers, shapes and roles show when it is pulled",
        "",
        "AIR cannot carry it: adapter_config.json: peft_type 'IA3': expected 'LORA'",
    ]


def test_several_adapters_are_listed_and_each_can_be_named(site: HubSite, ual: Ual) -> None:
    digest = small_digest()
    assert ual("show", "hf:tester/many").out == (
        "hf:tester/many  2 adapters\n"
        f"commit     {tip(site, 'tester/many')}\n"
        "\n"
        "file                form    size     digest\n"
        f"french/model.air    AIR     2.61 kB  {digest}\n"
        f"german/adapter.air  AIR     2.61 kB  {digest}\n"
        "\n"
        "'ual show hf:tester/many:french/model.air' describes one of them\n"
    )
    assert asked(site) == ["model-info"]
    document = ual("show", "hf:tester/many", "--json").document
    empty = ("path", "digest", "size_bytes", "parameter_count", "roles", "manifest", "peft")
    assert {name: document[name] for name in empty} == dict.fromkeys(empty)
    for words in ("hf:tester/many:german", "hf:tester/many@main:german/adapter.air"):
        found = ual("show", words, "--json").document
        assert found["path"] == f"hf:tester/many@{tip(site, 'tester/many')}:german/adapter.air"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("hf:tester/none", 9, "[hub-not-found]: cannot read hf:tester/none: "),
        ("hf:tester/medical@v9", 9, "[hub-no-revision]: cannot read hf:tester/medical@v9: "),
        ("hf:tester/medical:x.air", 9, "[hub-no-file]: tester/medical@"),
        ("hf:tester/nothing", 9, "[hub-no-adapter]: tester/nothing@"),
        ("hf:tester/pickle", 3, "[peft-pickle]: tester/pickle@"),
        ("hf:tester", 9, "[hub-address]: cannot read the address 'hf:tester': "),
    ],
)
def test_what_is_not_there_is_told(site: HubSite, ual: Ual, words: str, code: int, message: str) -> None:
    found = ual("show", words)
    assert (found.code, found.out, found.err.startswith(f"error {message}")) == (code, "", True), found.err


def test_a_path_that_is_not_there_is_a_file_or_a_folder_as_it_is_called(site: HubSite, ual: Ual) -> None:
    tip = str(site.repo("tester/medical").tip)[:12]
    for path, kind in (("none.air", "file"), ("none", "folder")):
        found = ual("show", f"hf:tester/medical:{path}")
        assert found.err.splitlines()[0] == f"error [hub-no-file]: tester/medical@{tip}: no {kind} {path}"


def test_what_is_gated_is_refused_with_what_to_do(site: HubSite, ual: Ual) -> None:
    site.put("stranger/gated", {"adapter.air": Path("small.air")}, gated="auto", author="stranger")
    site.put("stranger/own", {"adapter.air": Path("small.air")}, private=True, author="stranger")
    refused = ual("show", "hf:stranger/gated")
    assert (refused.code, refused.err.partition(":")[0]) == (9, "error [hub-gated]")
    hidden = ual("show", "hf:stranger/own")
    assert (hidden.code, hidden.err.partition(":")[0]) == (9, "error [hub-not-found]")
    found = ual("validate", "hf:stranger/gated", "hf:stranger/own", "hf:tester/medical", "--json")
    assert (found.code, problems(found)) == (
        9,
        [
            ("hf:stranger/gated", ["hub-gated"]),
            ("hf:stranger/own", ["hub-not-found"]),
            ("hf:tester/medical", []),
        ],
    )


def ok(name: str) -> str:
    return f"{name}: ok (AIR 1.0 adapter for gpt_neox, 3 entries, 6 tensors, 2.61 kB; header only)\n"


def test_files_on_the_hub_are_checked_by_their_headers(site: HubSite, ual: Ual) -> None:
    assert ual("validate", "hf:tester/medical") == Result(0, ok("hf:tester/medical"), "")
    assert asked(site) == HEADER
    assert ual("validate", "hf:tester/many").out == (
        ok("hf:tester/many:french/model.air") + ok("hf:tester/many:german/adapter.air")
    )
    commit = tip(site, "tester/medical")
    facts = ual("validate", "hf:tester/medical", "--json").document["files"][0]["facts"]
    local = ual("validate", "small.air", "--json").document["files"][0]["facts"]
    assert facts == {**local, "repository": "tester/medical", "commit": commit, "file": "adapter.air"}


def test_a_file_on_the_hub_that_is_not_legal_fails(site: HubSite, ual: Ual) -> None:
    site.put("tester/broken", {"a.air": Path("broken.air"), "b.air": Path("small.air")})
    found = ual("validate", "hf:tester/broken", "small.air")
    assert (found.code, found.out.count("hf:tester/broken:a.air: 1 error")) == (3, 1)
    asked_for = ual("validate", "hf:tester/broken:b.air", "--require", "lineage", "--json")
    assert (asked_for.code, problems(asked_for)) == (3, [("hf:tester/broken:b.air", ["policy-lineage"])])


def problems(found: Result) -> list[tuple[str, list[str]]]:
    return [(file["path"], [item["code"] for item in file["problems"]]) for file in found.document["files"]]


def test_what_the_hub_refuses_is_a_problem_of_the_report(site: HubSite, ual: Ual) -> None:
    alone = ual("validate", "hf:tester/none", "--json")
    assert (alone.code, problems(alone)) == (9, [("hf:tester/none", ["hub-not-found"])])
    mixed = ual("validate", "small.air", "hf:tester/none", "hf:tester/pair", "hf:tester/pickle", "hf:x", "--json")
    assert (mixed.code, problems(mixed)) == (
        9,
        [
            ("small.air", []),
            ("hf:tester/none", ["hub-not-found"]),
            ("hf:tester/pair", ["no-air-file"]),
            ("hf:tester/pickle", ["peft-pickle"]),
            ("hf:x", ["hub-address"]),
        ],
    )
    assert ual("validate", "hf:tester/none", "none.air").code == 11
    assert ual("validate", "hf:tester/pair").code == 3


def test_a_token_goes_to_the_hub_alone(site: HubSite, ual: Ual) -> None:
    ual("show", "hf:tester/medical")
    held: dict[str, Any] = {item.endpoint: "authorization" in item.headers for item in site.log}
    assert held == {"model-info": True, "resolve-get": True, "cdn-get": False}


def test_files_here_are_described_and_checked_without_the_client_of_the_hub(folder: Path) -> None:
    code = (
        "import sys; from ual_registry.cli.main import run\n"
        "codes = [run(['show', './small.air']), run(['validate', 'small.air'])]\n"
        "rooms = {name.partition('.')[0] for name in sys.modules}\n"
        "far = {'huggingface_hub', 'httpx2', 'urllib3', 'sqlalchemy', 'torch', 'numpy'}\n"
        "print(codes, rooms & far, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[0, 0] set()\n"


def test_one_report_is_given_on_one_address(site: HubSite, ual: Ual) -> None:
    report = validate("hf:tester/medical")
    assert (report.path, report.problems) == ("hf:tester/medical", ())
    assert validate("hf:tester/many").problems == (
        Problem(
            code="several-adapters",
            place="",
            message="hf:tester/many: holds 2 AIR files, expected one",
            hint="name one, such as hf:tester/many:french/model.air",
            branch="container",
        ),
    )
