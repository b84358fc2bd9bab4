"""Recorded effects: an adapter that does otherwise than it did is refused, and the likely cause is named."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from tests.unit.dispatch.answering.stage import Stage, random_adapter
from ual_registry.air.adapter import Adapter
from ual_registry.air.effect import EFFECT_KEY, Effect, effect_of, with_effect
from ual_registry.air.write import file_digest
from ual_registry.dispatch.acting import AdapterLoader, EffectProof
from ual_registry.dispatch.mixing import MixingModel
from ual_registry.errors import RouteError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import load_base_model
from ual_registry.tensors import from_torch, to_torch

pytestmark = pytest.mark.filterwarnings("ignore")

Change = Callable[[Adapter], Adapter]


@pytest.fixture(scope="module")
def recorded(stage: Stage, loader: AdapterLoader) -> Adapter:
    """An adapter of rank 3 and alpha 6 that records its effect, which is far from linear in the scaling."""
    plain = random_adapter(stage.base, 1)
    method = replace(plain.manifest.method, alpha=6.0)
    entries = tuple(replace(own, scaling=2.0) for own in plain.entries)
    adapter = Adapter(replace(plain.manifest, method=method, entries=entries), plain.tensors)
    return Adapter(with_effect(adapter.manifest, loader.measure(adapter, "sha256:a")), adapter.tensors)


def times(strength: float, alpha: float = 6.0) -> Change:
    """Return what makes an adapter so many times as strong."""

    def changed(adapter: Adapter) -> Adapter:
        entries = tuple(replace(own, scaling=own.scaling * strength) for own in adapter.entries)
        method = replace(adapter.manifest.method, alpha=alpha)
        return Adapter(replace(adapter.manifest, method=method, entries=entries), adapter.tensors)

    return changed


def refused(loader: AdapterLoader, adapter: Adapter) -> RouteError:
    with pytest.raises(RouteError) as caught:
        loader.load(adapter, str(file_digest(adapter)))
    return caught.value


def plain_and_moved(stage: Stage, adapter: Adapter, token_ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits behind the last token, and by how much an adapter moves them, without any of the dispatcher."""
    ids = torch.tensor([list(token_ids)])
    with torch.no_grad():
        plain = stage.base.model(ids).logits[0, -1]
        with attach(stage.base.model, adapter):
            return plain, stage.base.model(ids).logits[0, -1] - plain


def test_an_effect_is_what_the_adapter_changes(stage: Stage, recorded: Adapter, loader: AdapterLoader) -> None:
    effect = effect_of(recorded.manifest)
    assert effect is not None
    assert (effect.config_digest, effect.weights_digest, effect.dtype) == (
        stage.base.base.config_digest,
        stage.base.base.weights_digest,
        "float32",
    )
    plain, moved = plain_and_moved(stage, recorded, effect.token_ids)
    tokens = moved.abs().sort(descending=True).indices[:8].tolist()
    assert (len(effect.token_ids), [own.token for own in effect.changes]) == (16, tokens)
    assert [own.base for own in effect.changes] == pytest.approx(plain[tokens].tolist(), abs=1e-4)
    assert [own.change for own in effect.changes] == pytest.approx(moved[tokens].tolist(), abs=1e-4)
    assert loader.load(recorded, "sha256:a").effect is EffectProof.AS_RECORDED


@pytest.mark.parametrize(
    ("change", "cause", "strength"),
    [
        (times(3**0.5), "1.73 times too strong, which fits alpha/sqrt(r) where alpha/r was meant", 1.732),
        (times(3**-0.5), "1.73 times too weak, which fits alpha/r where alpha/sqrt(r) was meant", 0.5774),
        (times(3), "3 times too strong, which fits an alpha that is not divided by r", 3.0),
        (times(1 / 3), "3 times too weak, which fits an alpha that is divided by r twice", 0.3333),
        (times(-1), "turned round, which fits factors of the other sign", -1.0),
        (times(5), "5 times too strong, which fits scalings that are not alpha/rank", 5.0),
        (times(2, alpha=12.0), "2 times too strong", 2.0),
        (times(2.5, alpha=15.0), "2.5 times too strong", 2.5),
        (times(0.1, alpha=0.6), "10 times too weak", 0.1),
    ],
)
def test_a_wrong_scaling_is_found_with_its_cause(
    change: Change, cause: str, strength: float, *, stage: Stage, recorded: Adapter, loader: AdapterLoader
) -> None:
    changed = change(recorded)
    error, digest = refused(loader, changed), str(file_digest(changed))
    effect = effect_of(recorded.manifest)
    assert effect is not None
    tokens = [own.token for own in effect.changes]
    _, moved = plain_and_moved(stage, changed, effect.token_ids)
    got, expected = error.context["got"], [own.change for own in effect.changes]
    assert error.context == {
        "digest": digest,
        "tokens": tokens,
        "expected": expected,
        "got": pytest.approx(moved[tokens].tolist(), abs=1e-4),
        "times_too_strong": pytest.approx(strength, rel=5e-3),
    }
    assert error.message == (
        f"adapter {digest}: does otherwise than recorded: it moves the logit of token {tokens[0]} by "
        f"{got[0]:.4g}, expected {expected[0]:.4g}; it is {cause}"  # type: ignore[index]
    )
    assert error.problem_code == "other-effect"


