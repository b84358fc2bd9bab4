"""Silly mistakes: one message, one code, no traceback, and with ``--json`` one document."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from tests.unit.cli.conftest import Result, Ual
from ual_registry.cli import main as main_module
from ual_registry.cli.main import COMMANDS, cli, main, run
from ual_registry.cli.output import jsonable, print_error_document, size_text, wants_json
from ual_registry.errors import UALError
from ual_registry.registry.fields import FIELDS
from ual_registry.workflows import store

FOLDER_HINT = "a PEFT folder becomes an AIR file by 'ual convert {} FILE.air --base BASE'"
BASE_HINT = "a base model is given as a model folder, its config.json, or OWNER/NAME on the Hub"
ADDRESS = "{}: is an address, expected an AIR file or the name of a registered adapter"
READS = "'ual validate https://example.org/x.air' reads its header"
EACH = "each of the two has letters, digits, '-', '_' and '.', the first a letter or digit"
EXTRA = "a tensor without a role cannot be projected"
CHECK = "check the path"
CHECK_HUB = "check the path; what is on the Hub is written hf:org/med"
ON_HUB = "hf:org/med: is on the Hub, expected an AIR file or the name of a registered adapter"
PULL = "'ual pull org/med' brings it into the registry"
NO_FOLDER = "cannot write {}: there is no folder none"
MAKE = "make the folder first, or check the path"
NO_SUCH = "No such file or directory"
NOT_A_FILE = "{}: is a folder, expected an AIR file or the name of a registered adapter"
TOO_LARGE = "header of 7308057357401981183 bytes is over the limit of 100000000"
NAME = "expected 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or digit"
EXISTS_HINT = "choose another name, or pass --force to replace it"
HOLDS = "this registry holds: med"

MISTAKES: dict[str, tuple[int, str, str, str | None]] = {
    # command: exit code, error code, message, hint
    "show none.air": (11, "storage", f"cannot read none.air: {NO_SUCH}", CHECK),
    "show empty": (3, "folder", NOT_A_FILE.format("empty"), FOLDER_HINT.format("empty")),
    "show broken.air": (3, "header-too-large", f"broken.air: {TOO_LARGE}", "this is probably not a safetensors file"),
    "show none": (8, "not-found", "adapter 'none': not in this registry", HOLDS),
    "show med@none": (8, "not-found", "adapter 'med' has no alias 'none' (known: production)", None),
    "show med@7": (8, "not-found", "adapter 'med' has no revision 7 (newest: 1)", None),
    "show ''": (8, "name", f"adapter name '': {NAME}", None),
    "show '--' -x": (8, "name", f"adapter name '-x': {NAME}", None),
    "show sha256:12": (
        3,
        "digest-form",
        "digest 'sha256:12': expected 'sha256:' and 64 lower-case hexadecimal digits",
        "'ual search digest:12 --json' finds the whole one",
    ),
    "show org/med": (11, "storage", f"cannot read org/med: {NO_SUCH}", CHECK_HUB),
    "add hf:org/med --name med": (9, "hub-reference", ON_HUB, PULL),
    "get hf:org/med -o x.air": (9, "hub-reference", ON_HUB, PULL),
    "diff hf:org/med med": (9, "hub-reference", ON_HUB, PULL),
    "show card": (8, "not-found", "adapter 'card': not in this registry", "to use the file, write ./card"),
    "show 'a folder'": (3, "folder", NOT_A_FILE.format("a folder"), FOLDER_HINT.format("a folder")),
    "show empty/": (3, "folder", NOT_A_FILE.format("empty/"), FOLDER_HINT.format("empty/")),
    "show 'a file'": (8, "name", f"adapter name 'a file': {NAME}", "to use the file, write ./a file"),
    "show med@'a b'": (
        8,
        "name",
        "alias 'a b': expected A-Z, a-z, 0-9, '.', '_' and '-', not digits alone",
        None,
    ),
    "show ./card": (3, "truncated", "card: file has 6 bytes, fewer than the 8 that hold the header's length", None),
    "convert none out.air --base base": (11, "storage", "cannot read none: no such folder", CHECK),
    "convert none.air out": (11, "storage", f"cannot read none.air: {NO_SUCH}", CHECK),
    "convert small.air out.air": (
        3,
        "foreign-format",
        "small.air: is a file, expected a PEFT folder",
        "an AIR file becomes a PEFT folder by 'ual convert FILE.air FOLDER'",
    ),
    "convert peft out.air": (
        4,
        "no-base",
        "peft: which base model was it trained on?",
        "pass --base: a model folder, its config.json, or OWNER/NAME on the Hub; its dimensions are needed",
    ),
    "convert peft out.air --base none": (
        11,
        "storage",
        "cannot read none: no such file or folder",
        BASE_HINT,
    ),
    "convert peft small.air --base base": (11, "exists", "cannot write small.air: it exists already", EXISTS_HINT),
    "convert peft none/out.air --base base": (11, "storage", NO_FOLDER.format("none/out.air"), MAKE),
    "convert peft out --to peft": (3, "folder", NOT_A_FILE.format("peft"), FOLDER_HINT.format("peft")),
    "convert small.air peft": (11, "exists", "cannot write peft: it exists already", EXISTS_HINT),
    "convert med@production none/out": (11, "storage", NO_FOLDER.format("none/out"), MAKE),
    "convert med@production out": (
        3,
        "extra-without-origin",
        "base_model.model.score.weight: without the original configuration PEFT would not load this tensor",
        None,
    ),
    "add none.air --name x": (11, "storage", f"cannot read none.air: {NO_SUCH}", CHECK),
    "add peft --name x": (3, "folder", "peft: is a folder, expected an AIR file", FOLDER_HINT.format("peft")),
    "add broken.air --name x": (
        3,
        "header-too-large",
        f"broken.air: {TOO_LARGE}",
        "this is probably not a safetensors file",
    ),
    "add small.air --name 'a b'": (8, "name", f"adapter name 'a b': {NAME}", None),
    "add small.air --name a --alias 3": (
        8,
        "name",
        "alias '3': expected A-Z, a-z, 0-9, '.', '_' and '-', not digits alone",
        None,
    ),
    "get none -o out.air": (8, "not-found", "adapter 'none': not in this registry", HOLDS),
    "get med -o small.air": (11, "exists", "cannot write small.air: it exists already", EXISTS_HINT),
    "get med -o none/out.air": (11, "storage", NO_FOLDER.format("none/out.air"), MAKE),
    "get med -o empty": (11, "storage", "cannot write empty: Is a directory", "give a file, not a folder"),
    "get small.air -o out.air": (8, "not-found", "adapter 'small.air': not in this registry", HOLDS),
    "search rank>": (
        8,
        "query",
        "query, column 6: the query ends too early\n  rank>\n       ^",
        f"fields: {', '.join(FIELDS)}",
    ),
    "lineage none": (8, "not-found", "adapter 'none': not in this registry", HOLDS),
    "alias none production 1": (8, "not-found", "adapter 'none': not in this registry", HOLDS),
    "alias med production 9": (8, "not-found", "adapter 'med' has no revision 9 (newest: 1)", None),
    "alias med 7 1": (8, "name", "alias '7': expected A-Z, a-z, 0-9, '.', '_' and '-', not digits alone", None),
    "transfer none.air --to base -o out.air": (11, "storage", f"cannot read none.air: {NO_SUCH}", CHECK),
    "transfer small.air --to base -o none/out.air": (11, "storage", NO_FOLDER.format("none/out.air"), MAKE),
    "transfer small.air --to base/none.json --plan": (
        11,
        "storage",
        "cannot read base/none.json: no such file or folder",
        BASE_HINT,
    ),
    "transfer small.air --to empty --plan": (11, "storage", f"cannot read empty/config.json: {NO_SUCH}", BASE_HINT),
    "convert peft out.air --base peft": (11, "storage", f"cannot read peft/config.json: {NO_SUCH}", BASE_HINT),
    "convert peft out.air --base card": (
        4,
        "binder-data",
        "card: not JSON in UTF-8: Expecting value: line 1 column 1 (char 0)",
        BASE_HINT,
    ),
    "convert torn out.air --base base": (
        3,
        "peft-config",
        "torn/adapter_config.json: not JSON in UTF-8: Expecting value: line 1 column 1 (char 0)",
        None,
    ),
    "convert peft/adapter_model.safetensors out.air": (
        3,
        "foreign-format",
        "peft/adapter_model.safetensors: is a file, expected a PEFT folder",
        "give the folder that holds it: peft",
    ),
    "convert card out.air": (
        3,
        "foreign-format",
        "card: is a file, expected a PEFT folder",
        "give the folder that save_pretrained wrote",
    ),
    "show https://example.org/x.air": (11, "storage", ADDRESS.format("https://example.org/x.air"), READS),
    "diff small.air https://example.org/x.air": (11, "storage", ADDRESS.format("https://example.org/x.air"), READS),
    "convert https://example.org/x.air out": (11, "storage", ADDRESS.format("https://example.org/x.air"), READS),
    "show https://huggingface.co/org/med": (
        11,
        "storage",
        ADDRESS.format("https://huggingface.co/org/med"),
        "what is on the Hub is written hf:org/med",
    ),
    "pull https://huggingface.co/org/med": (
        9,
        "hub-address",
        "cannot read the address 'https://huggingface.co/org/med': 'https' is no repository (expected owner/name)",
        "write org/med, the end of its address",
    ),
    "push med org/a/b": (
        9,
        "hub-address",
        "cannot push to 'org/a/b': expected OWNER/NAME",
        "write org/a; --subfolder names a folder in the repository",
    ),
    "push med 'org/a b'": (9, "hub-address", "cannot push to 'org/a b': expected OWNER/NAME", EACH),
    "push med org/.hidden": (9, "hub-address", "cannot push to 'org/.hidden': expected OWNER/NAME", EACH),
    "push org/x med": (
        9,
        "hub-address",
        "cannot push to 'med': expected OWNER/NAME",
        "the adapter comes first: ual push REF OWNER/NAME",
    ),
    "push med new": (
        9,
        "hub-address",
        "cannot push to 'new': expected OWNER/NAME",
        "put your user name, or that of your organization, and '/' before the name",
    ),
    "mirror hf:org --into small.air": (
        11,
        "storage",
        "cannot use small.air: is a file, expected the folder of a registry",
        "one adapter is pulled by 'ual pull REPO', and written to a file by 'ual get NAME -o FILE.air'",
    ),
    "mirror hf:org --to hf:org": (
        9,
        "hub-address",
        "cannot push 'hf:org': it is on the Hub, expected a query of the registry",
        "'ual mirror hf:org' pulls it; to push, name what is here, such as 'owner:search-team'",
    ),
    "search --hub hf:org": (
        8,
        "query",
        "query, column 1: an address on the Hub is no part of a query\n  hf:org\n  ^",
        "--author org asks for the adapters of an owner",
    ),
    "search --hub rank:8 hf:org/med": (
        8,
        "query",
        "query, column 8: an address on the Hub is no part of a query\n  rank:8 hf:org/med\n         ^",
        "'ual show hf:org/med' looks at one repository",
    ),
    "validate small.air --policy license": (
        11,
        "storage",
        f"cannot read license: {NO_SUCH}",
        "a policy is a file; a requirement is asked for by --require license",
    ),
    "transfer small.air --to card --plan": (
        4,
        "binder-data",
        "card: not JSON in UTF-8: Expecting value: line 1 column 1 (char 0)",
        BASE_HINT,
    ),
    "transfer peft --to base --plan": (3, "folder", NOT_A_FILE.format("peft"), FOLDER_HINT.format("peft")),
    "transfer small.air --to t5 --plan": (
        5,
        "no-counterpart",
        f"no entry of the adapter has a place in t5: the target has two stacks; {EXTRA}",
        None,
    ),
}


@pytest.fixture
def shelf(ual: Ual) -> Ual:
    """The working folder and a registry of one adapter."""
    assert ual("add", "small.air", "--name", "med", "--alias", "production").code == 0
    Path("card").write_text("a card")
    Path("a file").touch()
    shutil.copytree("peft", "torn")
    Path("torn/adapter_config.json").write_text("torn")
    Path("a folder").mkdir()
    Path("t5").mkdir()
    numbers = ("d_model", "num_layers", "num_decoder_layers", "num_heads", "d_kv", "d_ff", "vocab_size")
    Path("t5/config.json").write_text(json.dumps({"model_type": "t5", **dict.fromkeys(numbers, 4)}))
    return ual


def snapshot() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_told_of_in_one_message(shelf: Ual, command: str) -> None:
    code, name, message, hint = MISTAKES[command]
    before = snapshot()
    result = shelf(*shlex.split(command))
    assert result == Result(code, "", f"error [{name}]: {message}\n" + (f"hint: {hint}\n" if hint else ""))

    flag, *rest = [*shlex.split(command)]
    again = shelf(flag, "--json", *rest)
    assert (again.code, again.err) == (result.code, result.err)
    document = again.document
    assert list(document) == ["error"]
    error = document["error"]
    assert list(error) == ["code", "message", "hint", "context"]
    assert (error["code"], error["message"], error["hint"]) == (name, message, hint)
    assert snapshot() == before


USAGE = {
    "": "",
    "none": "No such command 'none'.",
    "validate": "Missing argument 'PATH...'.",
    "show": "Missing argument 'REF'.",
    "show a b": "Got unexpected extra argument (b)",
    "convert peft": "Missing argument 'DST'.",
    "convert a b --to onnx": (
        "Invalid value for '--to': 'onnx' is not one of 'air', 'peft', 'folder', 'vllm', 'gguf', 'merged'."
    ),
    "add small.air": "give either --name or --name-from",
    "get med": "Missing option '-o' / '--output'.",
    "search --limit 0 x": "Invalid value for '--limit': 0 is not in the range 1<=x<=10000.",
    "search --limit x y": "Invalid value for '--limit': 'x' is not a valid integer range.",
    "alias med production": "give REV, --protect, --unprotect or --delete",
    "alias med production 1 --expected=-1": "Invalid value for '--expected': -1 is not in the range x>=0.",
    "list --colour": "No such option '--colour'.",
    "transfer small.air": "Missing option '--to'.",
    "transfer small.air --to base": "give -o PATH, or --plan to see what would happen",
    "transfer small.air --to base -o x --method magic": (
        "Invalid value for '--method': 'magic' is not one of 'auto', 'svd', 'truncate', 'interpolate', 'copy', "
        "'subspace', 'vocab', 'activations', 'residual', 'predictions', 'distill'."
    ),
    "transfer small.air --to base -o x --method svd --calibrate t.txt": (
        "--method svd takes no text: leave out --calibrate"
    ),
    "transfer small.air --to base -o x --continue 4": "--continue needs --calibrate: it goes on with its texts",
    "transfer small.air --to base -o x --method svd --seed -1": (
        "Invalid value for '--seed': -1 is not in the range 0<=x<=4294967295."
    ),
    "transfer small.air --to base -o x --method svd --budget 1m": ("--method svd takes no --budget: it does not train"),
    "transfer small.air --to base -o x --budget soon": (
        "Invalid value for '--budget': budget 'soon': expected a number above 0 and s, m or h, such as 10m"
    ),
    "transfer small.air --to base -o x --method vocab --seeds s.json": (
        "--method vocab takes no --seeds: it generates no text"
    ),
    "transfer small.air --to base -o x --require works": ("--require needs --data: without measuring nothing is known"),
    "transfer small.air --to base -o x --data d.jsonl --require works": (
        "--require works needs --baselines native=REF: without a native adapter nothing can be said to work"
    ),
    "transfer small.air --to base -o x --baselines native=n.air": (
        "--baselines needs --data: nothing is measured without"
    ),
    "transfer small.air --to base -o x --require much": (
        "Invalid value for '--require': 'much' is not one of 'works', 'partial'."
    ),
    "transfer small.air --to base -o x --rotary perhaps": (
        "Invalid value for '--rotary': 'perhaps' is not one of 'drop', 'project'."
    ),
    "db none": "No such command 'none'.",
}


@pytest.mark.parametrize("command", USAGE)
def test_wrong_usage_is_code_2(ual: Ual, command: str) -> None:
    result = ual(*shlex.split(command))
    assert (result.code, result.out) == (2, "")
    if USAGE[command]:
        assert result.err.splitlines()[-1] == f"Error: {USAGE[command]}"
        assert result.err.startswith("Usage: ual ")
        again = ual(*shlex.split(command), "--json")
        assert (again.code, list(again.document)) == (2, ["error"])
        assert again.document["error"] == {"code": "usage", "message": USAGE[command], "hint": None, "context": {}}
    else:
        assert "validate" in result.err


def test_without_torch_the_extra_is_named(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert ual("transfer", "small.air", "--to", "base", "-o", "out.air") == Result(
        10,
        "",
        "error [missing-extra]: transfer needs the extra 'torch', which is not installed\n"
        "hint: pip install 'ual-registry[torch]'\n",
    )
    assert ual("transfer", "small.air", "--to", "base", "--plan").code == 0


def broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("what nobody thought of")


def test_a_bug_is_told_as_one(ual: Ual, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(store, "list_adapters", broken)
    told = (
        "internal error: ZeroDivisionError: what nobody thought of\n"
        "this is a bug in ual; please report it with the command that you ran\n"
    )
    assert ual("list") == Result(1, "", told + "(set UAL_TRACEBACK=1 to see where it happened)\n")
    result = ual("list", "--json")
    assert (result.code, result.document) == (
        1,
        {
            "error": {
                "code": "internal",
                "message": "ZeroDivisionError: what nobody thought of",
                "hint": None,
                "context": {},
            }
        },
    )
    monkeypatch.setenv("UAL_TRACEBACK", "1")
    assert run(["list"]) == 1
    caught = capsys.readouterr().err
    assert caught.startswith(told + "Traceback (most recent call last):\n")
    assert caught.endswith("ZeroDivisionError: what nobody thought of\n")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, click.Abort, EOFError])
def test_an_interrupt_is_code_130(ual: Ual, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    def interrupt(**_: object) -> None:
        raise kind

    monkeypatch.setattr(store, "list_adapters", interrupt)
    result = ual("list")
    assert (result.code, result.out, result.err.strip()) == (130, "", "interrupted")


def test_a_reader_of_errors_that_went_away_leaves_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert run(["show", "none.air"]) == 11
        stream.write("what comes later goes nowhere")


def test_a_reader_of_help_that_went_away_is_no_error(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise SystemExit(1)  # what click makes of a closed pipe

    monkeypatch.setattr(main_module.cli, "main", gone)
    assert ual("--help").code == 0


def test_a_detail_is_for_the_curious(capsys: pytest.CaptureFixture[str]) -> None:
    assert wants_json(["list", "--json"]) is True
    assert wants_json(["list"]) is False
    print_error_document("c", "m", hint="h", context={"path": Path("x"), "many": (1, 2)})
    assert json.loads(capsys.readouterr().out) == {
        "error": {"code": "c", "message": "m", "hint": "h", "context": {"path": "x", "many": [1, 2]}}
    }
    assert jsonable({1: (None, True)}) == {"1": [None, True]}


@pytest.mark.parametrize(
    ("size", "expected"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (9_870_000, "9.87 MB"), (5 * 10**15, "5e+03 TB")]
)
def test_sizes_are_for_people(size: int, expected: str) -> None:
    assert size_text(size) == expected


def test_main_exits_with_the_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "argv", ["ual", "show", "none.air"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 11
    assert (sys.stdout.errors, sys.stderr.errors) == ("backslashreplace", "backslashreplace")


def commands() -> dict[str, click.Command]:
    """Return every command and subcommand by its words."""
    context = click.Context(cli)
    found: dict[str, click.Command] = {}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {own}": sub for own, sub in command.commands.items()}
    return found


def test_every_command_is_in_the_help_with_its_group(ual: Ual) -> None:
    result = ual("--help")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    titles = {title: lines.index(f"{title}:") for title in COMMANDS}
    assert list(titles.values()) == sorted(titles.values())
    for title, group in COMMANDS.items():
        section = lines[titles[title] + 1 :]
        named = [line.split()[0] for line in section[: section.index("") if "" in section else None] if line[2] != " "]
        assert named == list(group)
    assert ual("-h").out == result.out


@pytest.mark.parametrize("words", [*commands(), "db"])
def test_every_command_and_option_has_help(ual: Ual, words: str) -> None:
    command = commands()[words]
    result = ual(*words.split(), "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: ual {words} ")
    assert "\\b" not in result.out
    assert command.help
    assert command.help.splitlines()[0].rstrip().endswith((".", ";", "many", "them."))
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not (option.help or "").endswith((".", "PATH.", "it.", "none."))] == []
    if not isinstance(command, click.Group):
        own = {word for option in options for word in option.opts}
        spoken = {"-q", "--quiet"} if words == "serve" else {"--json", "-q", "--quiet", "-v", "--verbose"}
        assert spoken <= own  # a server has no result to print


def test_the_version_is_that_of_the_package(ual: Ual) -> None:
    from importlib.metadata import version

    assert ual("--version") == Result(0, f"ual, version {version('ual-registry')}\n", "")


def test_methods_are_those_of_the_ladder() -> None:
    from ual_registry.cli.transfer import _METHODS
    from ual_registry.evaluation.tasks import TASKS
    from ual_registry.transfers.rungs import RUNGS
    from ual_registry.workflows.transfer_order import TASK_NAMES

    assert ("auto", *RUNGS) == _METHODS
    assert tuple(TASKS) == TASK_NAMES


def test_an_error_without_a_hint_or_context_is_a_whole_document(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise UALError("no")

    monkeypatch.setattr(store, "list_adapters", refuse)
    result = ual("list", "--json")
    assert (result.code, result.err) == (3, "error [error]: no\n")
    assert result.document == {"error": {"code": "error", "message": "no", "hint": None, "context": {}}}
