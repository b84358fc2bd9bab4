"""Work of other packages that is not traced for coverage: none of our lines run in it.

Where a tracer is set, Python itself runs at half its speed, whosever code it runs. Most of the time of a test with a
real model goes by while transformers and PEFT are imported, and make, save and load it. So the tracer of coverage is
taken off while they do, and is put back afterwards; nothing that is counted changes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import sys
from collections.abc import Callable, Generator, Iterator
from types import ModuleType
from typing import Any

import pytest

__all__ = ["pytest_runtest_setup", "pytest_runtest_teardown", "pytest_sessionstart", "untraced"]

_OTHERS = "site-packages"
_CONFIG = ("from_pretrained", "from_dict", "to_dict", "to_json_string", "save_pretrained")
_FILES = ("from_pretrained", "save_pretrained")
_ENTRANCES: dict[str, dict[str, tuple[str, ...]]] = {
    "transformers.modeling_utils": {"PreTrainedModel": (*_FILES, "__init_subclass__")},
    "transformers.configuration_utils": {"PreTrainedConfig": _CONFIG},
    "transformers.tokenization_utils_base": {"PreTrainedTokenizerBase": _FILES},
    "transformers.models.auto.auto_factory": {"_BaseAutoModelClass": ("from_pretrained", "from_config")},
    "transformers.models.auto.configuration_auto": {"AutoConfig": ("from_pretrained",)},
    "transformers.models.auto.tokenization_auto": {"AutoTokenizer": ("from_pretrained",)},
    "peft.mapping_func": {"": ("get_peft_model",)},
    "peft.peft_model": {"PeftModel": (*_FILES, "load_adapter")},
    "matplotlib.figure": {"Figure": ("savefig",)},
}
"""Modules, their classes, and functions that call nothing of ours."""


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Take this thread's tracer off for a block, if it is that of coverage."""
    tracer = sys.gettrace()
    if type(tracer).__name__ != "CTracer":
        yield
        return
    sys.settrace(None)
    try:
        yield
    finally:
        tracer.start()  # type: ignore[union-attr]  # as it began: by sys.settrace it would miss this frame's end


def pytest_sessionstart(session: pytest.Session) -> None:
    """Leave imports of other packages, and what is known of them, untraced from now on where this run counts."""
    if session.config.pluginmanager.hasplugin("_cov"):
        loader: Any = importlib.machinery.SourceFileLoader
        loader.exec_module = _importing(loader.exec_module)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Leave what a test that is not counted asks for untraced, too: pytest-cov does so with the test alone."""
    with _as_counted(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """The same at its end."""
    with _as_counted(item):
        return (yield)


def _as_counted(item: pytest.Item) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if item.get_closest_marker("no_cover") is None else untraced()


def _importing(execute: Callable[[Any, ModuleType], None]) -> Callable[[Any, ModuleType], None]:
    def exec_module(self: Any, module: ModuleType) -> None:
        if _OTHERS not in self.path:
            execute(self, module)
            return
        with untraced():
            execute(self, module)
        for name, functions in _ENTRANCES.get(module.__name__, {}).items():
            for function in functions:
                _wrap(getattr(module, name) if name else module, function)

    return exec_module


def _wrap(owner: Any, name: str) -> None:
    found = vars(owner)[name]
    if name == "__init_subclass__":
        setattr(owner, name, classmethod(_declaring(found.__func__)))
    elif isinstance(found, classmethod):
        setattr(owner, name, classmethod(_without_tracer(found.__func__)))
    else:
        setattr(owner, name, _without_tracer(found))


def _without_tracer(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        with untraced():
            return function(*args, **named)

    return call


def _declaring(function: Any) -> Any:
    """Let every class of models be made without a tracer, too."""

    @functools.wraps(function)
    def declare(cls: Any, **named: Any) -> None:
        function(cls, **named)
        if "__init__" in vars(cls) and cls.__module__.partition(".")[0] == "transformers":
            cls.__init__ = _without_tracer(vars(cls)["__init__"])

    return declare
