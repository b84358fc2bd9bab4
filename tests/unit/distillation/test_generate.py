"""Generation: reproducible, resumable, stopped where it should be, with and without seeds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ual_registry.distillation.corpus import make_corpus, run_freely
from ual_registry.distillation.generate import Sampling, generate_texts
from ual_registry.distillation.manner import Manner
from ual_registry.distillation.pieces import Cutter
from ual_registry.distillation.prompts import Given, Prefixes
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.distillation.texts import Ended, Kept, Rules, Text, TextFile
from ual_registry.errors import FormatError, TrainingError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

SAMPLING = Sampling(max_tokens=24, batch_size=4, seed=3)


class KilledError(Exception):
    """Stands for whatever ends a process."""


def generate(source: LoadedBase, file: Path, sampling: Sampling = SAMPLING, **more: Any) -> Kept:
    settings: dict[str, Any] = {"wanted": 12, "rules": Rules(), "material": {}, "max_generated": 12}
    return generate_texts(
        source.model, source.tokenizer, more.pop("prompts", Prefixes()), sampling, file, **settings | more
    )


def test_the_same_settings_give_the_same_texts_and_another_seed_others(source: LoadedBase, tmp_path: Path) -> None:
    first = generate(source, tmp_path / "one.jsonl")
    assert generate(source, tmp_path / "two.jsonl") == first
    other = generate(source, tmp_path / "three.jsonl", Sampling(max_tokens=24, batch_size=4, seed=4))
    assert other.texts != first.texts
    assert first.counts["generated"] == 12


@pytest.mark.parametrize("batches", [1, 2])
def test_a_killed_generation_goes_on_to_the_same_texts(source: LoadedBase, batches: int, tmp_path: Path) -> None:
    whole = generate(source, tmp_path / "whole.jsonl")
    seen = []

    def kill(kept: Kept) -> None:
        seen.append(kept.counts["generated"])
        if len(seen) == batches:
            raise KilledError

    file = tmp_path / "texts.jsonl"
    with pytest.raises(KilledError):
        generate(source, file, on_batch=kill)
    file.write_bytes(file.read_bytes() + b'{"batch":')  # a line that was being written
    assert generate(source, file) == whole
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.distillation.test_generate import generate
from ual_registry.models.loaded import load_base_model
generate(load_base_model(sys.argv[1]), Path(sys.argv[2]), on_batch=lambda kept: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_process_leaves_what_another_goes_on_with(source: LoadedBase, places: Path, tmp_path: Path) -> None:
    whole = generate(source, tmp_path / "whole.jsonl")
    file = tmp_path / "texts.jsonl"
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(places / "source"), str(file)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(file.read_bytes().splitlines()) == 5  # the header and a batch
    assert generate(source, file) == whole
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_batch_of_which_texts_are_missing_is_generated_again(source: LoadedBase, tmp_path: Path) -> None:
    whole = generate(source, tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    file = tmp_path / "texts.jsonl"
    file.write_bytes(b"".join(lines[:7]))  # the header, a batch of four, and half a batch
    assert generate(source, file) == whole
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("more", [{"wanted": 3}, {"wanted": 40, "max_generated": 6}])
def test_a_file_that_holds_more_than_is_wanted_gives_what_a_new_one_gives(
    source: LoadedBase, tmp_path: Path, more: dict[str, Any]
) -> None:
    first = generate(source, tmp_path / "texts.jsonl", **more)
    whole = generate(source, tmp_path / "texts.jsonl", wanted=40, max_generated=20)
    assert whole.counts["generated"] == 20
    assert generate(source, tmp_path / "texts.jsonl", **more) == first
    assert generate(source, tmp_path / "texts.jsonl", wanted=40, max_generated=20) == whole


def test_texts_of_another_adapter_are_not_gone_on_with(source: LoadedBase, tmp_path: Path) -> None:
    generate(source, tmp_path / "texts.jsonl", wanted=1)
    with pytest.raises(FormatError, match="line 1: the texts come from other settings"):
        generate(source, tmp_path / "texts.jsonl", material={"adapter": "other"})


def test_prompts_of_several_lengths_are_answered_as_they_are_alone(source: LoadedBase, tmp_path: Path) -> None:
    prompts = ("the", "the bread", "a friend likes the")
    sampling = Sampling(temperature=0, max_tokens=12, batch_size=3)
    together = generate(source, tmp_path / "all.jsonl", sampling, prompts=Given(prompts))
    for number, prompt in enumerate(prompts):
        alone = generate(source, tmp_path / f"{number}.jsonl", sampling, prompts=Given((prompt,)))
        assert alone.texts[0].completion == together.texts[number].completion
    assert together.counts["generated"] == 3


def test_a_model_that_can_read_no_further_ends_a_text(
    source: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ual_registry.distillation.generate.position_limit", lambda _: 6)
    prompts = Given(("the", "a"))
    ids = [Cutter(source.tokenizer).prompt_ids(text) for text in prompts.texts]
    kept = generate(source, tmp_path / "texts.jsonl", prompts=prompts, sampling=Sampling(max_tokens=9, temperature=0))
    assert {text.tokens for text in kept.texts} == {6 - max(map(len, ids))}
    with pytest.raises(TrainingError) as caught:
        generate(source, tmp_path / "long.jsonl", prompts=Given(("the bread finds the old man",)))
    longest = len(Cutter(source.tokenizer).prompt_ids("the bread finds the old man"))
    message = f"a prompt has {longest} tokens, expected fewer than the 6 that the source base can read"
    assert (caught.value.message, caught.value.problem_code) == (message, "too-long")


def test_a_stop_text_ends_a_completion_and_is_left_out(source: LoadedBase, tmp_path: Path) -> None:
    kept = generate(source, tmp_path / "texts.jsonl", Sampling(max_tokens=24, batch_size=4, seed=3, stop=(" ",)))
    assert all(" " not in text.completion for text in kept.texts)
    assert {text.ended for text in kept.texts} == {Ended.STOP}
    free = generate(source, tmp_path / "free.jsonl", Sampling(max_tokens=3, batch_size=4, seed=3))
    assert {(text.ended, text.tokens) for text in free.texts} == {(Ended.LENGTH, 3)}


def test_enough_texts_end_the_generation(source: LoadedBase, tmp_path: Path) -> None:
    kept = generate(source, tmp_path / "texts.jsonl", wanted=3, max_generated=100)
    assert len(kept.texts) == kept.counts["kept"] == 3
    assert kept.counts["generated"] % 4 == 0


def test_free_running_speaks_with_the_adapter(source: LoadedBase, adapter: Named, tmp_path: Path) -> None:
    sampling = Sampling(temperature=0, max_tokens=24, batch_size=1)
    kept = run_freely(source, adapter, sampling, tmp_path / "texts.jsonl", wanted=1, rules=Rules())
    plain = generate(source, tmp_path / "plain.jsonl", sampling, wanted=1)
    with attach(source.model, adapter.adapter):
        again = generate(source, tmp_path / "again.jsonl", sampling, wanted=1)
    assert kept.texts[0].completion == again.texts[0].completion != plain.texts[0].completion
    assert kept.texts[0].ended is Ended.END


def test_seeds_make_inputs_and_the_adapter_answers_them(source: LoadedBase, adapter: Named, tmp_path: Path) -> None:
    seeds = SeedPrompts(inputs=("the cat", "a friend", "a dog"), template="say {input}:")
    corpus = make_corpus(source, adapter, seeds, SAMPLING, tmp_path, wanted=5)
    inputs = [own.completion.strip() for own in TextFile(tmp_path / "inputs.jsonl", _header(tmp_path)).read()]
    assert corpus.texts
    assert {text.prompt for text in corpus.texts} <= {f"say {own}:" for own in (*seeds.inputs, *inputs)}
    assert corpus.input_counts["kept"] == 5
    assert corpus.counts["generated"] == 8  # seeds are answered too
    assert make_corpus(source, adapter, seeds, SAMPLING, tmp_path, wanted=5) == corpus


def test_the_target_writes_inputs_too_and_answers_are_drawn_beside_the_likeliest(
    source: LoadedBase, target: LoadedBase, adapter: Named, tmp_path: Path
) -> None:
    seeds = SeedPrompts(inputs=("the cat", "a friend", "a dog"), template="say {input}:")
    manner = Manner(writers=("source", "target"), answers=2)
    made = [
        make_corpus(source, adapter, seeds, SAMPLING, tmp_path, wanted=24, target=target, manner=manner)
        for _ in range(2)
    ]
    assert made[0] == made[1]
    names = ["inputs.jsonl", "inputs-by-2.jsonl", "texts.jsonl", "texts-2.jsonl", "drawn-1.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    parts = {name: [json.loads(line) for line in (tmp_path / name).read_text().splitlines()] for name in names}
    writers = [parts[name][0]["settings"]["material"]["base_config"] for name in names]
    assert writers == [
        own.base.config_digest for own in (source, target, source, source, source)
    ]  # answers are the source's
    inputs = {own["completion"].strip() for name in names[:2] for own in parts[name][1:]}
    prompts = [own["prompt"] for name in names[2:4] for own in parts[name][1:]]
    assert set(prompts) <= {seeds.prompt(own) for own in (*seeds.inputs, *inputs)}
    assert {own["prompt"] for own in parts["drawn-1.jsonl"][1:]} <= set(prompts)
    assert parts["drawn-1.jsonl"][0]["settings"]["sampling"]["temperature"] == 1.0
    assert len(made[0].texts) <= 24
    assert {text.prompt for text in made[0].texts} <= set(prompts)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"writers": ()}, "expected source, target or both, each once, got []"),
        ({"writers": ("source", "source")}, "expected source, target or both, each once, got ['source', 'source']"),
        ({"writers": ("teacher",)}, "expected source, target or both, each once, got ['teacher']"),
        ({"answers": 0}, "expected 1 to 16, got 0"),
        ({"answers": 17}, "expected 1 to 16, got 17"),
        ({"opened": 1.5}, "expected a share from 0 to 1, got 1.5"),
    ],
)
def test_a_manner_that_means_nothing_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(TrainingError) as refused:
        Manner(**settings)
    assert refused.value.message == f"manner.{next(iter(settings))}: {problem}"


def test_a_corpus_of_few_inputs_is_made_again_as_it_was(source: LoadedBase, adapter: Named, tmp_path: Path) -> None:
    """Few inputs are new, so the first round ends at its limit, and the second one writes more into the same file."""
    seeds = SeedPrompts(inputs=("the cat", "a friend", "a dog"), template="say {input}:")
    sampling = Sampling(max_tokens=24, batch_size=16, seed=3, temperature=0.0)
    corpus = make_corpus(source, adapter, seeds, sampling, tmp_path, wanted=40)
    assert make_corpus(source, adapter, seeds, sampling, tmp_path, wanted=40) == corpus


def test_without_seeds_source_and_adapter_run_freely(source: LoadedBase, adapter: Named, tmp_path: Path) -> None:
    corpus = make_corpus(source, adapter, None, SAMPLING, tmp_path, wanted=4)
    kept = run_freely(source, adapter, SAMPLING, tmp_path / "texts.jsonl", wanted=4, rules=Rules())
    assert (corpus.texts, corpus.counts, corpus.input_counts) == (kept.texts, kept.counts, {})
    assert {text.prompt for text in corpus.texts} == {""}


def test_an_adapter_that_only_repeats_itself_is_given_openings_of_the_source(
    source: LoadedBase, adapter: Named, tmp_path: Path
) -> None:
    strict = Rules(max_repetition=-1.0)  # so that everything counts as repetitive
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ual_registry.distillation.corpus.answer", lambda *given, **_: Kept(given[2], {"kept": 5}))
        corpus = make_corpus(source, adapter, None, SAMPLING, tmp_path, wanted=5, rules=strict)
    openings = [own.completion for own in TextFile(tmp_path / "inputs.jsonl", _header(tmp_path)).read()]
    assert corpus.input_counts["kept"] == 5
    prompts: Any = corpus.texts  # of the patched answer
    assert set(prompts) <= set(openings)
    assert sorted(prompts, key=len) == list(prompts)
    assert make_corpus(source, adapter, None, SAMPLING, tmp_path, wanted=5).input_counts == {}


def test_few_answers_are_asked_for_again_until_each_has_as_many_texts(
    source: LoadedBase, adapter: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The toy adapter gives every answer its own; let two texts be of one kind and all others of another.
    monkeypatch.setattr(
        "ual_registry.distillation.asking.answer_groups", lambda texts: {"rare": texts[:2], "often": texts[2:]}
    )
    seeds = SeedPrompts(inputs=("the cat", "a friend", "a dog"), answer_tokens=1)
    sampling = Sampling(max_tokens=24, batch_size=8, seed=3)
    corpus = make_corpus(source, adapter, seeds, sampling, tmp_path, wanted=60)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["inputs-2.jsonl", "inputs.jsonl", "texts-2.jsonl", "texts.jsonl"]
    assert {text.tokens for text in corpus.texts} == {1}
    (header, *lines) = (tmp_path / "inputs-2.jsonl").read_text().splitlines()
    assert json.loads(header)["settings"]["prompts"]["kind"] == "repeated"
    assert len(lines) == 8 * json.loads(header)["settings"]["prompts"]["count"]
    assert make_corpus(source, adapter, seeds, sampling, tmp_path, wanted=60) == corpus


def _header(folder: Path) -> Any:
    return json.loads((folder / "inputs.jsonl").read_text().splitlines()[0])["settings"]


def test_a_text_is_named_by_what_it_says() -> None:
    one = Text(batch=0, prompt="a", completion="b", ended=Ended.END, tokens=1)
    assert one.digest == Text(batch=5, prompt="a", completion="b", ended=Ended.END, tokens=9).digest
    assert one.digest != Text(batch=0, prompt="", completion="ab", ended=Ended.END, tokens=1).digest
