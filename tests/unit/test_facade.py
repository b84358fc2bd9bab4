"""Every name and every call of the first design does what it says there: its three flows, from end to end."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

import ual_registry as ual
from examples.tiny_adapter import make_tiny_models
from examples.tiny_base import make_tiny_base
from examples.tiny_encoder import WORDS, sentence_encoder, sentences
from tests.unit.training.tiny import save_base, texts
from ual_registry.air.roles import ROLES
from ual_registry.binders.load import known_model_types
from ual_registry.errors import (
    BaseMismatchError,
    RegistryNotFoundError,
    ShapeError,
    StorageError,
    TrainingError,
    TransferError,
)

QUICK = {"rank": 4, "steps": 3, "batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 0, "device": "cpu"}
IDS = torch.arange(2, 14)[None]


def logits(model: Any) -> torch.Tensor:
    """Return what a model answers."""
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama and a GPT-2."""
    place = tmp_path_factory.mktemp("facade")
    for kind in ("llama", "gpt2"):
        save_base(place / kind, kind)
    return place


@pytest.fixture(scope="module")
def trained_home(bases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry that holds one trained adapter."""
    home = tmp_path_factory.mktemp("home")
    with _at(home):
        ual.UniversalAdapter(bases / "llama").train_adapter("toys", examples(), config=QUICK, domain="toys")
    return home


@contextlib.contextmanager
def _at(home: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("UAL_HOME", str(home / "registry"))
        yield


@pytest.fixture
def home(trained_home: Path) -> Iterator[Path]:
    """That folder, as the working one."""
    with _at(trained_home):
        yield trained_home


def examples() -> list[dict[str, Any]]:
    return [own.record() for own in texts(30)]


def in_memory(folder: Path) -> tuple[Any, Any]:
    """Return model and tokenizer as people load them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def test_a_model_in_memory_is_trained_and_its_adapter_exported(bases: Path, tmp_path: Path) -> None:
    with _at(tmp_path):
        model, tokenizer = in_memory(bases / "llama")
        before = logits(model)
        adapter = ual.UniversalAdapter(model, tokenizer)
        result = adapter.train_adapter("toys", examples(), config=QUICK, domain="toys")
        assert (result.revision, result.path) == ("toys@1", "toys.air")
        assert torch.equal(logits(model), before)
        assert (adapter.model, adapter.tokenizer) == (model, tokenizer)
        assert adapter.export_adapter("toys", "copy.air") == Path("copy.air")
        assert Path("copy.air").read_bytes() == Path("toys.air").read_bytes()
        assert adapter.export_adapter("toys@1", "toys-peft") == Path("toys-peft")
        adapter.export_adapter("./toys.air", "again.air")
        assert Path("again.air").read_bytes() == Path("toys.air").read_bytes()
        wrapped: Any = peft.PeftModel.from_pretrained(model, "toys-peft")
        assert float((logits(wrapped) - before).abs().max()) > 1e-3


@pytest.mark.parametrize("source", ["toys", "toys@1", "toys.air", "toys-peft"])
def test_an_imported_adapter_acts_until_it_is_removed(source: str, home: Path, bases: Path) -> None:
    adapter = ual.UniversalAdapter(bases / "llama")
    if not Path("toys-peft").exists():
        adapter.export_adapter("toys", "toys-peft")
    before = logits(adapter.model)
    imported = adapter.import_adapter(source)
    assert adapter.adapter is imported
    assert float((logits(adapter.model) - before).abs().max()) > 1e-3
    adapter.import_adapter(source)  # in place of the first, not beside it
    once = logits(adapter.model)
    adapter.import_adapter("toys")
    assert torch.allclose(logits(adapter.model), once, atol=1e-6)
    adapter.remove_adapter()
    assert adapter.adapter is None
    assert torch.equal(logits(adapter.model), before)


def test_adapters_of_this_base_are_listed(home: Path, bases: Path) -> None:
    adapter, other = (ual.UniversalAdapter(bases / kind) for kind in ("llama", "gpt2"))
    adapter.import_adapter("toys.air", name="again")
    assert [(own.name, own.number, own.domain) for own in adapter.list_adapters()] == [
        ("again", 1, "toys"),
        ("toys", 1, "toys"),
    ]
    assert other.list_adapters() == ()


@pytest.mark.parametrize("method", ["svd", "truncate", "interpolate"])
def test_an_adapter_is_carried_to_another_model_and_acts_there(method: str, home: Path, bases: Path) -> None:
    target = ual.UniversalAdapter(*in_memory(bases / "gpt2"))
    before = logits(target.model)
    made = ual.UniversalAdapter(bases / "llama").transfer_to_model(
        "toys", target, method=method, name=f"toys-{method}", output=f"{method}.air"
    )
    assert (made.method, made.label) == (method, "control-grade")
    assert made.adapter.manifest.parents[0].relation == "projected_from"
    assert float((logits(target.model) - before).abs().max()) > 1e-6
    assert target.adapter is made.adapter
    assert [own.name for own in target.list_adapters() if own.method == method] == [f"toys-{method}"]
    with ual.read(f"{method}.air") as adapter:
        assert adapter.manifest.base_model.id == "gpt2"


def test_a_target_may_be_a_folder(home: Path, bases: Path) -> None:
    made = ual.UniversalAdapter(bases / "llama").transfer_to_model("toys", bases / "gpt2", method="svd")
    assert {entry.layer for entry in made.adapter.entries} == {0, 1}


def test_queries_of_several_domains_get_the_adapter_of_their_own(home: Path, bases: Path) -> None:
    sentence_encoder(home / "encoder")
    queries = {name: sentences(name, 30, seed=1) for name in ("banking", "travel")}
    ual.UniversalAdapter(bases / "llama").train_adapter("money", examples()[::-1], config={**QUICK, "seed": 1})
    with ual.LoRADispatcher(None, bases / "llama", encoder=home / "encoder") as dispatcher:
        dispatcher.register_domain("banking", "money", queries["banking"])
        dispatcher.register_domain("travel", "toys@1", queries["travel"])
        dispatcher.train_router()
        decision = dispatcher.route_query(queries["banking"][0])
        assert (decision.domain, decision.adapter) == ("banking", str(ual.Registry.open().resolve("money")))
        assert decision.probability == pytest.approx(1.0)
        answer = dispatcher.generate(queries["travel"][0])
        assert (answer.decision.domain, answer.adapter) == ("travel", str(ual.Registry.open().resolve("toys")))
        assert dispatcher.route_query(" ".join(WORDS["other"][:3])).adapter is None


@pytest.mark.parametrize("method", ["svd", "truncate", "interpolate"])
def test_factors_are_fitted_to_other_dimensions(method: str) -> None:
    torch.manual_seed(0)
    lora_A, lora_B = torch.randn(4, 32), torch.randn(32, 4)
    projector = ual.DimensionProjector()
    made_A, made_B = projector.project((lora_A, lora_B), 48, method=method)
    assert (made_A.shape, made_B.shape, made_A.dtype) == ((4, 48), (48, 4), torch.float32)
    weights = {"q.lora_A.weight": lora_A.half(), "q.lora_B.weight": lora_B.half()}
    named = projector.project(weights, (40, 24), method=method)
    assert {name: (tuple(own.shape), own.dtype) for name, own in named.items()} == {
        "q.lora_A.weight": ((4, 40), torch.float16),
        "q.lora_B.weight": ((24, 4), torch.float16),
    }
    same_A, same_B = projector.project((lora_A, lora_B), 32, method=method)
    assert torch.allclose(same_B @ same_A, lora_B @ lora_A, atol=1e-4)


@pytest.mark.parametrize(
    ("weights", "target", "method", "message"),
    [
        (torch.zeros(2, 3), 4, "svd", "expected a pair lora_A, lora_B or tensors by name, got a Tensor"),
        ((torch.zeros(2, 3), torch.zeros(3, 3)), 4, "svd", "lora_weights: lora_A (2, 3) and lora_B (3, 3) are no"),
        ((torch.zeros(2, 3), torch.zeros(5, 2)), 4, "svd", "lora_weights: one number for both dimensions, but in_f"),
        ((torch.zeros(2, 3), torch.zeros(3, 2)), (4, 0), "svd", "expected (in_features, out_features), 1 or more"),
        (
            {"a.lora_A": torch.zeros(2, 3)},
            4,
            "svd",
            "expected pairs of tensors whose names hold lora_A and lora_B, got",
        ),
        ({}, 4, "svd", "expected pairs of tensors whose names hold lora_A and lora_B, got none"),
        ((torch.zeros(2, 3), torch.zeros(3, 2)), 4, "distill", "there is no method 'distill' that needs nothing but"),
    ],
)
def test_factors_that_cannot_be_projected_are_refused(weights: Any, target: Any, method: str, message: str) -> None:
    with pytest.raises((ShapeError, TransferError)) as caught:
        ual.DimensionProjector().project(weights, target, method=method)
    assert str(caught.value).startswith(message)


def test_the_roles_and_architectures_of_the_first_design_are_known() -> None:
    assert {
        "attention_query", "attention_key", "attention_value", "attention_output", "mlp_up", "mlp_down", "mlp_gate",
    } <= ROLES.keys()  # fmt: skip
    assert {
        "gpt2", "gpt_neo", "llama", "gpt_neox", "qwen2", "bert", "roberta", "t5",
    } <= set(known_model_types())  # fmt: skip


@pytest.mark.parametrize("call", ["export_adapter", "import_adapter", "transfer_to_model"])
def test_an_unknown_adapter_is_not_found(call: str, home: Path, bases: Path) -> None:
    further = {"export_adapter": ("a.air",), "transfer_to_model": (bases / "gpt2",)}.get(call, ())
    with pytest.raises(RegistryNotFoundError) as caught:
        getattr(ual.UniversalAdapter(bases / "llama"), call)("nothing", *further)
    assert caught.value.message == "adapter 'nothing': not in this registry"


def test_an_adapter_of_another_base_is_refused_and_the_one_before_stays(home: Path, bases: Path) -> None:
    made = ual.UniversalAdapter(bases / "llama").transfer_to_model("toys", bases / "gpt2", method="svd")
    adapter = ual.UniversalAdapter(bases / "llama")
    imported = adapter.import_adapter("toys")
    with pytest.raises(BaseMismatchError) as caught:
        adapter.import_adapter(made.adapter)
    assert caught.value.message.startswith("the adapter was made for gpt2 with config_digest sha256:")
    assert (caught.value.problem_code, caught.value.hint) == ("other-base", "carry it over with transfer_to_model")
    assert adapter.adapter is imported


def fresh(bases: Path) -> Any:
    return transformers.LlamaForCausalLM(transformers.AutoConfig.from_pretrained(bases / "llama"))


def nameless(bases: Path) -> Any:
    model = fresh(bases)
    model.name_or_path = model.config._name_or_path = ""
    return model


def changed(bases: Path) -> Any:
    model, _ = in_memory(bases / "llama")
    with torch.no_grad():
        for own in model.parameters():
            own.add_(1.0)
    return model


def wrapped(bases: Path) -> Any:
    return peft.get_peft_model(in_memory(bases / "llama")[0], peft.LoraConfig(target_modules=["q_proj"]))


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda _: None, "no-base-model", "expected a base model: a folder, or a model of transformers; got none"),
        (lambda _: 3, "no-base-model", "expected a base model: a folder, or a model of transformers; got a int"),
        (wrapped, "no-base-model", "expected a base model: a folder, or a model of transformers; got a PeftModel"),
        (
            lambda own: wrapped(own).get_base_model(),
            "already-adapted",
            "LlamaForCausalLM in memory: carries an adapter",
        ),
        (nameless, "no-base-folder", "LlamaForCausalLM in memory: there is no folder that it was loaded from"),
        (changed, "other-weights", "LlamaForCausalLM in memory: lm_head.weight is not what "),
    ],
)
def test_a_model_that_nothing_can_be_recorded_of_is_refused(make: Any, code: str, message: str, bases: Path) -> None:
    with pytest.raises(TransferError) as caught:
        ual.UniversalAdapter(make(bases))
    assert caught.value.message.startswith(message)
    assert caught.value.problem_code == code


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        ual.UniversalAdapter(tmp_path / "none")
    assert caught.value.message.startswith(f"cannot read {tmp_path / 'none'}")


