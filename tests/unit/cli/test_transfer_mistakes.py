"""What ``ual transfer`` says to bad input: the exact message and the exit code of each, and what it only warns of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.commands import Result, Ual
from tests.unit.cli.transfer_scene import scene, ual
from ual_registry.air.read import read
from ual_registry.binders.base import load_base
from ual_registry.binders.describe import describe_base
from ual_registry.errors import TransferError
from ual_registry.models.loaded import weights_digest
from ual_registry.workflows.transfer_order import TransferOrder, seconds_of
from ual_registry.workflows.transfer_text import read_texts

__all__ = ["scene", "ual"]  # fixtures

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

TO_GPT2 = "transfer ./own.air --to gpt2 --source-base llama -o out.air"
TEXT_FORMS = "docs/transfer.md shows the forms of calibration text"


def error(code: int, kind: str, message: str, hint: str | None) -> Result:
    lines = [f"error [{kind}]: {message}", *([f"hint: {hint}"] if hint else [])]
    return Result(code, "", "".join(f"{line}\n" for line in lines))


FILES = {
    "empty.txt": (b"", 1, "expected calibration text, got an empty file"),
    "blank.txt": (b"\n  \n\t\n", 1, "expected calibration text, got an empty file"),
    "latin.txt": (b"one line\ncaf\xe9\n", 2, "is no text in UTF-8"),
    "empty.jsonl": (b"\n\n", 1, "expected calibration text, got an empty file"),
    "broken.jsonl": (
        b'{"text": "one"}\n{"text": \n',
        2,
        "is no JSON (Expecting value: line 1 column 10 (char 9))",
    ),
    "list.jsonl": (b'["one"]\n', 1, "is a list, expected an object"),
    "neither.jsonl": (b'{"text": "one"}\n\n{"label": "a"}\n', 3, "expected either text or prompt, got neither"),
    "both.jsonl": (b'{"text": "one", "prompt": "two"}\n', 1, "expected either text or prompt, got text and prompt"),
    "spaces.jsonl": (b'{"prompt": "  "}\n', 1, "prompt: expected a text that is not blank, got '  '"),
    "number.jsonl": (b'{"text": 3}\n', 1, "text: expected a text that is not blank, got 3"),
}


@pytest.mark.parametrize("name", FILES)
def test_calibration_text_that_is_none_is_refused_with_its_line(ual: Ual, name: str) -> None:
    data, line, message = FILES[name]
    Path(name).write_bytes(data)
    expected = error(3, "calibration-text", f"{name}, line {line}: {message}", TEXT_FORMS)
    assert ual(f"{TO_GPT2} --calibrate {name}") == expected
    assert ual(f"{TO_GPT2} --calibrate {name} --plan") == expected


def test_calibration_text_that_is_not_there_is_refused(ual: Ual) -> None:
    message = "cannot read none.txt: No such file or directory"
    assert ual(f"{TO_GPT2} --calibrate none.txt") == error(11, "storage", message, "check the path")


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.txt", "one\ntwo \n", ("one", "two")),
        ("a.txt", "one\nand more\n\n\ntwo\r\n", ("one\nand more", "two")),
        ("a.txt", "\ufeffone", ("one",)),
        ("a.jsonl", '{"prompt": "one\\nTopic:", "label": "x"}\n\n{"text": " two"}\n', ("one\nTopic:", " two")),
    ],
)
def test_calibration_text_is_lines_paragraphs_or_objects(
    tmp_path: Path, name: str, content: str, texts: tuple[str, ...]
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_texts(path) == read_texts(str(path)) == texts


def test_texts_from_python_are_checked_too() -> None:
    assert read_texts(text for text in ("one", "two")) == ("one", "two")
    cases: tuple[tuple[Iterable[object], str, str], ...] = (
        ((), "the calibration text is empty", "empty-text"),
        (("", " "), "the calibration text is empty", "empty-text"),
        ((b"one",), "calibration: expected texts, got a bytes", "bad-option"),
    )
    for texts, message, code in cases:
        with pytest.raises(TransferError) as caught:
            read_texts(texts)  # type: ignore[arg-type]
        assert (caught.value.message, caught.value.problem_code, caught.value.exit_code) == (message, code, 5)


@pytest.mark.parametrize("method", ["vocab", "activations", "residual", "predictions", "distill"])
def test_a_target_without_a_tokenizer_is_refused_where_text_is_needed(ual: Ual, method: str) -> None:
    text = "" if method in ("vocab", "distill") else "--calibrate text.txt"
    assert ual(f"transfer ./own.air --to mute --source-base llama -o out.air --method {method} {text}") == error(
        5,
        "no-tokenizer",
        "base model mute: it has no tokenizer, and text is needed",
        "put its tokenizer.json and tokenizer_config.json into the folder",
    )


@pytest.mark.parametrize(
    ("where", "name"),
    [("--to mute --source-base llama", "mute"), ("--to gpt2 --source-base mute --any-base", "llama")],
)
@pytest.mark.parametrize("plan", ["", "--plan"])
def test_text_that_a_base_cannot_read_is_refused_whatever_the_method(
    ual: Ual, where: str, name: str, plan: str
) -> None:
    assert ual(f"transfer ./own.air {where} -o out.air --calibrate text.txt {plan}") == error(
        5,
        "no-tokenizer",
        f"base model {name}: it has no tokenizer, and text is needed",
        "put its tokenizer.json and tokenizer_config.json into the folder",
    )


def test_auto_without_text_says_that_the_target_has_no_tokenizer_and_takes_what_is_left(ual: Ual) -> None:
    result = ual("transfer ./own.air --to mute --source-base llama -o out.air --json")
    assert (result.code, result.document["method"], result.document["label"]) == (0, "svd", "control-grade")
    assert {step["reason"] for step in result.document["choice"] if step["standing"] == "lacking"} == {
        "base model mute has no tokenizer",
        "not every entry has its shape in the target",
    }


def test_data_that_are_not_there_are_told_before_anything_is_planned(ual: Ual) -> None:
    expected = error(11, "storage", "cannot read none.jsonl: No such file or directory", "check the path")
    assert ual(f"{TO_GPT2} --data none.jsonl") == expected
    assert ual(f"{TO_GPT2} --data none.jsonl --plan") == expected


def test_seeds_that_are_no_json_are_told_their_form(ual: Ual) -> None:
    result = ual(f"{TO_GPT2} --method distill --seeds text.txt")
    hint = 'write ["first input", "second input"], or {"template": "Request: {input}", "inputs": [...]}'
    message = "text.txt: not JSON in UTF-8: Expecting value: line 1 column 1 (char 0)"
    assert result == error(3, "not-json", message, hint)


def test_a_target_that_may_be_the_source_is_noticed(ual: Ual) -> None:
    result = ual("transfer ./own.air --to llama -o out.air --json")
    assert (result.code, result.document["method"], result.document["counts"]["kept"]) == (0, "svd", 14)
    (warning,) = result.document["warnings"]
    assert warning == (
        "the target has the config of the adapter's own base model, so every entry is kept as it is; whether it is "
        "that model its weights would show: give both"
    )


def test_auto_does_not_hide_a_mistake_behind_a_control(ual: Ual) -> None:
    device = ual(f"{TO_GPT2} --calibrate text.txt --device nowhere")
    assert (device.code, device.err.splitlines()[0].split(": ")[:2]) == (5, ["error [bad-option]", "device 'nowhere'"])
    Path("one.txt").write_text("one passage alone\n", encoding="utf-8")
    short = ual(f"{TO_GPT2} --calibrate one.txt")
    assert (short.code, short.err.split(":")[0]) == (5, "error [too-little-text]")
    broken = Path("broken")
    shutil.copytree(Path("gpt2").resolve(), broken)
    (broken / "model.safetensors").write_bytes(b"\x08" + bytes(20))
    weights = ual("transfer ./own.air --to broken --source-base llama --calibrate text.txt -o out.air")
    assert (weights.code, weights.err.split(":")[0]) == (5, "error [unloadable]")
    assert not Path("out.air").exists()


@pytest.mark.parametrize("method", ["activations", "residual", "predictions"])
def test_calibration_text_in_another_script_is_warned_of(ual: Ual, method: str) -> None:
    lines = [f"Перевод номер {number} займёт несколько дней, подождите пожалуйста." for number in range(12)]
    Path("russian.txt").write_text("\n".join(lines), encoding="utf-8")
    target = "cousin" if method == "activations" else "gpt2"
    command = f"transfer ./own.air --to {target} --source-base llama -o o.air --calibrate russian.txt --json"
    result = ual(f"{command} --method {method}")
    assert result.code == 0
    told = [text for text in result.document["warnings"] if "Cyrillic letters" in text]
    assert [text.split(" spells")[0].rpartition(" of ")[2] for text in told] == ["llama", target]


def test_fewer_aligned_positions_than_the_width_are_warned_of(ual: Ual) -> None:
    result = ual(f"{TO_GPT2} --calibrate few.txt --method predictions --json")
    assert result.code == 0
    (count,) = [int(text.split()[0]) for text in result.document["warnings"] if "aligned positions" in text]
    assert 0 < count < 96
    assert result.document["warnings"][0] == (
        f"{count} aligned positions for updates that read up to 96 features: in some directions the penalty alone "
        "decides; give more text"
    )
    assert (
        f"warning: {result.document['warnings'][0]}"
        in ual(f"{TO_GPT2} --calibrate few.txt --method predictions --force").out.splitlines()
    )


@pytest.mark.parametrize(
    "how", ["--method svd", "--method copy", "--method vocab", "--method predictions --calibrate text.txt", ""]
)
def test_an_adapter_with_no_effect_is_refused_by_name(ual: Ual, how: str) -> None:
    assert ual(f"transfer ./idle.air --to gpt2 --source-base llama -o out.air {how}") == error(
        5,
        "no-effect",
        "the adapter 'trained here' has no effect: every update is zero, so there is nothing to carry",
        "lora_B of an adapter that was never trained is zero; train it first",
    )


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("activations", "model.layers.0.mlp.down_proj: its input is not finite in float16 (base model loud)"),
        ("predictions", "base model loud: its logits are not finite in float16"),
        ("auto", "base model loud: its logits are not finite in float16"),
    ],
)
def test_activations_that_leave_half_precision_are_named(ual: Ual, method: str, message: str) -> None:
    result = ual(
        f"transfer ./own.air --to loud --source-base llama -o out.air --method {method} "
        "--calibrate text.txt --dtype float16"
    )
    assert result == error(5, "numerical", message, "load the model in float32")


def digest(folder: str) -> str:
    return describe_base(load_base(Path(folder))).config_digest


@pytest.mark.parametrize("options", ["", "--plan", "--method vocab"])
def test_a_base_whose_digest_differs_is_refused_unless_told(ual: Ual, options: str) -> None:
    assert ual(f"transfer ./own.air --to gpt2 --source-base loud -o out.air {options}") == error(
        4,
        "other-base",
        f"loud: its config has the digest {digest('loud')}, but the adapter was made for llama with {digest('llama')}",
        "give the base model that the adapter records, or --any-base if you know that they are the same",
    )
    taken = ual(f"transfer ./own.air --to gpt2 --source-base loud -o out.air --any-base --force {options}")
    assert taken.code == 0


def test_a_base_whose_weights_differ_is_refused(ual: Ual) -> None:
    result = ual("transfer ./own.air --to gpt2 --source-base cousin -o out.air --method vocab")
    assert (result.code, result.err.splitlines()[1]) == (
        4,
        "hint: give the base model that it was made for, or --any-base if you know that they are the same",
    )
    with read("own.air") as adapter:
        wanted = adapter.manifest.base_model
    first = result.err.splitlines()[0]
    assert first.startswith("error [base-mismatch]: base model llama: digest of its weights is sha256:")
    assert first.endswith(f", the adapter is for llama with {wanted.weights_digest}")


def test_a_base_whose_weights_differ_is_refused_where_only_the_measuring_needs_it(ual: Ual) -> None:
    items = "--data items.jsonl --task bits-per-byte"
    command = f"transfer ./own.air --to gpt2 --source-base cousin -o out.air --method svd {items}"
    result = ual(command)
    start = "error [base-mismatch]: base model llama: digest of its weights is sha256:"
    assert (result.code, result.err[: len(start)], Path("out.air").exists()) == (4, start, False)
    assert ual(f"{command} --any-base").code == 0


def test_text_is_not_gone_on_with_by_a_base_whose_weights_differ(ual: Ual, tmp_path: Path) -> None:
    result = ual(
        "transfer ./own.air --to gpt2 --source-base cousin -o out.air --calibrate text.txt --continue 2 --folder kept"
    )
    assert (result.code, Path("kept").exists()) == (4, False)


@pytest.mark.parametrize("how", ["", "--method svd"])
def test_a_target_without_a_tokenizer_cannot_be_measured(ual: Ual, how: str) -> None:
    items = "--data items.jsonl --task bits-per-byte"
    assert ual(f"transfer ./own.air --to mute --source-base llama -o out.air {items} {how}") == error(
        5,
        "no-tokenizer",
        "base model mute: it has no tokenizer, and text is needed",
        "put its tokenizer.json and tokenizer_config.json into the folder",
    )


@pytest.mark.parametrize("name", ["native", "wrong-task"])
def test_an_adapter_of_another_base_is_no_baseline(ual: Ual, name: str) -> None:
    items = f"--data items.jsonl --task bits-per-byte --baselines {name}=./own.air"
    command = f"transfer ./own.air --to cousin --source-base llama --method copy -o out.air {items}"
    with read("own.air") as adapter:
        wanted = adapter.manifest.base_model.weights_digest
    own = weights_digest(Path("cousin"))
    assert ual(command) == error(
        4,
        "other-base",
        f"cousin: its weights have the digest {own}, but the {name} adapter was made for llama with {wanted}",
        "give the base model that the adapter records, or --any-base if you know that they are the same",
    )
    assert ual(f"{command} --any-base").code == 0


MISSING = {
    "transfer ./own.air --to gpt2 --method vocab -o out.air": (
        "method 'vocab': no weights of the source base llama at hand: give --source-base"
    ),
    "transfer ./own.air --to gpt2/config.json --source-base llama --method vocab -o out.air": (
        "method 'vocab': gpt2/config.json has no weights in safetensors"
    ),
    "transfer ./own.air --to gpt2 --source-base llama --method residual -o out.air": (
        "method 'residual': no calibration text: give --calibrate"
    ),
    "transfer ./own.air --to gpt2/config.json --method svd --data items.jsonl --task bits-per-byte -o out.air": (
        "method 'svd': gpt2/config.json has no weights in safetensors"
    ),
}


@pytest.mark.parametrize("command", MISSING)
def test_what_a_method_needs_and_is_not_there_is_named(ual: Ual, command: str) -> None:
    hint = "'--method auto' takes the best method for what is at hand"
    assert ual(command) == error(5, "not-at-hand", MISSING[command], hint)


@pytest.mark.parametrize(
    ("place", "what", "hint"),
    [
        (
            "none",
            "no such folder",
            "check the path; weights on the Hub are never fetched: download them, and give their folder",
        ),
        ("llama/config.json", "is a file, expected a folder with config.json and weights", "give the folder: llama"),
    ],
)
def test_a_source_base_that_is_no_folder_is_refused(ual: Ual, place: str, what: str, hint: str) -> None:
    assert ual(f"transfer ./own.air --to gpt2 --source-base {place} -o out.air") == error(
        11, "storage", f"cannot read {place}: {what}", hint
    )


def test_a_device_that_is_none_is_refused(ual: Ual) -> None:
    result = ual(f"{TO_GPT2} --method vocab --device nowhere")
    assert (result.code, result.err.splitlines()[-1]) == (5, "hint: such as cpu or cuda")
    assert result.err.startswith("error [bad-option]: device 'nowhere': ")


def test_items_that_are_wrong_are_refused_before_anything_is_made(ual: Ual) -> None:
    Path("wrong.jsonl").write_text(json.dumps({"prompt": "a"}) + "\n", encoding="utf-8")
    assert ual(f"{TO_GPT2} --method svd --data wrong.jsonl") == error(
        3,
        "evaluation-data",
        "wrong.jsonl, line 1: label: expected a text that is not blank, got nothing",
        "docs/evaluate.md shows the forms of the items",
    )


@pytest.mark.parametrize(
    ("changes", "message", "code"),
    [
        ({"method": "magic"}, "method 'magic': expected one of svd, ", "unknown-method"),
        ({"rotary": "perhaps"}, "rotary policy 'perhaps': expected one of drop, project", "unknown-rotary"),
        ({"require": "much"}, "require 'much': expected one of works, partial", "bad-option"),
        ({"task": "much"}, "task 'much': expected one of labels, bits-per-byte, exact", "bad-option"),
        ({"seed": -1}, "seed -1: expected a whole number from 0 to 4294967295", "bad-option"),
        ({"write_map": "all"}, "write map 'all': expected one of auto, joint, outputs", "bad-option"),
        ({"dtype": "int8"}, "dtype 'int8': expected one of float32, bfloat16, float16", "bad-option"),
        ({"require": "partial"}, "require needs data: without measuring nothing is known", "bad-option"),
        ({"continue_tokens": -1, "calibration": ("a",)}, "continue takes a number from 0", "bad-option"),
    ],
)
def test_options_from_python_are_checked(changes: dict[str, object], message: str, code: str) -> None:
    with pytest.raises(TransferError) as caught:
        TransferOrder(target="x", **changes).check()  # type: ignore[arg-type]
    assert caught.value.message.startswith(message)
    assert caught.value.problem_code == code


@pytest.mark.parametrize("budget", ["", "soon", "0", "-1s", "1d", "1 m", "1e3"])
def test_a_budget_that_is_none_is_refused(budget: str) -> None:
    with pytest.raises(TransferError) as caught:
        seconds_of(budget)
    assert caught.value.message == f"budget {budget!r}: expected a number above 0 and s, m or h"
