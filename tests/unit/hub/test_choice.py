"""What makes the adapters of a repository, and which of them is meant."""

from __future__ import annotations

from typing import Any

import pytest

from ual_registry.errors import ForeignFormatError, HubError, HubNotFoundError, UALError
from ual_registry.hub.choice import Choice, choose
from ual_registry.hub.model import HubFile, Snapshot

COMMIT = "c" * 40
PAIR = ("adapter_config.json", "adapter_model.safetensors")
LABEL = f"team/a@{COMMIT[:12]}"


def snapshot(*paths: str) -> Snapshot:
    files = {path: HubFile(path=path, size_bytes=len(path), sha256=None, blob_id="b" * 40) for path in paths}
    return Snapshot(repository="team/a", commit=COMMIT, files=files)


def pair(folder: str) -> tuple[str, str]:
    return (f"{folder}/{PAIR[0]}", f"{folder}/{PAIR[1]}")


def chosen(choice: Choice) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(item.path, item.form, tuple(file.path for file in item.files)) for item in choice.adapters]


def refusal(*paths: str, **options: Any) -> UALError:
    with pytest.raises(UALError) as caught:
        choose(snapshot(*paths), **options)
    return caught.value


def test_an_air_file_comes_before_the_pair_beside_it() -> None:
    choice = choose(snapshot("README.md", "adapter.air", *PAIR))
    assert chosen(choice) == [("adapter.air", "air", ("adapter.air",))]
    assert (choice.is_whole, choice.left_out) == (True, ())


def test_an_air_file_may_have_any_name_and_place() -> None:
    choice = choose(snapshot("README.md", "deep/er/Medical v2.air"))
    assert chosen(choice) == [("deep/er/Medical v2.air", "air", ("deep/er/Medical v2.air",))]
    assert choice.adapters[0].folder == "deep/er"


def test_a_pair_without_an_air_file_is_an_adapter_of_two_files() -> None:
    choice = choose(snapshot("README.md", "tokenizer.json", *PAIR))
    assert chosen(choice) == [("adapter_model.safetensors", "peft", PAIR)]
    assert (choice.adapters[0].folder, choice.adapters[0].size_bytes) == ("", sum(len(path) for path in PAIR))


def test_a_pickle_beside_safetensors_is_of_no_interest() -> None:
    choice = choose(snapshot("adapter_model.bin", "optimizer.pt", *PAIR))
    assert [item.path for item in choice.adapters] == ["adapter_model.safetensors"]
    assert choice.left_out == ()


def test_earlier_states_of_a_training_run_are_left_out_where_anything_else_is_there() -> None:
    choice = choose(snapshot(*PAIR, *pair("checkpoint-500"), *pair("runs/checkpoint-10")))
    assert [item.path for item in choice.adapters] == ["adapter_model.safetensors"]
    assert choice.left_out == (
        "checkpoint-500/adapter_model.safetensors: an earlier state of a training run",
        "runs/checkpoint-10/adapter_model.safetensors: an earlier state of a training run",
    )
    assert choice.is_whole


def test_the_only_state_of_a_training_run_is_an_adapter() -> None:
    assert [item.path for item in choose(snapshot(*pair("checkpoint-500"))).adapters] == [
        "checkpoint-500/adapter_model.safetensors"
    ]


def test_several_adapters_are_listed_with_what_to_say() -> None:
    error = refusal("law/adapter.air", "maths.air", *pair("code"), "README.md")
    paths = ["code/adapter_model.safetensors", "law/adapter.air", "maths.air"]
    assert (type(error), error.problem_code) == (HubError, "hub-several")
    assert error.message == f"{LABEL}: holds 3 adapters, expected one: {', '.join(paths)}"
    assert error.hint == "name one with --file PATH or --subfolder FOLDER, or take each with --all"
    assert error.context == {"repository": "team/a", "commit": COMMIT, "paths": paths}


def test_a_long_list_is_cut() -> None:
    error = refusal(*(f"{number:02}.air" for number in range(25)))
    assert error.message.endswith("18.air, 19.air and 5 more")