@pytest.mark.parametrize("has_tokenizer", [True, False])
def test_the_tokenizer_is_that_of_the_folder(has_tokenizer: bool, bases: Path, tmp_path: Path) -> None:
    model, tokenizer = in_memory(bases / "llama")
    folder = tmp_path / "llama"
    model.save_pretrained(folder)
    if has_tokenizer:
        tokenizer.save_pretrained(folder)
        tokenizer.add_tokens(["another"])
    with pytest.raises(TransferError) as caught:
        ual.UniversalAdapter(folder, tokenizer)
    expected = f"the tokenizer in memory has other tokens than that of {folder}"
    assert str(caught.value) == (expected if has_tokenizer else f"{folder}: it has no tokenizer")
    with pytest.raises(TransferError) as told:
        ual.UniversalAdapter(folder, object())
    assert told.value.problem_code == "no-tokenizer"


def test_text_needs_a_tokenizer(bases: Path, tmp_path: Path) -> None:
    model, _ = in_memory(bases / "llama")
    model.save_pretrained(tmp_path / "llama")
    with _at(tmp_path), pytest.raises(TransferError) as caught:
        ual.UniversalAdapter(tmp_path / "llama").train_adapter("a", examples(), config=QUICK)
    assert caught.value.message == "base model llama: it has no tokenizer, and text is needed"


def test_a_wrong_setting_is_told_before_any_work(home: Path, bases: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        ual.UniversalAdapter(bases / "llama").train_adapter("b", examples(), config={"rnk": 4})
    assert caught.value.message == "setting rnk: there is no such setting"
    assert not Path("b.air").exists()


def test_the_calls_of_the_readme_work(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    with _at(tmp_path):
        make_tiny_base(Path("tour/tiny"))
        make_tiny_models(Path("tour"))
        names: dict[str, Any] = {}
        exec(code, names)  # what the page says
        assert [own.name for own in names["model"].list_adapters()] == ["tickets"]
        assert Path("tickets-peft/adapter_model.safetensors").is_file()


def test_the_names_load_no_framework() -> None:
    code = (
        "import json, sys, ual_registry as ual; ual.UniversalAdapter; ual.DimensionProjector(); "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) & {"torch", "numpy", "transformers", "peft", "safetensors"} == set()
