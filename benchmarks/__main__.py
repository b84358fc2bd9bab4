"""``make bench``: every benchmark, one after the other."""

from __future__ import annotations

import subprocess
import sys

for module in ("startup", "projection", "peft_round_trip", "validate_many", "hub"):
    print(f"== benchmarks.{module}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}"], check=True)
