"""Mixed batches say what single rows say, and texts come as they grow."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.ground_truth.materials import GEMMA3, GPT2, LLAMA, save, strong_model
from tests.unit.dispatch.answering.stage import Stage, letter_adapter, random_adapter
from ual_registry.dispatch.generate import Finish, Generated, Generator, Row, Settings
from ual_registry.dispatch.mixing import MixingModel, Updates, mix_updates
from ual_registry.errors import RouteError, TransferError
from ual_registry.models.attach import attach, module_updates
from ual_registry.models.loaded import load_base_model

pytestmark = pytest.mark.filterwarnings("ignore")

PROMPTS = ("a tree", "what is the balance of my account?", "x", "flights to a beach", "y z", "money")


@pytest.fixture(scope="module")
def generator(stage: Stage) -> Generator:
    return Generator(stage.base)


@pytest.fixture(scope="module")
def updates(stage: Stage) -> list[Updates | None]:
    made = [module_updates(stage.base.model, random_adapter(stage.base, seed)) for seed in range(3)]
    return [made[0], None, made[1], made[0], made[2], None]


def rows(generator: Generator, updates: list[Updates | None], **options: object) -> list[Row]:
    settings = [Settings(**{"max_tokens": 12 + place, **options}) for place in range(len(PROMPTS))]  # type: ignore[arg-type]
    return [
        Row(generator.prompt_ids(prompt), own, each)
        for prompt, own, each in zip(PROMPTS, updates, settings, strict=True)
    ]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "top_p": 0.9, "seed": 7}])
def test_a_mixed_batch_says_what_its_rows_say_one_by_one(
    generator: Generator, updates: list[Updates | None], options: dict[str, object]
) -> None:
    batch = rows(generator, updates, **options)
    mixed = generator.generate(batch)
    assert mixed == [generator.generate([row])[0] for row in batch]
    assert len({row.text for row in mixed}) == len(batch)
    assert [row.tokens for row in mixed if row.finish == Finish.LENGTH] == [
        12 + place for place, row in enumerate(mixed) if row.finish != Finish.END
    ]


def test_a_row_says_what_the_model_says_with_its_adapter_attached(stage: Stage, generator: Generator) -> None:
    adapter = random_adapter(stage.base, 1)
    prompt = generator.prompt_ids("a tree")
    found = generator.generate(
        [Row(prompt), Row(prompt, module_updates(stage.base.model, adapter), Settings(max_tokens=10))]
    )[1]
    with attach(stage.base.model, adapter):
        ids = stage.base.model.generate(torch.tensor([prompt]), max_new_tokens=10, do_sample=False, eos_token_id=-1)
    assert found.text == stage.base.tokenizer.decode(ids[0, len(prompt) :])


def test_a_mix_computes_what_attached_adapters_compute(stage: Stage) -> None:
    adapters = [random_adapter(stage.base, 1), letter_adapter(stage.base, "Q")]
    own = [module_updates(stage.base.model, adapter) for adapter in adapters]
    model, ids = MixingModel(stage.base.model), torch.arange(40).reshape(4, 10)
    with torch.no_grad(), model.running(mix_updates([own[0], None, own[1], own[0]]), tokens=10):
        mixed = stage.base.model(ids).logits
    with torch.no_grad():
        plain = stage.base.model(ids).logits
        torch.testing.assert_close(mixed[1], plain[1], rtol=0, atol=0)
        for adapter, places in zip(adapters, ([0, 3], [2]), strict=True):
            with attach(stage.base.model, adapter):
                # the zeros of other adapters' ranks may change the order of a sum
                torch.testing.assert_close(mixed[places], stage.base.model(ids[places]).logits, rtol=1e-4, atol=1e-4)
    model.close()


def test_position_tables_and_fused_modules_are_mixed_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = load_base_model(save(strong_model("GPT2LMHeadModel", GPT2), tmp_path_factory.mktemp("gpt2") / "tiny"))
    generator = Generator(base)
    own = [module_updates(base.model, random_adapter(base, seed)) for seed in range(2)]
    table = own[0]["transformer.h.0.mlp.c_fc"]
    torch.manual_seed(0)
    places = replace(table, lora_A=torch.randn(3, 256), lora_B=torch.randn(32, 3))
    own[0] = {**own[0], "transformer.wpe": places}
    batch = [
        Row(generator.prompt_ids(text), each, Settings(max_tokens=8))
        for text, each in zip("abc", [*own, None], strict=True)
    ]
    batch[1] = replace(batch[1], prompt=(*batch[1].prompt, 5, 6))
    assert generator.generate(batch) == [generator.generate([row])[0] for row in batch]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Gemma3ForCausalLM", {**GEMMA3, "num_hidden_layers": 3, "sliding_window": 8, "tie_word_embeddings": True}
            | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
        ("MistralForCausalLM", {**LLAMA, "sliding_window": 8}),
        ("LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": True}),
    ],
)  # fmt: skip
def test_windows_and_tied_heads_are_mixed_too(
    kind: str, settings: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = load_base_model(save(strong_model(kind, settings), tmp_path_factory.mktemp("tiny") / "tiny"))
    is_tied = base.model.get_output_embeddings().weight is base.model.get_input_embeddings().weight
    assert (is_tied, base.model.config.to_dict().get("sliding_window")) == (
        settings.get("tie_word_embeddings", False),
        settings.get("sliding_window"),
    )
    generator = Generator(base)
    made = [module_updates(base.model, random_adapter(base, seed)) for seed in range(3)]
    own: list[Updates | None] = [made[0], None, made[1], made[0], made[2], None]
    batch = rows(generator, own, max_tokens=20)  # prompts and answers are longer than the window
    mixed = generator.generate(batch)
    assert mixed == [generator.generate([row])[0] for row in batch]
    assert len({row.text for row in mixed}) == len(batch)


def test_a_module_that_loses_the_rows_is_refused(stage: Stage) -> None:
    own = module_updates(stage.base.model, random_adapter(stage.base, 1))
    model = MixingModel(stage.base.model)
    path = "model.layers.0.mlp.up_proj"
    with model.running(mix_updates([own, None]), tokens=4), pytest.raises(TransferError) as caught:
        stage.base.model.get_submodule(path)(torch.zeros(3, 32))
    assert caught.value.message == f"{path}: its input of shape (3, 32) does not tell the 2 rows of a batch apart"
    model.close()


def test_streams_of_a_batch_make_its_texts(generator: Generator, updates: list[Updates | None]) -> None:
    batch = rows(generator, updates)
    texts, ends = [""] * len(batch), {}
    for piece in generator.stream(batch):
        assert piece.row not in ends
        texts[piece.row] += piece.text
        if piece.finish is not None:
            ends[piece.row] = (piece.tokens, piece.finish)
    assert [Generated(text, *ends[row]) for row, text in enumerate(texts)] == generator.generate(batch)


def test_a_stop_text_ends_a_row_and_is_never_shown(generator: Generator, updates: list[Updates | None]) -> None:
    (row,) = rows(generator, updates)[:1]
    (whole,) = generator.generate([row])
    stop = whole.text[4:7]
    place = whole.text.index(stop)
    stopped = replace(row, settings=replace(row.settings, stop=("never", stop, whole.text[5:])))
    pieces = list(generator.stream([stopped]))
    assert "".join(piece.text for piece in pieces) == whole.text[:place]
    assert pieces[-1].finish == Finish.STOP
    half = replace(row, settings=replace(row.settings, stop=(whole.text[-1] + "never",)))
    assert generator.generate([half]) == [whole]


def test_the_end_token_ends_a_row_and_the_others_go_on(stage: Stage, generator: Generator) -> None:
    ending = letter_adapter(stage.base, "<s>")
    prompt = generator.prompt_ids("a")
    ended, other = generator.generate(
        [
            Row(prompt, module_updates(stage.base.model, ending), Settings(max_tokens=5)),
            Row(prompt, None, Settings(max_tokens=5)),
        ]
    )
    assert ended == Generated("", 0, Finish.END)
    assert other == generator.generate([Row(prompt, None, Settings(max_tokens=5))])[0]


def test_letters_of_several_bytes_come_whole(stage: Stage, generator: Generator) -> None:
    from ual_registry.dispatch.row_text import RowText

    ids = stage.base.tokenizer("aé€b")["input_ids"]
    text = RowText(stage.base.tokenizer, [], ())
    assert [text.add(token) for token in ids] == ["a", "", "é", "", "", "€", "b"]
    assert text.end() == ""
    cut = RowText(stage.base.tokenizer, [], ())
    assert [cut.add(token) for token in ids[:2]] + [cut.end()] == ["a", "", "\ufffd"]


def test_a_prompt_leaves_room_or_is_refused(generator: Generator) -> None:
    prompt = generator.prompt_ids("x" * 250)
    assert generator.generate([Row(prompt, None, Settings(max_tokens=50))])[0].tokens == 6
    with pytest.raises(RouteError) as caught:
        generator.prompt_ids("x" * 1_000_000)
    assert caught.value.message == ("the prompt has 1000000 tokens, expected fewer than the 256 that tiny can read")
    assert caught.value.problem_code == "too-long"


def test_half_a_character_is_read_as_a_question_mark(generator: Generator) -> None:
    assert generator.prompt_ids("money\ud800") == generator.prompt_ids("money?")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens: expected at least 1, got 0"),
        ({"temperature": -0.5}, "temperature: expected 0 to 100, got -0.5"),
        ({"temperature": float("nan")}, "temperature: expected 0 to 100, got nan"),
        ({"top_p": 0.0}, "top_p: expected above 0, at most 1, got 0.0"),
        ({"seed": -1}, "seed: expected 0 to 2**63 - 1, got -1"),
        ({"stop": ("a", "")}, "stop: expected texts that are not empty, got ['a', '']"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RouteError) as caught:
        Settings(**options)  # type: ignore[arg-type]
    assert caught.value.message == message


def test_messages_need_a_chat_template_and_a_text_takes_it(stage: Stage) -> None:
    messages = [{"role": "user", "content": "hi"}]
    with pytest.raises(RouteError) as caught:
        Generator(stage.base).prompt_ids(messages)
    assert caught.value.message == "base model tiny: has no chat template, expected a text instead of messages"
    other = load_base_model(stage.folder)
    other.tokenizer.chat_template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    generator = Generator(other)
    spelled = tuple(other.tokenizer("[hi]")["input_ids"])
    assert generator.prompt_ids(messages) == generator.prompt_ids("hi") == spelled
    assert generator.prompt_ids("hi", is_plain=True) == spelled[1:-1]
    half = [{"role": "user", "content": "hi\ud800"}]
    assert generator.prompt_ids(half) == tuple(other.tokenizer("[hi?]")["input_ids"])
    other.tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(RouteError) as caught:
        generator.prompt_ids("hi")
    assert caught.value.message == "messages do not suit the chat template: no"
