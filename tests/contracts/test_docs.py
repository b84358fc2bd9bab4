"""README and docs say what happens: their commands are run, their output is compared, their JSON is validated."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import LLAMA_CONFIG
from tests.hub_server.fixtures import HubEnvironment
from tests.shell import run_line
from ual_registry.air.canonical import MAX_DEPTH, MAX_VALUES, canonical_bytes, parse_json
from ual_registry.air.header import MAX_HEADER_BYTES, check_air_layout, read_header
from ual_registry.air.names import TensorName
from ual_registry.air.plain_header import MAX_AXES, MAX_NAME_LENGTH, MAX_TENSORS
from ual_registry.air.roles import ROLES
from ual_registry.air.scan import scan_tensors
from ual_registry.air.schema import load_schema, schema_problems
from ual_registry.air.tensor import DTYPE_BYTES, FLOAT_DTYPES, MemorySource
from ual_registry.binders import describe
from ual_registry.binders.base import MAX_CONFIG_BYTES, parse_base
from ual_registry.binders.bind import bind
from ual_registry.binders.load import binder_for, load_binders
from ual_registry.digest import Digest
from ual_registry.errors import RuleError
from ual_registry.workflows import answers

_ROOT = Path(__file__).resolve().parents[2]
_SPEC = _ROOT / "spec"
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md")), *sorted((_ROOT / "spec").rglob("*.md"))]
_PAGES += [_ROOT / "CONTRIBUTING.md", _ROOT / "CHANGELOG.md"]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _steps(block: str) -> list[tuple[str, str]]:
    """Split a console block into commands and what they print."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    folders = {"UAL_HOME": str(home / "registry"), "XDG_CACHE_HOME": str(home / "cache")}
    return {**os.environ, **folders, "PATH": path, "PYTHONPATH": str(_ROOT), "COLUMNS": "200"}


def _matches(expected: str, got: str) -> bool:
    """Compare text in which ``...`` stands for anything within a line."""
    pattern = r"[^\n]*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, got) is not None


@pytest.mark.parametrize("hub_transport", ["lfs"], indirect=True)
@pytest.mark.parametrize("page", [page for page in _PAGES if _blocks(page, "console")], ids=lambda page: page.name)
def test_every_command_of_a_page_prints_what_the_page_shows(
    page: Path, tmp_path: Path, hub_env: HubEnvironment
) -> None:
    steps = [step for block in _blocks(page, "console") for step in _steps(block)]
    for command, expected in steps:
        done = run_line(command, tmp_path, _environment(tmp_path))
        assert (command, done.returncode, done.stderr) == (command, 0, "")
        assert _matches(expected, done.stdout), f"$ {command}\n{done.stdout}"


def test_the_python_page_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = _ROOT / "docs" / "python.md"
    (code,), (expected,) = _blocks(page, "python"), _blocks(page, "text")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(_ROOT))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(page), "exec"), {})  # the page's own code
    assert printed.getvalue() == expected