def test_ranks_that_differ_are_told_from_one_strength(stage: Stage, recorded: Adapter, loader: AdapterLoader) -> None:
    wide = {own.lora_A: 2 if own.role == "mlp_up" else 1 for own in recorded.entries}
    tensors = dict(recorded.tensors)
    for own in recorded.entries:
        for name, dim in ((own.lora_A, 0), (own.lora_B, 1)):
            tensors[name] = from_torch(torch.cat([to_torch(tensors[name])] * wide[own.lora_A], dim=dim), "F32")
    entries = tuple(replace(own, rank=own.rank * wide[own.lora_A]) for own in recorded.entries)
    mixed = Adapter(replace(recorded.manifest, entries=entries, annotations={}), tensors)
    mixed = Adapter(with_effect(mixed.manifest, loader.measure(mixed, "sha256:a")), mixed.tensors)
    flipped = tuple(replace(own, scaling=own.scaling * own.rank**0.5) for own in entries)
    error = refused(loader, Adapter(replace(mixed.manifest, entries=flipped), mixed.tensors))
    assert error.message.endswith(
        "it is 1.73 to 2.45 times too strong, which fits alpha/sqrt(r) where alpha/r was meant"
    )
    assert error.context["times_too_strong"] is None


def test_other_factors_and_another_base_are_told(stage: Stage, recorded: Adapter, loader: AdapterLoader) -> None:
    other = Adapter(recorded.manifest, random_adapter(stage.base, 2).tensors)
    assert refused(loader, other).message.endswith("; its factors are others than those that were recorded")
    silent = Adapter(recorded.manifest, random_adapter(stage.base, 1, 0.0).tensors)
    assert refused(loader, silent).problem_code == "no-effect"
    effect = effect_of(recorded.manifest)
    assert effect is not None
    moved = replace(effect, changes=tuple(replace(own, base=own.base + 1, change=1.0) for own in effect.changes))
    assert refused(loader, Adapter(with_effect(recorded.manifest, moved), recorded.tensors)).message.endswith(
        "; the base model itself answers otherwise than it did: it has other weights, or computes in a coarser way"
    )


def _other_weights(effect: Effect) -> Effect:
    return replace(effect, weights_digest="sha256:" + "0" * 64)


def _faint(effect: Effect) -> Effect:
    return replace(effect, changes=tuple(replace(own, change=own.change / 1e5) for own in effect.changes))


@pytest.mark.parametrize(
    ("change", "proof"),
    [
        (lambda _: None, EffectProof.NOT_RECORDED),
        (_other_weights, EffectProof.OTHER_BASE),
        (lambda own: replace(own, token_ids=(999,)), EffectProof.OTHER_BASE),
        (_faint, EffectProof.TOO_SMALL),
        (lambda own: replace(own, weights_digest=None), EffectProof.AS_RECORDED),
        (lambda own: replace(own, dtype="bfloat16"), EffectProof.AS_RECORDED),
    ],
)
def test_what_cannot_be_compared_is_told(
    change: Callable[[Effect], Effect | None], proof: EffectProof, recorded: Adapter, loader: AdapterLoader
) -> None:
    effect = effect_of(recorded.manifest)
    assert effect is not None
    made = Adapter(with_effect(recorded.manifest, change(effect)), recorded.tensors)
    assert loader.load(made, "sha256:a").effect is proof


def test_a_record_of_another_form_stops_nobody(stage: Stage, recorded: Adapter, loader: AdapterLoader) -> None:
    odd = Adapter(replace(recorded.manifest, annotations={EFFECT_KEY: {"changes": []}}), recorded.tensors)
    assert loader.load(odd, "sha256:a").effect is EffectProof.NOT_RECORDED
    with contextlib.closing(MixingModel(stage.base.model)) as model:
        assert AdapterLoader(model).load(recorded, "sha256:a").effect is EffectProof.OTHER_BASE


def test_a_wrong_scaling_is_found_in_half_precision_too(
    stage: Stage, recorded: Adapter, tmp_path_factory: pytest.TempPathFactory
) -> None:
    half = load_base_model(stage.folder, dtype=torch.bfloat16)
    loader = AdapterLoader(MixingModel(half.model), half.base)
    assert loader.load(recorded, "sha256:a").effect is EffectProof.AS_RECORDED
    error = refused(loader, times(5)(recorded))
    assert error.message.endswith("it is 5 times too strong, which fits scalings that are not alpha/rank")
