"""Chat templates that people use: the one of SmolLM2 where it was fetched, and the form of Llama 3, by facts alone."""

from __future__ import annotations

import pytest

from examples.materials import materials_home, model_folder
from tests.unit.training.letters import letters, read, trained
from ual_registry.training.config import TrainingConfig
from ual_registry.training.forms import Example, Message
from ual_registry.training.prepare import prepare
from ual_registry.training.rows import NO_LABEL

ALL = TrainingConfig(held_out_share=0.0)
CHAT = Example(
    messages=(
        Message(role="user", content="Ping?"),
        Message(role="assistant", content="Pong."),
        Message(role="user", content="Again?"),
        Message(role="assistant", content="Pong!"),
    )
)
HEADERS = (
    "{{ '<s>' }}"
    "{% for m in messages %}{{ '<h>' + m['role'] + '</h>\\n\\n' + m['content'] | trim + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<h>assistant</h>\\n\\n' }}{% endif %}"
)
"""Headers around the role, two line ends, a trimmed turn and its end: how Llama 3 writes a conversation."""


@pytest.mark.skipif(not any(materials_home().glob("models/smollm2*")), reason="SmolLM2 was not fetched")
def test_the_turns_of_the_assistant_are_trained_on_in_the_template_of_smollm2() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder("smollm2"))
    (row,) = prepare([CHAT], tokenizer, ALL).train
    assert tokenizer.decode(list(row.input_ids)) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nPing?<|im_end|>\n<|im_start|>assistant\nPong.<|im_end|>\n"
        "<|im_start|>user\nAgain?<|im_end|>\n<|im_start|>assistant\nPong!<|im_end|>\n"
    )
    labels = [label for label in row.labels if label != NO_LABEL]
    assert tokenizer.decode(labels) == "Pong.<|im_end|>Pong!<|im_end|>"


def test_the_turns_of_the_assistant_are_trained_on_behind_headers() -> None:
    tokenizer = letters(frame="<s> $A", template=HEADERS)
    (row,) = prepare([CHAT], tokenizer, ALL).train
    text = "".join(read(tokenizer, row))
    assert text == (
        "<s><h>user</h>\n\nPing?</s><h>assistant</h>\n\nPong.</s><h>user</h>\n\nAgain?</s><h>assistant</h>\n\nPong!</s>"
    )
    assert "".join(own or "" for own in trained(tokenizer, row)) == "Pong.</s>Pong!</s>"
