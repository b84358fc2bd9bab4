"""Statistics of two models over one text: against rows taken by hand, kept, cut off, damaged, refused."""

from __future__ import annotations

import copy
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ground_truth.materials import sentences
from tests.unit.transfers.bases import TEXTS, gpt2, llama
from ual_registry.errors import NumericalError, TransferError
from ual_registry.models.aligned_text import aligned_positions
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.projection.moments import PairMoments
from ual_registry.transfers import collect as room
from ual_registry.transfers.collect import CollectOptions, collect
from ual_registry.transfers.outputs import slot_rows, slot_weight, through_linear
from ual_registry.transfers.sites import Reader, Side, Site, SitePair
from ual_registry.transfers.statistics_store import PairStatistics, StatisticsStore

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

QUERY = SitePair(Site("model.layers.1.self_attn.q_proj"), Site("transformer.h.2.attn.c_attn"))
KEY = SitePair(Site("model.layers.1.self_attn.k_proj"), Site("transformer.h.2.attn.c_attn"))
DOWN = SitePair(Site("model.layers.0.mlp.down_proj"), Site("transformer.h.0.mlp.c_proj"))
PAIRS = [QUERY, KEY, DOWN]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedBase, LoadedBase]:
    folder = tmp_path_factory.mktemp("bases")
    return llama(folder), gpt2(folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def living_bytes() -> int:
    """Return the bytes of all tensors that something holds."""
    storages = {}
    for item in gc.get_objects():
        if type(item) in (torch.Tensor, torch.nn.Parameter):
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def test_four_times_the_text_takes_no_more_memory(
    bases: tuple[LoadedBase, LoadedBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept are sums of products: of d^2 numbers each, however many positions there are."""
    peaks, calls = [], []
    update = PairMoments.update

    def watched(self: PairMoments, x: torch.Tensor, y: torch.Tensor) -> None:
        update(self, x, y)
        calls[-1] += 1
        if calls[-1] % 8 == 0:  # looking at all that lives takes much longer than a batch
            peaks[-1] = max(peaks[-1], living_bytes())

    monkeypatch.setattr(PairMoments, "update", watched)
    for count in (24, 96):
        peaks.append(0)
        calls.append(0)
        found = collect(*bases, PAIRS, sentences(7, count))
    rows = 4 * found.positions * (32 + 24 + 48 + 96)  # what was read of both models, float32
    assert peaks[0] > 0
    assert peaks[1] < peaks[0] + rows / 10


def by_hand(bases: tuple[LoadedBase, LoadedBase], pair: SitePair, texts: list[str]) -> PairMoments:
    """Run the whole models, look at one module each, and sum up text by text."""
    sums: PairMoments | None = None
    for text in texts:
        aligned = aligned_positions(text, bases[0].tokenizer, bases[1].tokenizer)
        x = activations(bases[0], pair.source, aligned.source_ids)[aligned.source_positions]
        y = activations(bases[1], pair.target, aligned.target_ids)[aligned.target_positions]
        sums = sums or PairMoments(x.shape[1], y.shape[1])
        sums.update(x.double(), y.double())
    assert sums is not None
    return sums


def activations(base: LoadedBase, site: Site, ids: list[int]) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    handle = base.module(site.path).register_forward_hook(
        lambda _, inputs, output: seen.append(inputs[0] if site.side is Side.INPUT else output)
    )
    with torch.no_grad():
        base.model(input_ids=torch.tensor([ids]))
    handle.remove()
    return seen[0][0]


def assert_same(one: PairMoments, other: PairMoments, **tolerance: float) -> None:
    states = one.state(), other.state()
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], **tolerance)


def assert_close(one: PairMoments, exact: PairMoments) -> None:
    """Compare sums of float32 products with sums in float64: six digits of the size of each feature."""
    assert (one.count, one.rejected) == (exact.count, exact.rejected)
    found, known = one.centred(), exact.centred()
    spread = {"x": known.xx.diagonal().sqrt(), "y": known.yy.diagonal().sqrt()}
    for name in ("xx", "yy", "xy"):
        scale = spread[name[0]][:, None] * spread[name[1]]
        assert float(((getattr(found, name) - getattr(known, name)) / scale).abs().max()) < 2e-6
    for name in ("x", "y"):
        gap = getattr(found, f"{name}_mean") - getattr(known, f"{name}_mean")
        assert float((gap / (spread[name] / known.count**0.5)).abs().max()) < 1e-9


@pytest.mark.parametrize("pair", PAIRS)
def test_moments_are_those_of_rows_taken_by_hand_one_text_in_five_held_out(
    pair: SitePair, bases: tuple[LoadedBase, LoadedBase]
) -> None:
    found = collect(*bases, PAIRS, TEXTS)
    held = [text for index, text in enumerate(TEXTS) if index % 5 == 4]
    fit = [text for text in TEXTS if text not in held]
    assert_close(found.of(pair).fit, by_hand(bases, pair, fit))
    assert_close(found.of(pair).held_out, by_hand(bases, pair, held))
    assert (found.positions, found.held_out_positions) == (
        found.of(pair).fit.count,
        found.of(pair).held_out.count,
    )


def test_modules_that_read_one_tensor_share_their_moments(bases: tuple[LoadedBase, LoadedBase]) -> None:
    found = collect(*bases, PAIRS, TEXTS)
    assert found.leaders[QUERY] == found.leaders[KEY]
    assert sorted(found.moments) == sorted({found.leaders[QUERY], DOWN})


def test_outputs_follow_from_inputs_and_weights_role_by_role(bases: tuple[LoadedBase, LoadedBase]) -> None:
    places = [base.binding.slots() for base in bases]
    source, target = places[0][None, 1, "attention_key", None], places[1][None, 2, "attention_key", None]
    outputs = SitePair(Site(source[0].path, Side.OUTPUT), Site(target[0].path, Side.OUTPUT))
    found = collect(*bases, [KEY, outputs], TEXTS)
    weights = slot_weight(bases[0], *source), slot_weight(bases[1], *target)
    computed = through_linear(found.of(KEY), *weights)
    seen = slot_rows(found.of(outputs), source[1], target[1])
    for one, other in ((computed.fit, seen.fit), (computed.held_out, seen.held_out)):
        assert_same(one, other, rtol=1e-4, atol=1e-3)  # the models compute outputs in float32


def test_gradients_are_those_of_the_loss_at_the_aligned_positions(bases: tuple[LoadedBase, LoadedBase]) -> None:
    site = Site("model.layers.0.mlp.up_proj", Side.GRADIENT)
    ids = bases[0].tokenizer(TEXTS[0])["input_ids"]
    positions = list(range(5, 60, 3))
    found = Reader(bases[0]).rows(ids, positions, [site])[site]

    module: Any = bases[0].module(site.path)
    module.weight.requires_grad_()
    inputs = activations(bases[0], Site(site.path), ids)
    logits = bases[0].model(input_ids=torch.tensor([ids])).logits[0, positions]
    wanted = torch.tensor(ids)[[position + 1 for position in positions]]
    loss = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
    (expected,) = torch.autograd.grad(loss, module.weight)
    module.weight.requires_grad_(False)
    every = Reader(bases[0]).rows(ids, list(range(len(ids))), [site])[site]
    assert found.shape == (len(positions), 48)
    assert every.shape == (len(ids), 48)
    whole = _gradient_rows(bases[0], site.path, ids, positions)
    torch.testing.assert_close(whole.T @ inputs, expected, rtol=1e-3, atol=1e-4)  # float32, summed in another order
    torch.testing.assert_close(found, whole[positions])


def _gradient_rows(base: LoadedBase, path: str, ids: list[int], positions: list[int]) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    before = base.model.get_input_embeddings().register_forward_hook(lambda _, __, out: out.requires_grad_())
    handle = base.module(path).register_forward_hook(lambda _, __, out: out.register_hook(seen.append) and None)
    logits = base.model(input_ids=torch.tensor([ids])).logits[0, positions]
    wanted = torch.tensor(ids)[[position + 1 for position in positions]]
    torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").backward()
    before.remove()
    handle.remove()
    return seen[0][0]


def test_long_rows_are_shortened_where_that_is_asked_for(bases: tuple[LoadedBase, LoadedBase]) -> None:
    ids, site = bases[0].tokenizer(TEXTS[0])["input_ids"], DOWN.source
    positions = list(range(len(ids)))
    plain = Reader(bases[0]).rows(ids, positions, [site])[site]
    clipped = Reader(bases[0], clip=1.5).rows(ids, positions, [site])[site]
    limit = 1.5 * plain.norm(dim=1).median()
    scale = (limit / plain.norm(dim=1)).clamp(max=1.0)
    assert 0 < int((scale < 1).sum()) < len(ids)
    torch.testing.assert_close(clipped, plain * scale[:, None])


class _StopError(Exception):
    """What cuts a run off."""


def stop_after(monkeypatch: pytest.MonkeyPatch, passages: int, how: Any) -> None:
    plain, count = Reader.rows, [0]

    def rows(self: Reader, *given: Any) -> Any:
        count[0] += 1
        if count[0] > 2 * passages:  # either model reads each passage
            how()
        return plain(self, *given)

    monkeypatch.setattr(Reader, "rows", rows)


KILLED = """
import sys
from pathlib import Path
import pytest
import torch
from tests.unit.transfers import test_collect as here
torch.set_num_threads(1)
folder = Path(sys.argv[1])
(folder / "bases").mkdir()
bases = here.llama(folder / "bases"), here.gpt2(folder / "bases")
patch = pytest.MonkeyPatch()
patch.setattr(here.room, "_SAVE_ROWS", 100)
patch.setattr(here.room, "_FLUSH_ROWS", 150)
here.stop_after(patch, 7, here.die)
here.collect(*bases, here.PAIRS, here.TEXTS, store=here.StatisticsStore(folder=folder / "killed"))
"""
"""A process of its own: a copy of this one, which has threads, may wait for ever."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def states(found: Any) -> dict[str, bytes]:
    """Return every number of every pair, to the bit."""
    return {
        f"{pair.name}.{part}.{name}": tensor.numpy().tobytes()
        for pair in PAIRS
        for part, moments in (("fit", found.of(pair).fit), ("held_out", found.of(pair).held_out))
        for name, tensor in moments.state().items()
    }


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bits(
    bases: tuple[LoadedBase, LoadedBase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_SAVE_ROWS", 100)
    monkeypatch.setattr(room, "_FLUSH_ROWS", 150)
    whole = states(collect(*bases, PAIRS, TEXTS, store=StatisticsStore(folder=tmp_path / "whole")))
    store = StatisticsStore(folder=tmp_path / "killed")
    process = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "killed").glob("*/part-*/progress.json"))) == 1

    with monkeypatch.context() as patch:
        stop_after(patch, len(TEXTS) - 4, _raise)  # fewer passages than the whole text has
        assert states(collect(*bases, PAIRS, TEXTS, store=store)) == whole
    assert list((tmp_path / "killed").glob("*/part-*")) == []


def _raise() -> None:
    raise _StopError


def test_kept_statistics_are_used_by_later_runs_without_running_a_model(
    bases: tuple[LoadedBase, LoadedBase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StatisticsStore(folder=tmp_path)
    first = states(collect(*bases, PAIRS, TEXTS, store=store))
    stop_after(monkeypatch, 0, _raise)
    assert states(collect(*bases, PAIRS, TEXTS, store=store)) == first
    other = [SitePair(Site("model.layers.0.mlp.up_proj"), Site("transformer.h.0.mlp.c_fc"))]
    for changed in ({"pairs": other}, {"texts": TEXTS[1:]}, {"options": CollectOptions(skip=5)}):
        with pytest.raises(_StopError):
            collect(*bases, **{"pairs": PAIRS, "texts": TEXTS, "store": store, **changed})


def test_what_one_tensor_gave_serves_adapters_of_other_roles(
    bases: tuple[LoadedBase, LoadedBase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Query and key read one tensor: whoever asks for one of them finds what was collected for the other."""
    store = StatisticsStore(folder=tmp_path)
    first = collect(*bases, [QUERY, DOWN], TEXTS, store=store)
    stop_after(monkeypatch, 0, _raise)
    later = collect(*bases, [DOWN, KEY], TEXTS, store=store)
    assert later.leaders == {DOWN: DOWN, KEY: KEY}
    assert later.positions == first.positions
    for name, tensor in first.of(QUERY).fit.state().items():
        assert torch.equal(later.of(KEY).fit.state()[name], tensor)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("what", ["config_digest", "weights_digest", "dtype", "tokenizer"])
def test_kept_statistics_are_those_of_one_pair_of_bases(
    bases: tuple[LoadedBase, LoadedBase], what: str, which: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StatisticsStore(folder=tmp_path)
    collect(*bases, PAIRS, TEXTS, store=store)
    stop_after(monkeypatch, 0, _raise)
    other, own = list(bases), bases[which]
    if what == "dtype":
        other[which] = replace(own, model=copy.deepcopy(own.model).double())
    elif what == "tokenizer":
        other[which] = replace(own, tokenizer=copy.deepcopy(own.text_tokenizer))
        other[which].text_tokenizer.add_tokens(["a token more"])
    else:
        other[which] = replace(own, base=replace(own.base, **{what: f"sha256:{'0' * 64}"}))
    with pytest.raises(_StopError):
        collect(*other, PAIRS, TEXTS, store=store)


@pytest.mark.parametrize("damage", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:100]])
def test_a_damaged_file_is_not_believed_and_collected_again(
    damage: Any, bases: tuple[LoadedBase, LoadedBase], tmp_path: Path
) -> None:
    store = StatisticsStore(folder=tmp_path)
    first = states(collect(*bases, PAIRS, TEXTS, store=store))
    (file,) = tmp_path.glob(f"*/pairs/{DOWN.name}.safetensors")
    before = file.read_bytes()
    file.write_bytes(damage(before))
    found = collect(*bases, PAIRS, TEXTS, store=store)
    assert file.read_bytes() == before
    assert states(found) == first
    file.write_bytes(damage(before))
    with pytest.raises(TransferError, match=r"^statistics of transformer.h.0.mlp.c_proj: their file was damaged"):
        found.of(DOWN)


def test_damaged_progress_is_not_believed(bases: tuple[LoadedBase, LoadedBase], tmp_path: Path) -> None:
    shelf = StatisticsStore(folder=tmp_path).shelf({"text": "a"})
    moments = collect(*bases, [DOWN], TEXTS).of(DOWN)
    with shelf.locked():
        shelf.save_progress(room.Progress(passages=3, moments={DOWN: moments}))
    assert shelf.progress([DOWN]).passages == 3
    assert shelf.progress([DOWN, QUERY]) == room.Progress()
    (file,) = tmp_path.glob("*/part-*/3/*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    assert shelf.progress([DOWN]) == room.Progress()
    assert PairStatistics.empty(1, 2).fit.count == 0


def test_an_activation_that_is_not_finite_is_refused_and_its_module_named(
    bases: tuple[LoadedBase, LoadedBase], tmp_path: Path
) -> None:
    base = llama(tmp_path)
    with torch.no_grad():
        base.model.model.layers[0].mlp.up_proj.weight.mul_(1e4)
    base.model.save_pretrained(tmp_path / "llama")
    half = load_base_model(tmp_path / "llama", dtype=torch.float16)
    with pytest.raises(NumericalError) as caught:
        collect(half, bases[1], PAIRS, TEXTS)
    assert caught.value.message == (
        "model.layers.0.mlp.down_proj: its input is not finite in float16 (base model llama)"
    )
    assert caught.value.hint == "load the model in float32"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "the calibration text is empty"),
        (
            ["one passage alone"],
            "the calibration text is one passage: expected at least two, one to fit on and one to judge on",
        ),
        (
            ["a b", "c d"],
            (
                "the calibration text has 0 positions to fit on and 0 to judge on that both models have read up to the "
                "same character: expected at least two of each"
            ),
        ),
    ],
)
def test_text_that_does_not_do_is_refused(texts: list[str], message: str, bases: tuple[LoadedBase, LoadedBase]) -> None:
    with pytest.raises(TransferError) as caught:
        collect(*bases, PAIRS, texts)
    assert caught.value.message == message


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_that_are_not_finite_are_named(bases: tuple[LoadedBase, LoadedBase], name: str) -> None:
    module, slot = bases[1].binding.slots()[None, 2, "attention_key", None]
    rows: Any = getattr(bases[1].module(module.path), name).data
    own = next(iter(slot.all_rows.runs()))[0]  # the key's rows stand behind the query's
    before, rows[..., own] = rows[..., own].clone(), torch.nan
    try:
        with pytest.raises(NumericalError) as caught:
            slot_weight(bases[1], module, slot)
        slot_weight(bases[1], *bases[1].binding.slots()[None, 2, "attention_query", None])
    finally:
        rows[..., own] = before
    assert caught.value.message == f"{module.path}: its {name} is not finite (base model gpt2)"
    assert caught.value.hint == "the weights are damaged; get the base model again"


@pytest.mark.parametrize("foreign", [("Съешь же ещё",), ("Съешь же ещё", "мягких булок")])
def test_passages_that_a_tokenizer_has_no_token_for_are_passed_over(
    foreign: tuple[str, ...], bases: tuple[LoadedBase, LoadedBase]
) -> None:
    source = replace(bases[0], tokenizer=_latin(bases[0].model.config.vocab_size))
    with pytest.raises(TransferError) as caught:
        collect(source, bases[1], PAIRS, [*foreign, "да выпей чаю"])
    assert caught.value.message.startswith("the calibration text has 0 positions to fit on and 0 to judge on ")
    found = collect(source, bases[1], PAIRS, [*TEXTS, *foreign])
    again = collect(source, bases[1], PAIRS, [*TEXTS[:5], *foreign, *TEXTS[5:]])
    assert found.positions + found.held_out_positions == again.positions + again.held_out_positions > 0


def _latin(size: int) -> Any:
    """Return a tokenizer of the test's own texts, which has no token for letters that do not stand in them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast  # it has no types
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    return fast(tokenizer_object=made)


def test_text_in_another_script_is_aligned_character_by_character(bases: tuple[LoadedBase, LoadedBase]) -> None:
    texts = ["Съешь же ещё этих мягких французских булок", "да выпей чаю, и не забудь про варенье"]
    found = collect(*bases, PAIRS, texts)
    assert (found.positions, found.held_out_positions) == by_characters(texts, bases)


def by_characters(texts: list[str], bases: tuple[LoadedBase, LoadedBase]) -> tuple[int, ...]:
    aligned = [aligned_positions(text, bases[0].tokenizer, bases[1].tokenizer) for text in texts]
    return tuple(len(item.source_positions) for item in aligned)


def test_a_module_that_is_not_run_is_named(bases: tuple[LoadedBase, LoadedBase]) -> None:
    with pytest.raises(TransferError) as caught:
        collect(*bases, [SitePair(Site("lm_head"), DOWN.target)], TEXTS)
    assert caught.value.message == "lm_head: LlamaModel of llama does not run this module"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skip": -1}, "skip: got -1, which is out of range"),
        ({"clip": 0.0}, "clip: got 0.0, which is out of range"),
        ({"limit_chars": 0}, "limit_chars: got 0, which is out of range"),
        ({"held_out_every": 1}, "held_out_every: got 1, which is out of range"),
    ],
)
def test_options_that_mean_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TransferError) as caught:
        CollectOptions(**changes)
    assert caught.value.message == message
