"""A tiny causal model with a tokenizer of words, and adapters that were really trained on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from ual_registry.air.write import write

COLOURS = ("red", "green", "blue")
THINGS = tuple(f"thing{index}" for index in range(18))
WORDS = ("<s>", "</s>", "<unk>", "the", "of", "is", "colour", "dark", "light", *COLOURS, *THINGS)


def colour(index: int) -> str:
    """Return the colour that the task gives a thing."""
    return COLOURS[index % 3]


def other_colour(index: int) -> str:
    """Return the colour that another task gives it."""
    return COLOURS[(index // 6 + 1) % 3]


def label_lines(things: Sequence[int], truth: Callable[[int], str] = colour) -> list[dict[str, Any]]:
    return [{"prompt": f"the colour of thing{index} is", "label": truth(index)} for index in things]


def write_jsonl(path: Path, documents: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
    return path


def word_tokenizer() -> Any:
    """Return a tokenizer whose tokens are words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )


@dataclass(frozen=True)
class Loaded:
    """A model and its tokenizer."""

    model: Any
    tokenizer: Any


@dataclass(frozen=True)
class Scene:
    """A base model on disk, adapters for it as AIR files, and data."""

    folder: Path

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @cached_property
    def loaded(self) -> Loaded:
        """The base model, in memory once; who attaches something takes it off again."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(self.base).eval()
        return Loaded(model, AutoTokenizer.from_pretrained(self.base))

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.air"

    def adapter(self, name: str) -> Any:
        from ual_registry.air.read import read

        return read(self.path(name))


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Train ``native`` on the task, ``wrong`` on another, ``weak`` a little on the task, ``texts`` on whole texts."""
    pytest.importorskip("peft")
    found = Scene(tmp_path_factory.mktemp("scene"))
    _write_base(found.base)
    for name, truth, steps in (("native", colour, 60), ("wrong", other_colour, 60), ("weak", colour, 12)):
        _train(found, name, truth, steps)
    _train(found, "texts", colour, 30, skipped=0)
    return found


def _write_base(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(5)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(WORDS),
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)


def _train(scene: Scene, name: str, truth: Callable[[int], str], steps: int, *, skipped: int = -2) -> None:
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ual_registry.workflows.convert import from_peft

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(scene.base)
    plain = AutoModelForCausalLM.from_pretrained(scene.base)
    model = peft.get_peft_model(
        plain, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    texts = [f"{line['prompt']} {line['label']} </s>" for line in label_lines(range(len(THINGS)), truth)]
    ids = torch.tensor([tokenizer(text)["input_ids"] for text in texts])
    labels = ids.clone()
    labels[:, :skipped] = -100  # by default only the answer and its end are learned
    optimizer = torch.optim.AdamW([own for own in model.parameters() if own.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(scene.folder / name)
    with from_peft(scene.folder / name, scene.base) as adapter:
        write(adapter, scene.path(name))
