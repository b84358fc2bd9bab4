"""Build the optional C extension, where there is a compiler (ADR-0010).

Without one, or where the extension does not compile, the wheel is pure Python, and the slower path of
``ual_registry/air/scan.py`` is used. ``UAL_PURE_PYTHON=1`` asks for that.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = "ual_registry/air/_nonfinite.c"
_MODULE = "ual_registry.air._nonfinite"


class ExtensionHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compile the extension into the checkout for an editable install, into the wheel for any other."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and say in the wheel's tag what it runs on."""
        self._folder = tempfile.TemporaryDirectory(prefix="ual-build-")
        root, folder = Path(self.root), Path(self._folder.name)
        built = None if os.environ.get("UAL_PURE_PYTHON") else _compiled(root, folder)
        if version == "editable":
            _place(built, root)
        elif built is not None:
            build_data["force_include"][str(built)] = built.relative_to(folder).as_posix()
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{_platform()}"
        if built is None:
            self.app.display_warning(f"{_MODULE} was not built; the pure Python path is used")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built for the wheel."""
        del version, build_data, artifact_path
        self._folder.cleanup()


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def _compiled(root: Path, folder: Path) -> Path | None:
    """Compile below ``folder``; ``None`` where that does not succeed."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None  # no stable ABI there
    from setuptools import Distribution, Extension  # type: ignore[import-untyped]  # noqa: PLC0415  # for this alone

    flags = [] if sys.platform == "win32" else ["-O3", "-funroll-loops"]
    source = str(root / _SOURCE)
    extension = Extension(_MODULE, [source], py_limited_api=True, extra_compile_args=flags, optional=True)
    command: Any = Distribution({"ext_modules": [extension]}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder), str(folder / "objects")
    command.ensure_finalized()
    command.run()
    built = folder / command.get_ext_filename(_MODULE)
    return built if built.exists() else None


def _place(built: Path | None, root: Path) -> None:
    """Put the extension beside its source; an older one that may be in use is replaced, never written over."""
    folder = (root / _SOURCE).parent
    for name in ("_nonfinite.*.so", "_nonfinite.*.pyd"):
        for old in folder.glob(name):
            old.unlink()
    if built is not None:
        shutil.copyfile(built, folder / f"{built.name}.new")
        (folder / f"{built.name}.new").replace(folder / built.name)
