"""What the package promises to those who import it: names, docstrings, and how little it loads."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ual_registry
from benchmarks.startup import BIND, LARGE_CONFIG
from tests.handmade import LLAMA_CONFIG, peft_config, peft_tensors, small_adapter, write_peft
from tests.legacy_files import document, write_document
from tests.unit.air.test_router import router, router_tensors, write_router
from ual_registry.air.write import write

ROOT = Path(ual_registry.__file__).parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(ual_registry.__path__, "ual_registry.")
    if not module.name.endswith(("__main__", "._nonfinite", "._sha256", "._tiles"))  # compiled, where they are at all
)


def defined_names(module: ModuleType) -> set[str]:
    """Return the public names that a module's own source defines, imports left out."""
    tree = ast.parse(inspect.getsource(module))
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_and_every_name_is_there_and_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    if Path(str(module.__file__)).name == "__init__.py":
        assert defined_names(module) <= {"__all__"}  # a package says what it is, and holds nothing
        return
    listed = module.__all__
    assert len(listed) == len(set(listed))
    # Constants first, then classes, then functions, each in alphabetical order: how the linter sorts.
    assert listed == sorted(listed, key=lambda item: (not item.isupper(), not item[0].isupper(), item))
    assert set(listed) <= defined_names(module)
    for item in listed:
        value = getattr(module, item)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, item


ALIASES = {"Condition", "Way"}
"""Type aliases of the binder documents, which are no part of what a module offers."""


@pytest.mark.parametrize("name", MODULES)
def test_what_one_module_takes_from_another_is_in_its_all(name: str) -> None:
    module = importlib.import_module(name)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ual_registry."):
            source = importlib.import_module(node.module)
            taken = {alias.name for alias in node.names}
            modules = {item for item in taken if inspect.ismodule(getattr(source, item, None))}
            modules |= {item for item in taken if f"{node.module}.{item}" in MODULES}
            assert taken - modules - ALIASES <= set(getattr(source, "__all__", ())), node.module


def test_the_public_names_of_the_package_resolve_and_are_documented() -> None:
    assert ual_registry.__all__ == [
        "Adapter",
        "Digest",
        "DimensionProjector",
        "LoRADispatcher",
        "Registry",
        "UALError",
        "UniversalAdapter",
        "ValidationReport",
        "from_peft",
        "plan_transfer",
        "read",
        "to_peft",
        "train",
        "transfer",
        "validate",
        "write",
    ]
    for name in ual_registry.__all__:
        value = getattr(ual_registry, name)
        assert callable(value), name
        assert inspect.getdoc(value), name
    assert ual_registry.__doc__
    assert set(ual_registry.__all__) <= set(dir(ual_registry))


def test_names_stay_what_they_are_when_every_module_is_loaded() -> None:
    """A module of the same name would take the place of a function once it is imported."""
    for name in MODULES:
        importlib.import_module(name)
    wrong = [name for name in ual_registry.__all__ if inspect.ismodule(getattr(ual_registry, name))]
    assert wrong == []
    assert set(ual_registry.__all__).isdisjoint(name.removeprefix("ual_registry.") for name in MODULES)


def test_importing_the_main_module_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.import_module("ual_registry.__main__").main.__name__ == "main"
    assert capsys.readouterr() == ("", "")


def test_a_name_that_is_none_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError) as caught:
        ual_registry.nothing  # noqa: B018
    assert str(caught.value) == "module 'ual_registry' has no attribute 'nothing'"


def test_every_public_function_says_what_it_takes() -> None:
    for name in ("from_peft", "plan_transfer", "read", "to_peft", "train", "transfer", "validate", "write"):
        function = getattr(ual_registry, name)
        documentation = inspect.getdoc(function) or ""
        for parameter in inspect.signature(function).parameters:
            assert f"    {parameter}: " in documentation, (name, parameter)


FRAMEWORKS = {"torch", "numpy", "transformers", "peft", "safetensors", "scipy", "pandas", "huggingface_hub"}
DATABASE = {"sqlalchemy", "alembic"}
SCHEMAS = {"jsonschema"}

