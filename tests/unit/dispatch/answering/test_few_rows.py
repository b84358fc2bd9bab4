"""Products and caches for a few rows give what the usual ones give."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer

from tests.unit.dispatch.answering.stage import Stage
from ual_registry.dispatch.few_rows import RoomyLayer, few_rows, linear_modules, with_room

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("shape", [(2, 1, 6), (8, 6), (1, 3, 6), (9, 1, 6), (1, 1, 6)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_turned_product_is_the_product(shape: tuple[int, ...], has_bias: bool) -> None:
    torch.manual_seed(0)
    module, inputs = nn.Linear(6, 7, bias=has_bias), torch.randn(shape)
    expected = module(inputs)
    with few_rows(linear_modules(module), inputs.numel() // 6):
        found = module(input=inputs)
        assert found.is_contiguous()
        torch.testing.assert_close(found, expected)
    assert "forward" not in module.__dict__


def test_only_plain_modules_that_do_not_narrow_are_turned() -> None:
    class Other(nn.Linear):
        pass

    own = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3), Other(4, 8), nn.Linear(4, 9, dtype=torch.float64))
    chosen = linear_modules(own)
    has_mkl = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]  # torch has no type for it
    assert chosen == ((own[0], own[3]) if has_mkl else ())
    with few_rows(chosen, 2):
        assert ["forward" in module.__dict__ for module in chosen] == [True, False][: len(chosen)]


def test_a_forward_of_somebody_else_stays() -> None:
    module = nn.Linear(4, 4)
    module.forward = torch.zeros_like  # type: ignore[method-assign]
    with few_rows((module,), 2):
        assert module(torch.ones(2, 4)).sum() == 0
    assert module.forward is torch.zeros_like


def test_a_weight_of_another_kind_is_multiplied_as_it_says() -> None:
    class Own(torch.Tensor):
        pass

    module = nn.Linear(4, 4, bias=False)
    module.weight = nn.Parameter(module.weight.detach().as_subclass(Own))
    sparse = nn.Linear(4, 4, bias=False)
    sparse.weight = nn.Parameter(sparse.weight.detach().to_sparse())
    with few_rows((module, sparse), 2):
        assert ["forward" in own.__dict__ for own in (module, sparse)] == [False, False]
        assert isinstance(module(torch.ones(2, 4)), Own)


def test_a_cache_with_room_holds_what_a_plain_one_holds(stage: Stage) -> None:
    model, ids = stage.base.model, torch.arange(60).reshape(4, 15)
    caches = [model(ids, use_cache=True).past_key_values for _ in range(2)]
    roomy = with_room(caches[0])
    assert {type(layer) for layer in roomy.layers} == {RoomyLayer}
    index = torch.tensor([2, 0])
    with torch.inference_mode():
        for number in range(70):
            rows = 4 if number < 20 else 2
            if number == 20:
                for cache in caches:
                    cache.batch_select_indices(index)
            if number == 40:
                for cache in caches:
                    cache.crop(-5)
            new = torch.full((rows, 1), number)
            found, expected = (model(new, past_key_values=cache, use_cache=True).logits for cache in caches)
            torch.testing.assert_close(found, expected)
    for own, plain in zip(roomy.layers, caches[1].layers, strict=True):
        torch.testing.assert_close((own.keys, own.values), (plain.keys, plain.values))


def test_layers_of_other_kinds_stay_as_they_are() -> None:
    class Other(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers has no types for it
        pass

    cache = DynamicCache()
    cache.layers = [Other(), DynamicLayer()]  # type: ignore[no-untyped-call]  # likewise
    assert [type(layer) for layer in with_room(cache).layers] == [Other, RoomyLayer]
