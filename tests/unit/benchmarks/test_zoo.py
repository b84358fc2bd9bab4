"""The zoo benchmark: which documents are in which split, what is measured, and how the numbers are worded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.transfer.arms import Arm
from benchmarks.transfer.rungs import DEVICE
from benchmarks.transfer.zoo import main
from benchmarks.transfer.zoo_corpus import Domain
from benchmarks.transfer.zoo_jobs import run_at_once
from benchmarks.transfer.zoo_parts import Part, parts, trial_arm
from benchmarks.transfer.zoo_pilot import choose
from benchmarks.transfer.zoo_recipe import Settings, keep_settings
from benchmarks.transfer.zoo_results import collect, tables
from benchmarks.transfer.zoo_store import ALONE, BASES, COLD, DIRECTIONS, DOMAIN, WARM, Zoo
from ual_registry.evaluation.series import Series


def passage(document: int, part: int) -> str:
    return f"document {document}, part {part} ".ljust(320, ".")


@pytest.fixture
def changelogs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Domain:
    """Changelogs of 200 packages, two passages each, as a machine has them."""
    import gzip

    from benchmarks.transfer import zoo_corpus

    for number in range(200):
        (tmp_path / f"package{number}").mkdir()
        text = f"package{number} (1-1) unstable; urgency=low\n".ljust(320, "-") + f"{number}".ljust(320, "+")
        with gzip.open(tmp_path / f"package{number}" / "changelog.Debian.gz", "wt") as stream:
            stream.write(text)
    monkeypatch.setattr(zoo_corpus, "_CHANGELOGS", tmp_path)
    return zoo_corpus.DOMAINS["changelogs"]()


def test_no_document_is_in_two_splits_and_tests_are_of_one_passage_each(changelogs: Domain) -> None:
    splits = {name: getattr(changelogs, name) for name in ("train", "text", "dev", "test")}
    assert {name: len(own) for name, own in splits.items()} == {"train": 80, "text": 128, "dev": 32, "test": 64}
    assert {len(own) for split in splits.values() for own in split} == {320}
    starts = [own.split(" ")[0] for split in splits.values() for own in split if own.startswith("package")]
    assert len(starts) == len(set(starts)) == 200
    assert all(own.startswith("package") for own in (*splits["dev"], *splits["test"]))


def test_code_is_without_docstrings_and_comments() -> None:
    from benchmarks.transfer.zoo_corpus import _without_prose

    source = (
        '"""A module."""\n\ndef one():\n    """Say one."""\n    return 1  # one\n\nclass Two:\n    """Say two."""\n'
    )
    assert _without_prose(source) == "def one():\n    return 1\n\nclass Two:\n    pass"


def write_base(zoo: Zoo, name: str) -> None:
    zoo.folder(name).mkdir(parents=True)
    config = {"hidden_size": 64, "num_hidden_layers": 6, "vocab_size": 1024}
    (zoo.folder(name) / "config.json").write_text(json.dumps(config))
    (zoo.folder(name) / "training.json").write_text(json.dumps({"cpu_s": 123.4}))
    zoo.adapter(name, DOMAIN).parent.mkdir(exist_ok=True)
    zoo.adapter(name, DOMAIN).write_bytes(name.encode())


def keep(zoo: Zoo, arm: Arm, split: str, bits: float) -> None:
    """Keep a measurement of four documents of 100 bytes; what an arm gains is the same on each."""
    values = np.array([100.0, 200.0, 300.0, 400.0]) / 100 + 100 * bits
    series = Series(
        metric="bits_per_byte", values=values, weights=np.full(4, 100.0), is_better_high=False, is_share=False
    )
    zoo.numbers.keep(arm.key(DOMAIN, split), [series])


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    """Kept numbers of one direction: `predictions` recovers half at dose 1 and two thirds at 2, `svd` nothing."""
    made = Zoo(cache=tmp_path)
    source, target = DIRECTIONS[0]
    for base in (source, target):
        write_base(made, base)
    for arm, bits in zip(made.reference_arms(source, target), (3.0, 2.0, 3.0, 1.5), strict=True):
        for split in ("dev", "test"):
            keep(made, arm, split, bits)
    for rung in ("svd", "predictions"):
        file = made.moved(rung, source, target, DOMAIN)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(rung.encode())
        cost = {"cpu_s": 1.26, "wall_s": 2.5, "peak_bytes": 3 << 20, "said": {}}
        file.with_suffix(".cost.json").write_text(json.dumps(cost))
        dev = {"svd": (3.0, 3.1, 3.2, 3.3, 3.4), "predictions": (3.0, 2.5, 2.2, 2.1, 2.0)}[rung]
        for arm, bits in zip(made.dose_arms(rung, source, target), dev, strict=True):
            keep(made, arm, "dev", bits)
    values = {"svd": 3.3, "predictions": 2.25, "predictions x2": 2.0}
    for rung in ("svd", "predictions"):
        for arm in made.rung_arms(rung, source, target):
            keep(made, arm, "test", values.get(arm.name, 4.5 if "flipped" in arm.name else 3.0))
    made.moved("vocab", source, target, DOMAIN).with_suffix(".refused").write_text("no token is shared")
    return made


def test_without_numbers_there_is_no_table(tmp_path: Path) -> None:
    assert tables(tmp_path) == ""


def test_what_has_no_source_serves_every_direction_to_a_target(zoo: Zoo) -> None:
    files = [zoo.moved(ALONE, source, "gpt2", DOMAIN).name for source in ("llama", "gpt2", "qwen2")]
    assert files == ["text-alone-no-source-gpt2-changelogs.air"] * 3


def test_a_direction_in_which_no_rung_was_measured_is_left_out(zoo: Zoo) -> None:
    assert [names for names in DIRECTIONS if collect(zoo, *names)] == [DIRECTIONS[0]]


def test_the_tables_word_kept_numbers(zoo: Zoo) -> None:
    assert tables(zoo.cache) == _TABLES


@pytest.mark.parametrize("is_over", [True, False])
def test_tables_are_put_into_a_file_when_all_is_done(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_over: bool
) -> None:
    monkeypatch.setenv(DEVICE, "cpu")  # which the command sets, and which is to be as before afterwards
    monkeypatch.setattr("benchmarks.transfer.zoo._run", lambda *_, **__: is_over)
    asked = ["--cache", str(zoo.cache), "--jobs", "2", "--save", str(tmp_path / "tables.md")]
    found = CliRunner().invoke(main, asked)
    assert (found.exit_code, found.output) == (0, f"{_TABLES}\n")
    assert [file.read_text() for file in tmp_path.glob("tables.md")] == [_TABLES] * is_over


def _keep_distilled(zoo: Zoo, rung: str, bits: float) -> None:
    source, target = DIRECTIONS[0]
    file = zoo.moved(rung, source, target, DOMAIN)
    file.write_bytes(rung.encode())
    file.with_suffix(".cost.json").write_text(json.dumps({"cpu_s": 1.0, "wall_s": 1.0, "peak_bytes": 1, "said": {}}))
    for arm, own in zip(zoo.dose_arms(rung, source, target), (3.0, 2.5, 2.2, 2.3, 2.4), strict=True):
        keep(zoo, arm, "dev", own)
    for arm in zoo.rung_arms(rung, source, target):
        keep(zoo, arm, "test", bits if arm.name == rung else 3.0)


def test_both_starts_of_a_distillation_are_compared_on_the_same_documents(zoo: Zoo) -> None:
    _keep_distilled(zoo, COLD, 2.1)
    assert collect(zoo, *DIRECTIONS[0]).warmth is None
    assert "beside a cold one" not in tables(zoo.cache)
    _keep_distilled(zoo, WARM, 2.04)
    (row,) = [line for line in tables(zoo.cache).splitlines() if line.endswith("]    |") and "0.0600" in line]
    cells = [own.strip() for own in row.strip("|").split("|")]
    assert cells == ["llama to gpt2", "0.60 [0.60, 0.60]", "0.64 [0.64, 0.64]", "0.0600 [0.0600, 0.0600]"]


def test_what_the_first_settings_gave_stands_beside_what_a_pilot_chose(zoo: Zoo) -> None:
    _keep_distilled(zoo, COLD, 2.1)
    assert "distillation with" not in tables(zoo.cache)
    keep_settings(zoo.cache, Settings(texts=1600, steps=600))
    worded = tables(zoo.cache)
    first = worded.partition("### Zoo: distillation with 600 texts, in 120 steps of 8\n\n")[2].split("\n\n")[0]
    (row,) = first.splitlines()[2:]
    cells = ["distill cold", "1", "0.60 [0.60, 0.60]", "0.60 [0.60, 0.60]", "1 works", *["0.00 [0.00, 0.00]"] * 2, ""]
    assert [cell.strip() for cell in row.strip("|").split("|")] == cells
    assert "distill cold" not in worded.partition("### Zoo: what it took")[0]


_TABLES = """\
| base   | width   | layers   | tokens known   | training, CPU s   | bits per byte     | with native adapter   |
|--------|---------|----------|----------------|-------------------|-------------------|-----------------------|
| llama  | 64      | 6        | 1024           | 123               | 3.02 [3.02, 3.04] | 2.02 [2.02, 2.04]     |
| gpt2   | 64      | 6        | 1024           | 123               | 3.02 [3.02, 3.04] | 1.52 [1.51, 1.53]     |

