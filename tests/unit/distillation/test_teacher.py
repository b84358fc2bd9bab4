"""The teacher's scores: equal to direct computation, kept and gone on with, and those of something else refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reference.distillation import token_log_probs
from tests.unit.distillation.material import sentences
from ual_registry.distillation import teacher
from ual_registry.distillation.pieces import Cutter
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.scores import excess
from ual_registry.distillation.teacher import score_texts
from ual_registry.distillation.texts import Ended, Text
from ual_registry.errors import FormatError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

TEXTS = [
    Text(batch=0, prompt=text[:cut], completion=text[cut:], ended=Ended.END, tokens=1)
    for text, cut in zip(sentences(5, seed=4), itertools.cycle((0, 4)))  # the second has no end
]


def score(source: LoadedBase, adapter: Named, **more: Any) -> Any:
    return score_texts(source.model, source.tokenizer, adapter.adapter, TEXTS, **{"material": {}} | more)


def test_scores_are_those_of_direct_computation(source: LoadedBase, adapter: Named) -> None:
    found = score(source, adapter)
    cutter = Cutter(source.tokenizer)
    for text, own in zip(TEXTS, found, strict=True):
        pieces = cutter.cut(text.prompt, text.completion)
        plain = token_log_probs(source.model, pieces.ids)
        with attach(source.model, adapter.adapter):
            adapted = token_log_probs(source.model, pieces.ids)
        difference = [one - other for one, other in zip(adapted, plain, strict=True)][pieces.first - 1 :]
        # sums over all pieces: the letters of one character are one piece and several tokens
        assert float(own.adapted.sum()) == pytest.approx(sum(adapted[pieces.first - 1 :]), rel=1e-4)
        assert float(own.plain.sum()) == pytest.approx(sum(plain[pieces.first - 1 :]), rel=1e-4)
        assert float(excess(own.adapted, own.plain).sum()) == pytest.approx(sum(difference), rel=1e-4)
        if len(difference) == len(own.ends):
            assert excess(own.adapted, own.plain).tolist() == pytest.approx(difference, abs=1e-4)
        assert own.ends[-1] == len(text.whole)


def test_what_the_source_cannot_read_is_not_scored(
    source: LoadedBase, adapter: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [Text(batch=0, prompt="", completion=text, ended=Ended.END, tokens=1) for text in sentences(3, seed=6)]
    whole = score_texts(source.model, source.tokenizer, adapter.adapter, texts, material={})
    monkeypatch.setattr("ual_registry.distillation.teacher.position_limit", lambda _: 7)
    for cut, own in zip(
        score_texts(source.model, source.tokenizer, adapter.adapter, texts, material={}), whole, strict=True
    ):
        count = len(cut.ends)
        assert 0 < count < len(own.ends)
        assert torch.equal(cut.ends, own.ends[:count])
        torch.testing.assert_close(cut.adapted, own.adapted[:count], atol=1e-5, rtol=0)


def test_kept_scores_are_read_again_and_missing_shards_made(
    source: LoadedBase, adapter: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "_SHARD_TEXTS", 2)
    first = score(source, adapter, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scores-00000.safetensors",
        "scores-00001.safetensors",
        "scores-00002.safetensors",
        "scores.json",
    ]
    (tmp_path / "scores-00001.safetensors").unlink()
    for again in (score(source, adapter, folder=tmp_path), score(source, adapter)):
        for one, other in zip(first, again, strict=True):
            assert one.start == other.start
            assert torch.equal(one.ends, other.ends)
            torch.testing.assert_close(one.adapted, other.adapted)
            torch.testing.assert_close(one.plain, other.plain)


def test_scores_of_something_else_are_refused(source: LoadedBase, adapter: Named, tmp_path: Path) -> None:
    score(source, adapter, folder=tmp_path)
    with pytest.raises(FormatError) as caught:
        score(source, adapter, folder=tmp_path, material={"adapter": "other"})
    index = tmp_path / "scores.json"
    assert caught.value.message == f"{index}: the scores are those of other texts, models or adapters"
    shard = tmp_path / "scores-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(FormatError) as caught:
        score(source, adapter, folder=tmp_path)
    assert (caught.value.message, caught.value.problem_code) == (f"{shard}: is no shard of scores", "teacher-scores")


def test_without_the_plain_side_the_adapted_one_is_the_same_and_is_kept_apart(
    source: LoadedBase, adapter: Named, tmp_path: Path
) -> None:
    both, one = score(source, adapter), score(source, adapter, is_plain_needed=False, folder=tmp_path)
    for whole, part in zip(both, one, strict=True):
        assert torch.equal(part.adapted, whole.adapted)
        assert excess(part.adapted, part.plain).tolist() == [0.0] * len(part.ends)
    with pytest.raises(FormatError, match="the scores are those of other texts, models or adapters"):
        score(source, adapter, folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"token_share": 1.0}, False),
        ({"token_share": 0.9}, True),
        ({"token_share": 1.0, "sample_share": 0.5}, True),
        ({"token_share": 1.0, "is_contrastive": True, "alm_weight": 1.0}, True),
        ({"token_share": 1.0, "is_contrastive": True, "alm_weight": 0.0}, False),
    ],
)
def test_a_recipe_says_whether_it_needs_the_plain_side(changes: dict[str, Any], expected: bool) -> None:
    assert Recipe(**changes).needs_plain is expected
