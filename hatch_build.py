"""Build the optional C extensions, where there is a compiler (ADR-0010, ADR-0020, ADR-0024).

Without one, or where an extension does not compile, the slower paths of ``ual_registry/air/finite.py``, ``lanes.py``
and ``ual_registry/projection/tiles.py`` are used; with no extension the wheel is pure Python. ``UAL_PURE_PYTHON=1``
asks for that.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDERS = {
    "_nonfinite": "ual_registry/air",
    "_sha256": "ual_registry/air",
    "_tiles": "ual_registry/projection",
}
"""Where the source of each extension stands, and the extension beside it."""


class ExtensionHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compile the extensions into the checkout for an editable install, into the wheel for any other."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and say in the wheel's tag what it runs on."""
        self._folder = tempfile.TemporaryDirectory(prefix="ual-build-")
        root, folder = Path(self.root), Path(self._folder.name)
        built = {} if os.environ.get("UAL_PURE_PYTHON") else _compiled(root, folder)
        if version == "editable":
            _place(built, root)
        elif built:
            build_data["force_include"] |= {str(path): path.relative_to(folder).as_posix() for path in built.values()}
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{_platform()}"
        for name in _FOLDERS:
            if name not in built:
                self.app.display_warning(f"{name} was not built; a slower path is used")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built for the wheel."""
        del version, build_data, artifact_path
        self._folder.cleanup()


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def _compiled(root: Path, folder: Path) -> dict[str, Path]:
    """Compile below ``folder``; return what came of it, by name: what does not compile is left out."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return {}  # no stable ABI there
    from setuptools import Distribution, Extension  # type: ignore[import-untyped]  # noqa: PLC0415  # for this alone

    flags = [] if sys.platform == "win32" else ["-O3", "-funroll-loops"]
    modules = {name: f"{place}/{name}".replace("/", ".") for name, place in _FOLDERS.items()}
    extensions = [
        Extension(
            module,
            [str(root / _FOLDERS[name] / f"{name}.c")],
            py_limited_api=True,
            extra_compile_args=flags,
            optional=True,
        )
        for name, module in modules.items()
    ]
    command: Any = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder), str(folder / "objects")
    command.ensure_finalized()
    command.run()
    built = {name: folder / command.get_ext_filename(module) for name, module in modules.items()}
    return {name: path for name, path in built.items() if path.exists()}


def _place(built: Mapping[str, Path], root: Path) -> None:
    """Put the extensions beside their sources; an older one that may be in use is replaced, never written over."""
    for name, place in _FOLDERS.items():
        for old in (*(root / place).glob(f"{name}.*.so"), *(root / place).glob(f"{name}.*.pyd")):
            old.unlink()
    for name, path in built.items():
        folder = root / _FOLDERS[name]
        shutil.copyfile(path, folder / f"{path.name}.new")
        (folder / f"{path.name}.new").replace(folder / path.name)