### Zoo: every rung

| rung        | directions   | R at dose 1          | R at the dose of dev   | verdicts   | random            | flipped              | wrong task   |
|-------------|--------------|----------------------|------------------------|------------|-------------------|----------------------|--------------|
| svd         | 1            | -0.20 [-0.20, -0.20] | 0.00 [0.00, 0.00]      | 1 none     | 0.00 [0.00, 0.00] | -1.00 [-1.00, -1.00] |              |
| predictions | 1            | 0.50 [0.50, 0.50]    | 0.67 [0.67, 0.67]      | 1 works    | 0.00 [0.00, 0.00] | -1.00 [-1.00, -1.00] |              |

R is the median over the directions, with the lowest and the highest in brackets.
Controls have the dose of the rung; of three random ones the best counts.
`text alone` is no transfer: it has no source.

### Zoo: every direction

| direction     | gain at the source   | a perfect copy   | svd               | predictions       |
|---------------|----------------------|------------------|-------------------|-------------------|
| llama to gpt2 | 1.00                 | 0.67             | 0.00 [0.00, 0.00] | 0.67 [0.67, 0.67] |

### Zoo: what it took

| rung        | processor time, s   | wall time, s   | peak memory beside the two bases, MiB   |
|-------------|---------------------|----------------|-----------------------------------------|
| svd         | 1.3                 | 2.5            | 3                                       |
| predictions | 1.3                 | 2.5            | 3                                       |