def test_the_command_line_reference_is_what_the_commands_say() -> None:
    code = "from docs.generate import cli_reference; print(cli_reference(), end='')"
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True)
    assert (_ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == done.stdout


_SCHEMAS = {
    "json air-manifest": "1.0/manifest.json",
    "json air-router": "1.0/router.json",
    "json air-binder": "1.0/binder.json",
    "json air-entry": "1.0/entry.json",
    "json air-base-model": "1.0/base-model.json",
    "json air-lineage": "1.0/lineage.json",
    "json air-provenance": "1.0/provenance.json",
}
_PAGES_OF_SCHEMA = {
    "manifest": ("manifest",),
    "base-model": ("base-model",),
    "entry": ("manifest",),
    "router": ("router",),
    "binder": ("binder", "binding"),
    "lineage": ("lineage",),
    "provenance": ("lineage",),
}


def _specified(page: str, language: str) -> str:
    (block,) = _blocks(_SPEC / f"{page}.md", language)
    return block


def _rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, its head left out."""
    text = (_SPEC / f"{page}.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[0].splitlines()[2:]]


def _code(cell: str) -> str:
    return cell.strip("`")


def test_every_page_of_the_specification_can_be_read_in_one_go() -> None:
    lines = {page.name: len(page.read_text(encoding="utf-8").splitlines()) for page in sorted(_SPEC.glob("*.md"))}
    assert {name: count for name, count in lines.items() if not 60 <= count <= 350} == {}


@pytest.mark.parametrize("kind", _SCHEMAS)
def test_every_document_of_the_specification_follows_its_schema(kind: str) -> None:
    documents = [json.loads(block) for page in _PAGES for block in _blocks(page, kind)]
    assert documents
    for document in documents:
        assert list(schema_problems(_SCHEMAS[kind], document, root=kind)) == []


@pytest.mark.parametrize("kind", ["json air-manifest", "json air-router"])
def test_every_manifest_of_the_specification_is_sealed(kind: str) -> None:
    (document,) = [json.loads(block) for page in _PAGES for block in _blocks(page, kind)]
    sealed = document.pop("manifest_digest")
    assert sealed == str(Digest.of_bytes(canonical_bytes(document)))


def test_every_json_block_of_the_specification_is_of_a_known_kind() -> None:
    kinds = {
        info for page in _PAGES for info in re.findall(r"^```(json.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert kinds <= _SCHEMAS.keys()


def test_the_container_of_the_specification_is_legal_and_has_its_digest() -> None:
    data = bytes.fromhex(_specified("container", "hex air-container"))
    source = MemorySource(data)
    header = read_header(source, len(data))
    check_air_layout(header)
    assert header.raw.rstrip(b" ").decode() == _specified("container", "text air-header").strip()
    table, digest = _specified("considerations", "text air-tensor-digest").splitlines()
    scan = scan_tensors(header.tensors(source))
    assert (str(scan.tensor_digest), str(Digest.of_bytes(table.encode()))) == (digest, digest)


def test_the_canonical_form_of_the_specification_is_ours() -> None:
    loose, canonical = _specified("considerations", "text air-canonical").splitlines()
    assert canonical_bytes(parse_json(loose.encode(), what="block")).decode() == canonical


def test_the_names_of_the_specification_are_read_as_it_says() -> None:
    for text, *parts in _rows("tensors", "Names"):
        name = TensorName.parse(_code(text))
        layer, expert = ("" if index is None else str(index) for index in (name.layer, name.expert))
        assert [name.stack or "", layer, name.role, expert, name.factor] == parts
        assert str(name) == _code(text)
    for text in _specified("tensors", "text air-bad-names").splitlines():
        with pytest.raises(RuleError):
            TensorName.parse(text)


def _pattern(grammar: str) -> str:
    """Turn a grammar in EBNF, whose rules do not go in circles, into a regular expression of its first rule."""
    rules = dict(re.findall(r"^(\w+)\s*::=\s*(.*)$", grammar, re.MULTILINE))

    def expanded(rule: str) -> str:
        words = re.findall(r'"[^"]*"|\[[^]]*\]|\w+|[()?*|]', rules[rule])
        assert "".join(words) == rules[rule].replace(" ", "")
        return "".join(_expanded(word) for word in words)

    def _expanded(word: str) -> str:
        if word in rules:
            return f"(?:{expanded(word)})"
        return re.escape(word.strip('"')) if word.startswith('"') else "(?:" if word == "(" else word

    return expanded(next(iter(rules)))


def test_the_grammar_of_names_is_ours_where_numbers_have_at_most_nine_digits() -> None:
    pattern = re.compile(_pattern(_specified("tensors", "ebnf air-tensor-name")))
    listed = [
        *(_code(row[0]) for row in _rows("tensors", "Names")),
        *_specified("tensors", "text air-bad-names").split(),
    ]
    asked = [json.loads(path.read_text()).get("name") for path in (_SPEC / "vectors/1.0").glob("name-*/case.json")]
    names = [name for name in [*listed, *asked] if isinstance(name, str)]
    ours = {name for name in names if _is_name(name)}
    assert {name for name in names if pattern.fullmatch(name) and not re.search("[0-9]{10}", name)} == ours
    assert 20 < len(ours) < len(names) - 20


def _is_name(text: str) -> bool:
    try:
        TensorName.parse(text)
    except RuleError:
        return False
    return True


def test_the_path_of_a_module_is_made_as_the_specification_says() -> None:
    base = parse_base(json.dumps(LLAMA_CONFIG).encode(), label="tiny", what="config.json")
    binder, found = binder_for("llama"), bind(base).modules
    (stack,), prefix = binder.stacks, binder.model_types["llama"].prefix_of("LlamaForCausalLM", None)
    parts = {
        "prefix": prefix,
        "path of the stack with the layer for {layer}": stack.path.replace("{layer}", "1"),
        "path of the module": stack.modules[0].path,
    }
    path = "".join(str(parts[word]) for word in _specified("binding", "text air-module-path").strip().split(" + "))
    assert (path, path in found) == ("model.layers.1.self_attn.q_proj", True)


def test_the_limits_of_the_specification_are_ours() -> None:
    common, entry = load_schema("1.0/common.json")["$defs"], load_schema("1.0/entry.json")
    slices = entry["$defs"]["row_slice"]["properties"]
    ours = {
        "header, spaces included": f"{MAX_HEADER_BYTES} bytes",
        "tensors": str(MAX_TENSORS),
        "name of a tensor": f"1 to {MAX_NAME_LENGTH} characters",
        "axes of a tensor": str(MAX_AXES),
        "length of an axis, offsets": str(2**53 - 1),
        "bytes of a tensor by its shape": str(2**63 - 1),
        "commas, `[` and `{` of a JSON text": str(MAX_VALUES),
        "nesting of JSON": str(MAX_DEPTH),
        "binder document, document of `canonicalize`": f"{answers._MAX_BYTES} bytes",
        "entries": _span(load_schema("1.0/manifest.json")["properties"]["entries"], "Items"),
        "stacks": _span(load_schema("1.0/base-model.json")["properties"]["stacks"], "Items"),
        "domains of a router": _span(load_schema("1.0/router.json")["properties"]["domains"], "Items"),
        "a size": _span(common["size"], "imum"),
        "a count": _span(common["count"], "imum"),
        "layer of an entry": _span(entry["properties"]["layer"], "imum"),
        "blocks of a slice": _span(slices["count"], "imum"),
        "a text, a long text": f"{_span(common['text'], 'Length')}, {_span(common['long_text'], 'Length')} characters",
        "config of a base model": f"{MAX_CONFIG_BYTES} bytes",
        "layers that a binder finds": str(describe._MAX_COUNT),
    }
    assert {what: limit for what, limit, _ in _rows("considerations", "Limits")} == ours


def _span(schema: dict[str, Any], ending: str) -> str:
    return f"{schema['min' + ending]} to {schema['max' + ending]}"


def test_the_exchange_of_the_specification_says_what_the_grammar_says() -> None:
    lines = [json.loads(line) for line in _specified("conformance", "text air-exchange").splitlines()]
    for request, answer in zip(lines[::2], lines[1::2], strict=True):
        try:
            name = TensorName.parse(request["name"])
            parts = dataclasses.asdict(name)
        except RuleError as error:
            parts = {"code": error.problem_code}
        assert answer == {"id": request["id"], **parts}


def test_the_table_of_roles_is_ours() -> None:
    words = {True: "yes", False: "no"}
    ours = [
        [
            role.name,
            role.in_axis.value,
            role.out_axis.value,
            *(words[value] for value in (role.is_per_layer, role.is_rotated, role.has_experts)),
        ]
        for role in ROLES.values()
    ]
    assert [[_code(row[0]), *row[1:]] for row in _rows("roles", "The table")] == ours


def test_the_module_names_of_the_specification_are_those_of_the_binders() -> None:
    binders = {kind: binder for binder in load_binders() for kind in binder.model_types}
    columns = [("llama", "qwen2", "gemma3_text"), ("gpt2",), ("gpt_neox",), ("bert", "roberta"), ("t5",)]
    for role, *paths in _rows("roles", "Module names of common architectures"):
        for names, path in zip(columns, paths, strict=True):
            for name in names:
                found = {m.path for s in binders[name].stacks for m in s.modules if _code(role) in m.roles}
                assert _code(path) in found if path else found == set()
    for role, kind, path in _rows("roles", "Module names of other blocks"):
        found = {m.full_path for s in binders[_code(kind)].stacks for m in s.modules if _code(role) in m.roles}
        assert _code(path) in found


def test_the_names_in_gguf_of_the_specification_are_those_of_the_binders() -> None:
    ours: dict[tuple[str, str | None], set[str]] = {}
    for binder in load_binders():
        named = [(role, s.name, m.gguf) for s in binder.stacks for m in s.modules for role in m.roles]
        for role, stack, name in [*named, *((m.role, m.stack, m.gguf) for m in binder.outer)]:
            if name is not None:
                ours.setdefault((role, stack), set()).add(name.replace("{layer}", "N"))
    table = {
        (_code(role), stack): set(re.findall("`([^`]+)`", cell))
        for role, *cells in _rows("roles", "Names in GGUF (not normative)")
        for stack, cell in zip((None, "encoder", "decoder"), cells, strict=True)
        if cell
    }
    assert table == ours


def test_the_table_of_dtypes_is_ours() -> None:
    words = {True: "yes", False: "no"}
    ours = [[f"`{name}`", str(width), words[name in FLOAT_DTYPES]] for name, width in DTYPE_BYTES.items()]
    assert _rows("tensors", "Dtypes") == ours


def test_every_code_of_the_specification_is_in_the_list_of_errors() -> None:
    known = set(re.findall(r"`([a-z-]+)`", (_ROOT / "docs" / "errors.md").read_text(encoding="utf-8")))
    codes = [_code(row[0]) for row in _rows("conformance", "Codes") if not row[0].startswith("**")]
    assert [code for code in codes if code not in known] == []


@pytest.mark.parametrize("schema", _PAGES_OF_SCHEMA)
def test_every_property_of_a_schema_is_described(schema: str) -> None:
    text = "".join((_SPEC / f"{page}.md").read_text(encoding="utf-8") for page in _PAGES_OF_SCHEMA[schema])
    described = {name.rpartition(".")[2] for name in re.findall(r"\*\*`([^`]+)`\*\*", text)}
    assert _properties(load_schema(f"1.0/{schema}.json")) - described == set()


def _properties(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {name for item in schema for name in _properties(item)}
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return own.union(*(_properties(item) for item in schema.values()))


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if link and not (page.parent / link).exists()] == []
