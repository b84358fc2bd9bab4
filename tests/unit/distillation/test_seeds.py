"""Seed prompts: read, carried in an annotation, and refused where they are something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import small_adapter
from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.distillation.seeds import SEED_PROMPTS_KEY, SeedPrompts, read_seeds, seeds_of, with_seeds
from ual_registry.errors import FormatError, StorageError

HINT = 'write ["first input", "second input"], or {"template": "Request: {input}", "inputs": [...]}'


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (["one", "two"], SeedPrompts(inputs=("one", "two"))),
        ({"inputs": ["one"], "template": "Q: {input}\nA:"}, SeedPrompts(inputs=("one",), template="Q: {input}\nA:")),
        ({"inputs": ["one"], "answer_tokens": 3}, SeedPrompts(inputs=("one",), answer_tokens=3)),
    ],
)
def test_a_seeds_file_is_a_list_or_an_object(document: Any, expected: SeedPrompts, tmp_path: Path) -> None:
    (tmp_path / "seeds.json").write_text(json.dumps(document))
    assert read_seeds(tmp_path / "seeds.json") == expected


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (7, "expected a list of inputs, or an object with inputs and template"),
        ({"inputs": ["a"], "more": 1}, "unknown property 'more'"),
        ([], "inputs: expected 1 to 5 texts, each once, got 0"),
        (list("abcdef"), "inputs: expected 1 to 5 texts, each once, got 6"),
        (["a", "a"], "inputs: expected 1 to 5 texts, each once, got 2"),
        (["a", " "], "inputs: expected a list of texts that are not empty"),
        (["a", 1], "inputs: expected a list of texts that are not empty"),
        ({"inputs": ["a"], "template": "none"}, "template: expected a text that holds {input} once"),
        ({"inputs": ["a"], "answer_tokens": 0}, "answer_tokens: expected a whole number from 1 to 65536"),
        ({"inputs": ["a"], "answer_tokens": True}, "answer_tokens: expected a whole number from 1 to 65536"),
        (["a" * 4097], "a text has 4097 characters, at most 4096 are allowed"),
    ],
)
def test_what_is_no_list_of_seeds_is_refused_with_the_reason(document: Any, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "seeds.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError) as caught:
        read_seeds(path)
    error = caught.value
    assert (error.message, error.problem_code, error.hint) == (f"{path}: {problem}", "seed-prompts", HINT)


def test_a_missing_seeds_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read_seeds(tmp_path / "absent.json")


def test_an_artifact_carries_its_seeds_through_its_file(tmp_path: Path) -> None:
    made = small_adapter()
    seeds = SeedPrompts(inputs=("is it late", "wo ist Zoë"), template="Request: {input}\nTopic:")
    assert seeds_of(made.manifest) is None
    manifest = with_seeds(made.manifest, seeds)
    write(type(made)(manifest, made.tensors), tmp_path / "seeded.air")
    with read(tmp_path / "seeded.air") as again:
        assert seeds_of(again.manifest) == seeds
        assert list(again.manifest.annotations) == [SEED_PROMPTS_KEY]


def test_seeds_take_the_place_of_those_that_were_there() -> None:
    first = with_seeds(small_adapter().manifest, SeedPrompts(inputs=("one",)))
    assert seeds_of(with_seeds(first, SeedPrompts(inputs=("two",)))) == SeedPrompts(inputs=("two",))
    with pytest.raises(FormatError, match="seed prompts: inputs: expected 1 to 5 texts"):
        with_seeds(first, SeedPrompts(inputs=()))


def test_an_input_is_found_again_in_its_prompt() -> None:
    seeds = SeedPrompts(inputs=("one",), template="Q: {input}\nA:")
    assert seeds.input_of(seeds.prompt("is it late")) == "is it late"
    assert SeedPrompts(inputs=("one",)).input_of("as it is") == "as it is"