Medians over the directions, one thread; text of a distillation is not counted.
"""  # noqa: E501  # rows of tables


# Parts, jobs and the pilot


def test_settings_name_what_was_made_with_them_and_the_first_ones_name_nothing() -> None:
    more = Settings(texts=2400, steps=600, batch_size=32, temperature=1.0, top_p=0.95)
    assert [own.name for own in (Settings(), more, Settings(steps=7), more.with_passages(150))] == [
        "",
        "n2400-t1-p0.95-s600-b32-l0.02-r8",
        "n600-t0.8-p0.8-s7-b8-l0.02-r8",
        "n2400-t1-p0.95-h150-s600-b32-l0.02-r8",
    ]
    assert [own.text_name for own in (Settings(), Settings(steps=7), more)] == ["", "", "n2400-t1-p0.95"]
    assert [(own.generated, own.drawn) for own in (Settings(), more, more.with_passages(150))] == [
        (600, 300),
        (2400, 1200),
        (1200, 600),
    ]


def test_files_of_other_settings_lie_beside_those_of_the_first_ones(tmp_path: Path) -> None:
    first, other = Zoo(cache=tmp_path), Zoo(cache=tmp_path, settings=Settings(steps=7))
    names = [zoo.moved(rung, "llama", "gpt2", DOMAIN).name for rung in ("svd", COLD) for zoo in (first, other)]
    assert names == [
        "svd-llama-gpt2-changelogs.air",
        "svd-llama-gpt2-changelogs.air",
        "distill-cold-llama-gpt2-changelogs.air",
        "distill-cold-llama-gpt2-changelogs-n600-t0.8-p0.8-s7-b8-l0.02-r8.air",
    ]


def test_parts_wait_for_what_they_need(tmp_path: Path) -> None:
    found = parts(Zoo(cache=tmp_path), [("llama", "gpt2")], ["predictions", COLD, ALONE])
    assert [str(part) for part in found] == [
        "base llama",
        "base gpt2",
        "base qwen2",
        "base gpt_neox",
        "teacher llama changelogs",
        "moved predictions llama gpt2",
        "moved distill cold llama gpt2",
        "moved text alone llama gpt2",
        *(f"identity predictions {base}" for base in BASES),
        "stranger predictions llama gpt2",
        "teacher llama code",
        "stranger distill cold llama gpt2",
    ]
    keys = [part.key for part in found]
    assert all(keys.index(own) < place for place, part in enumerate(found) for own in part.after)
    assert [own.strip() for own in found[6].after] == [
        "base llama",
        "base gpt2",
        "moved predictions llama gpt2",
        "teacher llama changelogs",
    ]


def test_what_is_known_by_its_digest_is_not_distilled_again(tmp_path: Path) -> None:
    zoo = Zoo(cache=tmp_path)
    file = zoo.moved(COLD, "llama", "gpt2", DOMAIN).with_suffix(".digest")
    file.parent.mkdir()
    file.write_text("00" * 32)
    found = [str(part) for part in parts(zoo, [("llama", "gpt2"), ("qwen2", "gpt2")], [COLD])]
    assert [own for own in found if own.startswith("teacher") and own.endswith("changelogs")] == [
        "teacher qwen2 changelogs"
    ]


def test_processes_side_by_side_do_the_parts_and_say_which_failed(zoo: Zoo) -> None:
    def part(kind: str, *names: str, after: tuple[str, ...] = ()) -> Part:
        return Part(kind=kind, names=names, settings=Settings(), after=after)

    first = part("moved", "svd", *DIRECTIONS[0])
    todo = [part("nothing"), first, part("moved", "predictions", *DIRECTIONS[0], after=(first.key,))]
    said: list[str] = []
    assert run_at_once(todo, zoo.cache, jobs=2, seconds=None, say=said.append) == ["nothing"]
    done = [line.rpartition(" (")[0] for line in said if line.startswith("done: ")]
    assert done == ["done: moved svd llama gpt2", "done: moved predictions llama gpt2"]
    assert [line for line in said if line.startswith("failed: nothing: ") and "KeyError: 'nothing'" in line]


def test_no_part_begins_when_the_time_is_over(zoo: Zoo) -> None:
    todo = [Part(kind="moved", names=("svd", *DIRECTIONS[0]), settings=Settings())]
    assert run_at_once(todo, zoo.cache, jobs=2, seconds=-1, say=print) == ["moved svd llama gpt2"]


def test_a_pilot_keeps_the_recipe_that_is_best_over_all_directions_and_asks_for_no_passages(zoo: Zoo) -> None:
    good, better, half = Settings(steps=1), Settings(steps=2), Settings(steps=3)
    grid, pairs = [good, better, half, better.with_passages(2)], [("llama", "gpt2"), ("gpt2", "llama")]
    for own, bits in ((good, (2.5, 2.5)), (better, (2.6, 2.2)), (half, (2.0, None)), (grid[3], (2.0, 2.0))):
        tried = Zoo(cache=zoo.cache, settings=own)
        for pair, value in zip(pairs, bits, strict=True):
            if value is not None:
                tried.moved(COLD, *pair, DOMAIN).write_bytes(f"{own.name} {pair}".encode())
                keep(tried, trial_arm(tried, *pair), "dev", value)
    assert (choose(zoo.cache, grid, pairs), Zoo.open(zoo.cache).settings) == (better, better)
    assert choose(zoo.cache, grid[2:], pairs) is None


def test_a_digest_beside_the_cost_is_enough_for_the_tables(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    from ual_registry.digest import Digest

    for file in zoo.moved("svd", *DIRECTIONS[0], DOMAIN).parent.glob("*.air"):
        file.with_suffix(".digest").write_text(f"{Digest.of_file(file).hex}\n")
        file.unlink()
    assert tables(zoo.cache) == _TABLES
