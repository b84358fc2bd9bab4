"""What the search for garbage leaves out: all that lives for the whole run, which is most of what there is.

All tests and the frameworks that they import are very many objects. A full search looks at each of them, and comes
often where models are made and dropped.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

__all__ = ["pytest_collection"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Search once when all tests are there, and never again among what has stayed until then."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
