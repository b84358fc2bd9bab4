"""PEFT folders of strangers: what is broken, what AIR cannot carry, and what must never be opened or run."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import QUERY, floats, llama_base, peft_config, peft_tensors, write_peft
from ual_registry.air.tensor import Tensor
from ual_registry.air.write import write
from ual_registry.binders.load import known_model_types
from ual_registry.errors import (
    BaseMismatchError,
    ContainerError,
    ForeignFormatError,
    RuleError,
    StorageError,
    UnknownArchitectureError,
    UnresolvedModuleError,
)
from ual_registry.interop.from_peft import from_peft

PATH = "model.layers.0.self_attn.q_proj"


def refused(folder: Path, base: Any = None, kind: type[Exception] = ForeignFormatError) -> tuple[str, str]:
    """Return code and message of the refusal, which must be quick."""
    started = time.process_time()
    with pytest.raises(kind) as caught:
        from_peft(folder, base or llama_base())
    assert time.process_time() - started < 1
    return caught.value.problem_code, caught.value.message  # type: ignore[attr-defined]


def refused_config(tmp_path: Path, **changes: Any) -> tuple[str, str]:
    return refused(write_peft(tmp_path / "a", peft_tensors(), peft_config(**changes)))


def test_the_hand_made_folder_is_legal(tmp_path: Path) -> None:
    with from_peft(write_peft(tmp_path / "a", peft_tensors(), peft_config()), llama_base()) as adapter:
        (entry,) = adapter.entries
        assert (entry.label, entry.scaling, entry.source) == ("layers.0.attention_query", 2.0, PATH)
        assert adapter.manifest.base_model.model_class == "LlamaForCausalLM"


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert refused(path, kind=StorageError) == ("storage", f"cannot read {path}: no such folder")


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    path = write_peft(tmp_path / "a", peft_tensors(), None)
    assert refused(path) == ("peft-no-config", f"{path}: missing adapter_config.json")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    path = write_peft(tmp_path / "a", peft_tensors(), peft_config())
    (path / "adapter_model.safetensors").unlink()
    assert refused(path) == ("peft-no-weights", f"{path}: missing adapter_model.safetensors")


def test_a_pickle_is_refused_and_never_opened(tmp_path: Path) -> None:
    path = write_peft(tmp_path / "a", peft_tensors(), peft_config())
    (path / "adapter_model.safetensors").unlink()
    trap = tmp_path / "trap"
    (path / "adapter_model.bin").write_bytes(f"cpathlib\nPath\n(S'{trap}'\ntR.".encode())
    before = (path / "adapter_model.bin").stat().st_atime_ns
    assert refused(path) == (
        "peft-pickle",
        f"{path}: the weights are in adapter_model.bin, a pickle, which can run code when it is opened",
    )
    assert (path / "adapter_model.bin").stat().st_atime_ns == before


def test_a_pickle_beside_safetensors_is_not_opened(tmp_path: Path) -> None:
    path = write_peft(tmp_path / "a", peft_tensors(), peft_config())
    (path / "adapter_model.bin").mkdir()  # opening it would fail
    with from_peft(path, llama_base()) as adapter:
        assert sorted(adapter.tensors) == ["layers.0.attention_query.lora_A", "layers.0.attention_query.lora_B"]


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"r": NaN}', '{"r": 1, "r": 2}', '{"a": "\\ud800"}', "\xff"])
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = write_peft(tmp_path / "a", peft_tensors(), None)
    (path / "adapter_config.json").write_bytes(text.encode("latin-1"))
    code, message = refused(path)
    assert code == "peft-config"
    assert message.startswith("adapter_config.json: ")


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"peft_type": "IA3"}, "peft-type", "peft_type 'IA3': expected 'LORA'"),
        ({"peft_type": None}, "peft-type", "peft_type None: expected 'LORA'"),
        ({"peft_type": ["LORA"]}, "peft-type", "peft_type ['LORA']: expected 'LORA'"),
        (
            {"use_warp": True},
            "peft-unknown-key",
            "unknown key 'use_warp' with value True may change what the adapter does",
        ),
        (
            {"layer_replication": [[0, 2]]},
            "peft-unsupported",
            "layer_replication: it changes the blocks of the base model, which AIR 1.0 cannot carry",
        ),
        (
            {"target_parameters": "experts.w"},
            "peft-config",
            "target_parameters 'experts.w': expected a list of strings",
        ),
        (
            {"init_lora_weights": "pissa"},
            "peft-unsupported",
            "init_lora_weights 'pissa' moves weights of the base model into the adapter",
        ),
        ({"r": 0}, "peft-config", "r 0: expected an integer from 1"),
        ({"r": "8"}, "peft-config", "r '8': expected an integer from 1"),
        ({"r": True}, "peft-config", "r True: expected an integer from 1"),
        ({"r": None}, "peft-config", "r None: expected an integer from 1"),
        ({"lora_alpha": "x"}, "peft-config", "lora_alpha 'x': expected a number"),
        ({"lora_alpha": None}, "peft-config", "lora_alpha None: expected a number"),
        ({"lora_dropout": 2}, "peft-config", "lora_dropout 2: expected a number from 0 to 1"),
        ({"lora_dropout": "x"}, "peft-config", "lora_dropout 'x': expected a number from 0 to 1"),
        ({"lora_dropout": [1]}, "peft-config", "lora_dropout [1]: expected a number from 0 to 1"),
        ({"bias": "some"}, "peft-config", "bias 'some': expected 'none', 'all' or 'lora_only'"),
        ({"bias": ["all"]}, "peft-config", "bias ['all']: expected 'none', 'all' or 'lora_only'"),
        ({"rank_pattern": [1]}, "peft-config", "rank_pattern: expected an object of numbers"),
        ({"rank_pattern": {"q": 0}}, "peft-config", "rank_pattern: expected an object of numbers"),
        ({"alpha_pattern": {"q": "1"}}, "peft-config", "alpha_pattern: expected an object of numbers"),
        ({"task_type": 3}, "peft-config", "task_type 3: expected a string"),
    ],
)
def test_a_configuration_that_air_cannot_carry_is_refused(
    tmp_path: Path, changes: dict[str, Any], code: str, message: str
) -> None:
    assert refused_config(tmp_path, **changes) == (code, f"adapter_config.json: {message}")


@pytest.mark.parametrize(
    "changes", [{"use_warp": False}, {"use_warp": None}, {"use_warp": []}, {"layer_replication": None}]
)
def test_a_key_that_is_off_is_no_obstacle(tmp_path: Path, changes: dict[str, Any]) -> None:
    with from_peft(write_peft(tmp_path / "a", peft_tensors(), peft_config(**changes)), llama_base()) as adapter:
        assert adapter.manifest.origin.config == peft_config(**changes)


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*b",
        "(.|.)*x",
        "(a|aa)+$",
        "(?:(?:(?:x+)+)+)+",
        ".*.*.*.*x",
        ".*?.*?.*?.*?x",
        "(.|.)" * 31,
        "((.?){60}){60}",
        "(?=(a+)+)",
    ],
)
def test_a_pattern_that_could_take_long_is_refused(tmp_path: Path, field: str, pattern: str) -> None:
    assert refused_config(tmp_path, **{field: {pattern: 2}}) == (
        "peft-pattern",
        f"adapter_config.json: {field} {pattern!r}: its repetitions could take very long to match",
    )


def test_many_patterns_that_together_take_long_are_refused(tmp_path: Path) -> None:
    patterns = {f".*.*{index}": 2 for index in range(1000)}
    assert refused_config(tmp_path, rank_pattern=patterns)[0] == "peft-pattern"


@pytest.mark.parametrize("pattern", ["(", "[", "*", "(?P<", "a{3,1}", "(?<=a*)b", "a)(b"])
def test_a_pattern_that_is_no_regular_expression_is_refused(tmp_path: Path, pattern: str) -> None:
    code, message = refused_config(tmp_path, rank_pattern={pattern: 2})
    assert code == "peft-pattern"
    assert message.startswith(f"adapter_config.json: rank_pattern {pattern!r}: no regular expression (")


def test_a_pattern_that_is_too_long_is_refused(tmp_path: Path) -> None:
    code, message = refused_config(tmp_path, rank_pattern={"a" * 513: 2})
    assert code == "peft-pattern"
    assert message.endswith(": longer than 512 characters")


@pytest.mark.parametrize(
    ("tensors", "config", "text"),
    [
        (peft_tensors(lora_B__weight=None), {}, "lora_B is missing"),
        (peft_tensors(lora_A__weight=None), {}, "lora_A is missing"),
        (
            peft_tensors(),
            {"r": 3},
            "lora_A (2, 4) and lora_B (4, 2) do not match rank 3 of adapter_config.json",
        ),
        (
            peft_tensors(),
            {"rank_pattern": {"q_proj": 1}},
            "lora_A (2, 4) and lora_B (4, 2) do not match rank 1 of adapter_config.json",
        ),
        (peft_tensors(lora_A__weight=floats(8)), {}, "factors of shape (8,) and (4, 2): expected two axes each"),
        (peft_tensors(), {"use_dora": True}, "use_dora is True, but the magnitude is missing"),
        (
            peft_tensors(lora_magnitude_vector=floats(4)),
            {},
            "use_dora is False, but the magnitude is there",
        ),
        (
            peft_tensors(lora_magnitude_vector=floats(1, 4)),
            {"use_dora": True},
            "magnitude of shape (1, 4): expected (4,)",
        ),
        (peft_tensors(lora_B__bias=floats(3)), {"lora_bias": True}, "bias of shape (3,): expected (4,)"),
        (
            peft_tensors(lora_A__weight=Tensor.of_bytes("I8", (2, 4), bytes(8))),
            {},
            "lora_A of dtype I8: expected one of BF16, F16, F32, F64",
        ),
        (
            peft_tensors(),
            {"target_modules": ["k_proj"]},
            "holds factors, but adapter_config.json does not name it in target_modules",
        ),
        (peft_tensors(lora_embedding_A=floats(2, 4)), {}, "lora_A is stored under two names"),
        (
            peft_tensors(
                lora_A__weight=None, lora_B__weight=None, lora_embedding_A=floats(2, 4), lora_embedding_B=floats(4, 2)
            ),
            {},
            f"lora_A is stored as {QUERY}.lora_embedding_A, expected {QUERY}.lora_A.weight",
        ),
    ],
)
def test_factors_that_do_not_belong_together_are_refused(
    tmp_path: Path, tensors: dict[str, Tensor], config: dict[str, Any], text: str
) -> None:
    folder = write_peft(tmp_path / "a", tensors, peft_config(**config))
    assert refused(folder) == ("peft-misfit", f"{PATH}: {text}")


def test_a_tensor_of_another_naming_is_refused(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "a", {"lora_A.weight": floats(2, 4)}, peft_config())
    assert refused(folder) == (
        "peft-tensor-name",
        "adapter_model.safetensors: tensor 'lora_A.weight' does not start with 'base_model.model.'",
    )


def test_a_file_without_factors_is_refused(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "a", {"base_model.model.score.weight": floats(2)}, peft_config())
    assert refused(folder) == ("peft-no-factors", "adapter_model.safetensors: holds no LoRA factors")


def test_factors_of_modules_without_a_role_alone_are_refused(tmp_path: Path) -> None:
    name = "base_model.model.score"
    tensors = {f"{name}.lora_A.weight": floats(2, 4), f"{name}.lora_B.weight": floats(3, 2)}
    folder = write_peft(tmp_path / "a", tensors, peft_config(target_modules=["score"]))
    expected = "adapter_model.safetensors: holds no LoRA factors of a module with a role"
    assert refused(folder) == ("peft-no-factors", expected)


def test_a_broken_tensor_file_is_refused_with_its_path(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "a", peft_tensors(), peft_config())
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes() + b"x")
    expected = f"{file}: 1 bytes stand after the last tensor"
    assert refused(folder, kind=ContainerError) == ("trailing-bytes", expected)


def test_a_factor_that_is_not_finite_is_refused_when_it_is_written(tmp_path: Path) -> None:
    broken = Tensor.of_bytes("F32", (2, 4), bytes(28) + b"\0\0\x80\xff")
    folder = write_peft(tmp_path / "a", peft_tensors(lora_A__weight=broken), peft_config())
    with from_peft(folder, llama_base()) as adapter, pytest.raises(RuleError) as caught:
        write(adapter, tmp_path / "out.air")
    assert caught.value.problem_code == "non-finite"
    assert caught.value.message == "layers.0.attention_query.lora_A: holds a NaN or an infinity"
    assert not (tmp_path / "out.air").exists()


def test_a_base_model_of_an_unknown_type_is_refused_with_those_spelled_alike(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "a", peft_tensors(), peft_config())
    assert refused(folder, llama_base(model_type="mamba2"), UnknownArchitectureError) == (
        "unknown-architecture",
        f"no binder for model_type 'mamba2' (alike: mamba, jamba, bamba, mllama; known: {len(known_model_types())})",
    )


def test_a_base_model_of_another_architecture_is_refused_with_those_that_fit(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "a", peft_tensors(), peft_config())
    base = llama_base(model_type="gpt2", n_embd=4, n_layer=2, n_head=2)
    with pytest.raises(UnresolvedModuleError) as caught:
        from_peft(folder, base)
    assert caught.value.message == f"{PATH}: no such module in architecture gpt2 (model_type 'gpt2')"
    found = re.fullmatch(r"this path fits: (.*); give the base model of the adapter", str(caught.value.hint))
    fitting = set(found[1].split(", "))
    assert {"llama", "mixtral", "phi"} <= fitting
    assert {"gpt2", "bert", "bloom", "t5"} & fitting == set()


def test_a_path_that_fits_no_architecture_is_refused(tmp_path: Path) -> None:
    name = "base_model.model.blocks.0.mixer"
    tensors = {f"{name}.lora_A.weight": floats(2, 4), f"{name}.lora_B.weight": floats(4, 2)}
    folder = write_peft(tmp_path / "a", tensors, peft_config(target_modules=["mixer"]))
    with pytest.raises(UnresolvedModuleError) as caught:
        from_peft(folder, llama_base())
    assert caught.value.hint == "this path fits: no known architecture; give the base model of the adapter"


def test_a_base_model_with_fewer_layers_is_refused(tmp_path: Path) -> None:
    name = "base_model.model.model.layers.7.self_attn.q_proj"
    tensors = {f"{name}.lora_A.weight": floats(2, 4), f"{name}.lora_B.weight": floats(4, 2)}
    folder = write_peft(tmp_path / "a", tensors, peft_config())
    assert refused(folder, kind=UnresolvedModuleError) == (
        "unresolved-module",
        "model.layers.7.self_attn.q_proj: no such module in tiny, which has 2 layers",
    )


@pytest.mark.parametrize(
    ("changes", "what", "got", "wanted"),
    [({"hidden_size": 8, "head_dim": 2}, "lora_A", 4, 8), ({"head_dim": 4}, "lora_B", 4, 8)],
)
def test_a_base_model_of_another_size_is_refused(
    tmp_path: Path, changes: dict[str, Any], what: str, got: int, wanted: int
) -> None:
    folder = write_peft(tmp_path / "a", peft_tensors(), peft_config())
    assert refused(folder, llama_base(**changes), BaseMismatchError) == (
        "base-mismatch",
        f"{PATH}.{what}: {got} features, the base model has {wanted}",
    )


def test_a_resized_vocabulary_is_legal_and_warned_about(tmp_path: Path) -> None:
    name = "base_model.model.lm_head"
    tensors = {f"{name}.lora_A.weight": floats(2, 4), f"{name}.lora_B.weight": floats(9, 2)}
    folder = write_peft(tmp_path / "a", tensors, peft_config(target_modules="lm_head"))
    with from_peft(folder, llama_base(), base_revision="abc") as adapter:
        write(adapter, tmp_path / "out.air")
        assert [(entry.label, entry.out_features) for entry in adapter.entries] == [("lm_head", 9)]
