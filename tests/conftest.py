"""Shared fixtures: small adapters by hand, and small real ones from transformers and PEFT, made once per session."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
from hypothesis import settings

from tests.handmade import small_adapter
from tests.peft_folders import PeftFolders
from ual_registry.air.adapter import Adapter
from ual_registry.air.write import write

for own in ("UAL_HOME", "UAL_DATABASE_URL", "UAL_STORE_URL"):
    os.environ.pop(own, None)  # no test may touch the registry of whoever runs it

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests interrupt processes, which would ignore it too

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
# The list of fonts takes seconds to make, and no test that gives a process an empty cache is about it.
os.environ.setdefault("MPLCONFIGDIR", str(_CACHE / "matplotlib"))

pytest_plugins = [
    "tests.counting",
    "tests.engines.fixtures",
    "tests.engines.migrated",
    "tests.garbage",
    "tests.hub_server.fixtures",
    "tests.sharing",
    "tests.untraced",
]

settings.register_profile("quiet", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("quiet")


@pytest.fixture(scope="session")
def peft_folders(tmp_path_factory: pytest.TempPathFactory) -> PeftFolders:
    """Real PEFT folders by architecture and option; each is made when it is first asked for."""
    return PeftFolders(tmp_path_factory.mktemp("peft"))


@pytest.fixture
def adapter() -> Adapter:
    """A small adapter made by hand: plain factors, a fused module and a tensor without a role."""
    return small_adapter()


@pytest.fixture
def air_file(adapter: Adapter, tmp_path: Path) -> Path:
    """The small adapter as a file."""
    path = tmp_path / "small.air"
    write(adapter, path)
    return path
