"""What the command line needs of distillation loads no framework."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["prompts", "recipe", "report", "seeds", "texts"])
def test_the_light_modules_load_no_framework(module: str) -> None:
    code = (
        f"import sys, ual_registry.distillation.{module}\n"
        "print(sorted({'torch', 'numpy', 'transformers', 'peft', 'tokenizers'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