def test_all_are_taken_where_all_are_asked_for() -> None:
    choice = choose(snapshot("law/adapter.air", "maths.air", *pair("code"), "old/adapter_model.bin"), all_of_them=True)
    assert [item.path for item in choice.adapters] == [
        "code/adapter_model.safetensors",
        "law/adapter.air",
        "maths.air",
    ]
    assert choice.left_out == ("old/adapter_model.bin: a pickle, which can run code when it is opened",)
    assert not choice.is_whole


@pytest.mark.parametrize("subfolder", ["code", "code/"])
def test_a_subfolder_names_the_adapter_in_it(subfolder: str) -> None:
    choice = choose(snapshot("maths.air", *pair("code"), "codebook/x.air"), subfolder=subfolder)
    assert [item.path for item in choice.adapters] == ["code/adapter_model.safetensors"]
    assert not choice.is_whole


def test_a_subfolder_with_several_needs_a_closer_word() -> None:
    assert refusal("a/x/1.air", "a/y/2.air", subfolder="a").problem_code == "hub-several"
    choice = choose(snapshot("a/x/1.air", "a/y/2.air", "b/3.air"), subfolder="a", all_of_them=True)
    assert [item.path for item in choice.adapters] == ["a/x/1.air", "a/y/2.air"]


def test_files_are_taken_in_the_order_of_their_names_once_each() -> None:
    choice = choose(snapshot("a.air", "b.air", *pair("c")), files=("b.air", "c/adapter_model.safetensors", "b.air"))
    assert [item.path for item in choice.adapters] == ["b.air", "c/adapter_model.safetensors"]


def test_the_pair_beside_an_air_file_can_be_named() -> None:
    choice = choose(snapshot("adapter.air", *PAIR), files=("adapter_model.safetensors",))
    assert chosen(choice) == [("adapter_model.safetensors", "peft", PAIR)]


@pytest.mark.parametrize("options", [{}, {"subfolder": "x"}, {"files": ("x/adapter_model.bin",)}])
def test_weights_that_are_a_pickle_are_refused_with_the_reason(options: dict[str, Any]) -> None:
    error = refusal("x/adapter_model.bin", "x/adapter_config.json", **options)
    assert (type(error), error.problem_code) == (ForeignFormatError, "peft-pickle")
    assert error.message == (
        f"{LABEL}: the weights are in x/adapter_model.bin, a pickle, which can run code when it is opened"
    )
    assert error.hint == (
        "ask its owner for safetensors; if you trust the file, load it once with PeftModel.from_pretrained in a place "
        "where it can do no harm, and write it again with save_pretrained"
    )


def test_a_repository_without_an_adapter_says_what_is_there() -> None:
    error = refusal("README.md", "model.safetensors")
    assert (type(error), error.problem_code) == (HubNotFoundError, "hub-no-adapter")
    assert error.message == (
        f"{LABEL}: no adapter; looked for *.air, and for adapter_model.safetensors with adapter_config.json beside it, "
        "found README.md, model.safetensors"
    )


def test_an_empty_repository_says_so() -> None:
    assert refusal().message.endswith("found no file")


def test_weights_without_a_configuration_are_no_adapter() -> None:
    assert refusal("adapter_model.safetensors").problem_code == "hub-no-adapter"
    error = refusal("adapter_model.safetensors", files=("adapter_model.safetensors",))
    assert error.message == (
        f"{LABEL}: adapter_model.safetensors is no adapter: there is no adapter_config.json beside it, without which "
        "rank, alpha and targets are unknown"
    )


def test_a_file_of_another_kind_is_no_adapter() -> None:
    error = refusal("a.air", "README.md", files=("README.md",))
    assert error.message == (
        f"{LABEL}: README.md is no adapter: expected an AIR file (*.air) or adapter_model.safetensors"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"files": ("b.air",)}, f"{LABEL}: no file b.air"),
        ({"subfolder": "b"}, f"{LABEL}: no folder b"),
        ({"subfolder": "a.air"}, f"{LABEL}: no folder a.air"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(options: dict[str, Any], message: str) -> None:
    error = refusal("a.air", **options)
    assert (error.problem_code, error.message, error.hint) == ("hub-no-file", message, "its adapters are: a.air")


def test_a_folder_without_an_adapter_is_told_as_one() -> None:
    error = refusal("a.air", "docs/x.md", subfolder="docs")
    assert error.problem_code == "hub-no-adapter"
    assert error.message.startswith(f"{LABEL}, folder docs: no adapter;")