PROBE = """
import json, sys
sys.argv = ["ual", *json.loads(sys.argv[1])]
try:
    if len(sys.argv) == 2 and sys.argv[1].startswith("import "):
        exec(sys.argv[1])
    else:
        from ual_registry.cli.main import main
        main()
except SystemExit as error:
    if error.code:
        raise
finally:
    sys.stderr.write(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

LIGHT: dict[str, tuple[list[str], set[str]]] = {
    "import ual_registry": (["import ual_registry"], FRAMEWORKS | DATABASE | SCHEMAS | {"click"}),
    "the decisions of a router": (
        ["import ual_registry.dispatch.decision, ual_registry.dispatch.queries"],
        FRAMEWORKS | DATABASE | SCHEMAS | {"click", "sklearn"},
    ),
    "ual --help": (["--help"], FRAMEWORKS),
    "ual --version": (["--version"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual validate": (["validate", "small.air"], FRAMEWORKS | DATABASE | SCHEMAS | {"tabulate"}),
    "ual show": (["show", "small.air"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual show of a router": (["show", "router.air"], FRAMEWORKS | DATABASE | SCHEMAS | {"sklearn"}),
    "ual convert": (["convert", "peft", "out.air", "--base", "base", "-q"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual convert back": (["convert", "made.air", "back"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual convert to a folder": (["convert", "small.air", "f", "--to", "folder"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual convert an old file": (["convert", "old.air", "o.air", "--base", "base"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual doctor": (["doctor", "made.air", "--for", "vllm"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual diff of the same": (["diff", "small.air", "small.air"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual add": (["add", "small.air", "--name", "x"], FRAMEWORKS | {"alembic"}),
    "ual search": (["search", "rank:2", "-q"], FRAMEWORKS | {"alembic"}),
    "ual list": (["list", "-q"], FRAMEWORKS | {"alembic"}),
    "ual binder list": (["binder", "list"], FRAMEWORKS | DATABASE | SCHEMAS | {"tabulate"}),
    "ual binder show": (["binder", "show", "t5"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual binder show of a model": (["binder", "show", "large.json"], FRAMEWORKS | DATABASE | SCHEMAS),
    "bind a model of 126 blocks": ([BIND.format(path="large.json")], FRAMEWORKS | DATABASE | SCHEMAS | {"click"}),
    "ual train --explain": (["train", "--base", "base", "--explain"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual transfer --plan": (["transfer", "small.air", "--to", "base", "--plan"], FRAMEWORKS | DATABASE | SCHEMAS),
    "ual transfer --method auto --plan": (
        [
            "transfer",
            "made.air",
            "--to",
            "base",
            "--method",
            "auto",
            "--calibrate",
            "text.txt",
            "--budget",
            "1h",
            "--plan",
        ],
        FRAMEWORKS | DATABASE | SCHEMAS,
    ),
}


@pytest.mark.parametrize("case", LIGHT)
def test_the_light_half_loads_no_framework(case: str, tmp_path: Path) -> None:
    words, forbidden = LIGHT[case]
    write(small_adapter(), tmp_path / "small.air")
    write_router(tmp_path / "router.air", router(), router_tensors())
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps({**LLAMA_CONFIG, "num_key_value_heads": 2}))
    (tmp_path / "base" / "model.safetensors").touch()
    (tmp_path / "base" / "tokenizer.json").touch()
    (tmp_path / "text.txt").write_text("one text\nanother text\n")
    (tmp_path / "large.json").write_text(json.dumps(LARGE_CONFIG))
    write_peft(tmp_path / "peft", peft_tensors(), peft_config())
    write_document(tmp_path / "old.air", document())
    home = {"UAL_HOME": str(tmp_path / "home")}
    ual_registry.Registry.open(tmp_path / "home")  # so that no migration is needed
    with ual_registry.from_peft(tmp_path / "peft", base=tmp_path / "base") as adapter:
        ual_registry.write(adapter, tmp_path / "made.air")

    result = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(words)],
        cwd=tmp_path,
        env={**os.environ, **home, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    loaded = set(json.loads(result.stderr.splitlines()[-1]))
    assert loaded & forbidden == set()


def test_a_transfer_is_the_only_command_that_loads_torch(tmp_path: Path) -> None:
    """So that the test above is known to see what it looks for."""
    write(small_adapter(), tmp_path / "small.air")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    words = ["transfer", "small.air", "--to", "base", "-o", "out.air"]
    result = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(words)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "UAL_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    loaded = set(json.loads(result.stderr.splitlines()[-1]))
    assert loaded & {"torch", "transformers", "peft", "sqlalchemy"} == {"torch"}
