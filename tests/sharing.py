"""Which tests run in one process, one after the other: those that share what takes long to make.

These are the tests of one case of the proof, which share its models, and those of a file that makes something once
per module, such as a trained model. All others go to whichever worker is free. The groups are handed out here: the
marks of ``--dist loadgroup`` are without effect under pytest 9.2, whose tests no longer take a name from xdist.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

__all__ = ["group_of", "pytest_xdist_make_scheduler"]

_ROOT = Path(__file__).parents[1]
_PROOF = "tests/proof/"
_MADE_ONCE = 'scope="module"'


def group_of(name: str) -> str:
    """Return what the test of a name is handed out with; its own name where it is alone."""
    file, _, test = name.partition("::")
    if file.startswith(_PROOF) and "[" in test:
        return _PROOF + test.partition("[")[2].rstrip("]").partition("-")[0]
    return file if _makes_once(file) else name


@functools.cache
def _makes_once(file: str) -> bool:
    path = _ROOT / file
    return path.is_file() and _MADE_ONCE in path.read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out groups where they are asked for."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)
