"""The wheel works alone: without the checkout it finds its schemas and its migrations."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ual_registry.air import lanes
from ual_registry.projection import tiles

_ROOT = Path(__file__).resolve().parents[2]


def _built(folder: Path, **environment: str) -> Path:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(_ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True, env={**os.environ, **environment})
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = _built(folder / "dist")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(folder / "site"), str(wheel)], check=True, capture_output=True, text=True)
    return folder / "site"


def _run(installed: Path, folder: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "UAL_HOME": str(folder / "registry")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_wheel_carries_schemas_and_migrations(installed: Path) -> None:
    package = installed / "ual_registry"
    shipped = {
        str(path.relative_to(package)) for name in ("schemas", "migrations") for path in (package / name).rglob("*.*")
    }
    own = {str(path.relative_to(_ROOT)) for name in ("schemas", "migrations") for path in (_ROOT / name).rglob("*.*")}
    assert {name for name in shipped if "__pycache__" not in name} == {
        name for name in own if "__pycache__" not in name
    }


def test_an_installed_wheel_validates_by_its_own_schema(installed: Path, tmp_path: Path) -> None:
    code = (
        "from ual_registry.air.schema import load_schema, schema_problems; import ual_registry; "
        "print(ual_registry.__file__); print(load_schema('1.0/manifest.json')['$id']); "
        "print(sum(1 for _ in schema_problems('1.0/manifest.json', {}, root='manifest')))"
    )
    file, identifier, count = _run(installed, tmp_path, code).splitlines()
    assert file == str(installed / "ual_registry" / "__init__.py")
    assert (identifier, count) == ("urn:ual-registry:schemas/1.0/manifest.json", "7")


def test_an_installed_wheel_makes_a_registry_by_its_own_migrations(installed: Path, tmp_path: Path) -> None:
    code = (
        "from ual_registry.registry.registry import Registry; from ual_registry.resources import resource_folder; "
        "registry = Registry.open(); print(resource_folder('migrations')); "
        "print(registry.database.current_revision(), registry.database.differences(), len(registry.list().items))"
    )
    assert _run(installed, tmp_path, code) == f"{installed / 'ual_registry' / 'migrations'}\n0008 () 0\n"


@pytest.mark.skipif(shutil.which("cc") is None, reason="the extension needs a compiler")
@pytest.mark.parametrize(
    ("module", "function", "extension"), [("finite", "is_finite", "_nonfinite"), ("lanes", "advance", "_sha256")]
)
def test_an_installed_wheel_uses_its_extensions(
    installed: Path, tmp_path: Path, module: str, function: str, extension: str
) -> None:
    built = _extension(installed, "air", extension)
    if extension == "_sha256" and lanes.advance is lanes.advance_in_python:
        pytest.skip("this processor has no instructions for it")
    code = (
        f"from ual_registry.air import {module}, {extension}; "
        f"print({module}.{function} is {extension}.{function}); print({extension}.__file__)"
    )
    assert _run(installed, tmp_path, code) == f"True\n{built}\n"


def _extension(installed: Path, room: str, name: str) -> Path:
    """Return where an extension was built."""
    built = installed / "ual_registry" / room / (f"{name}.pyd" if sys.platform == "win32" else f"{name}.abi3.so")
    assert built.is_file()  # what does not compile is left out in silence, and would look like a processor without
    return built


@pytest.mark.skipif(shutil.which("cc") is None, reason="the extension needs a compiler")
def test_an_installed_wheel_multiplies_factors_by_its_extension(installed: Path, tmp_path: Path) -> None:
    built = _extension(installed, "projection", "_tiles")
    if tiles._compiled is None:
        pytest.skip("this processor has no instructions for it")
    code = "from ual_registry.projection import tiles; print(tiles._compiled.__file__)"
    assert _run(installed, tmp_path, code) == f"{built}\n"


def test_without_a_compiler_the_wheel_is_pure_python_and_works(tmp_path: Path) -> None:
    wheel = _built(tmp_path / "dist", CC=str(tmp_path / "no-compiler"))
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "from ual_registry.air import finite, lanes; "
        "print(finite.is_finite is finite.is_finite_in_python, finite.is_finite('F16', b'\\x00\\x7c')); "
        "both = lanes.TwoLanes(); both.take(b'air', (3,), b'', ()); print(lanes.advance is lanes.advance_in_python); "
        "print(both.digests(0))"
    )
    digest = hashlib.sha256(b"air").hexdigest()
    assert _run(tmp_path / "site", tmp_path, code) == f"True False\nTrue\n['{digest}']\n"
