"""The client of the Hub is loaded where the Hub is used, and not before."""

from __future__ import annotations

import subprocess
import sys

MODULES = [
    *(f"hub.{name}" for name in ("address", "answers", "client", "conduct", "config_cache", "content", "decoding")),
    *(f"hub.{name}" for name in ("download", "faults", "model")),
    "workflows.bases",
    "workflows.convert",
]
HEAVY = ["huggingface_hub", "hf_xet", "httpx2", "urllib3", "http.client", "torch", "numpy", "transformers", "peft"]


def test_no_http_library_is_loaded_by_an_import() -> None:
    names = ", ".join(f"ual_registry.{name}" for name in MODULES)
    code = f"import sys, {names}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
