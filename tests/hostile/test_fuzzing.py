"""A short, seeded campaign; ``make fuzz`` runs the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.hostile.fuzzing import ROOT, mutate_file, run_queries, seeds


def test_mutated_files_are_judged_alike_by_both_readers_within_time_and_memory() -> None:
    command = [sys.executable, "-m", "tests.hostile.fuzzing", "--count", "3000", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.endswith("no failure\n")


def test_a_campaign_reaches_the_rules_behind_the_digests() -> None:
    import random

    legal = seeds()
    changed = [mutate_file(random.choice(legal), random.Random(number)) for number in range(50)]
    # A value may be replaced by itself, or two mutations be the same; hardly any are.
    assert len(set(changed) - set(legal)) >= 40


def test_made_up_queries_are_parsed_or_pointed_at() -> None:
    campaign = run_queries(400, seed=1)
    assert campaign.failures == []
    assert set(campaign.verdicts) == {"query", "mistake"}


def test_the_independent_reader_imports_nothing_of_the_package() -> None:
    text = (ROOT / "spec" / "reference" / "air_reader.py").read_text(encoding="utf-8")
    assert "ual_registry" not in text.replace("ual-registry", "")
    code = "import sys; sys.path.insert(0, 'spec/reference'); import air_reader; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not {name for name in loaded if name not in sys.stdlib_module_names} - {"air_reader", "__main__"} - _site()


def _site() -> set[str]:
    """Return what an isolated interpreter loads by itself, such as the finders of editable installs."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_independent_reader_is_one_file() -> None:
    assert [path.name for path in (ROOT / "spec" / "reference").glob("*.py")] == ["air_reader.py"]
    assert Path(ROOT / "spec" / "reference" / "air_reader.py").stat().st_size < 100_000
