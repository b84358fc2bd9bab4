"""The parts of the two speed benchmarks: what they carry, and what they say of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from benchmarks import transfer_speed, transfer_statistics
from benchmarks.transfer_statistics import Clock
from tests.unit.transfers.bases import gpt2, llama
from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.models.aligned_text import aligned_positions
from ual_registry.models.loaded import LoadedBase
from ual_registry.transfers.sites import Site, SitePair

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made


def test_the_adapter_has_every_module_of_a_layer_and_can_be_carried(tmp_path: Path) -> None:
    source = transfer_speed.config_folder(tmp_path / "source", transfer_speed._LLAMA)
    target = transfer_speed.config_folder(tmp_path / "target", transfer_speed._MISTRAL)
    file, out = tmp_path / "a.air", tmp_path / "out.air"
    write(transfer_speed.random_adapter(source, 2, 1), file)
    stamps = list(transfer_speed.transfer(file, target, "truncate", out))
    assert len(stamps) == 5  # before, and after each of four parts
    assert all(before <= after for before, after in itertools.pairwise(stamps))
    with read(out) as adapter:
        assert {entry.role: (entry.in_features, entry.out_features, entry.rank) for entry in adapter.entries} == {
            "attention_query": (4096, 4096, 2),
            "attention_key": (4096, 1024, 2),
            "attention_value": (4096, 1024, 2),
            "attention_output": (4096, 4096, 2),
            "mlp_gate": (4096, 14336, 2),
            "mlp_up": (4096, 14336, 2),
            "mlp_down": (14336, 4096, 2),
        }


def test_a_copy_has_the_same_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"some bytes")
    for is_synced in (False, True):
        assert transfer_speed.copy(file, tmp_path / "b", is_synced=is_synced) >= 0.0
        assert (tmp_path / "b").read_bytes() == b"some bytes"


def test_the_floor_has_the_same_bytes(tmp_path: Path) -> None:
    source = transfer_speed.config_folder(tmp_path / "source", transfer_speed._LLAMA)
    file, out = tmp_path / "a.air", tmp_path / "out.air"
    write(transfer_speed.random_adapter(source, 2, 1), file)
    assert transfer_speed.rewrite(file, out) >= 0.0
    assert out.read_bytes() == file.read_bytes()


def test_there_is_enough_text_and_little_more(tmp_path: Path) -> None:
    bases = llama(tmp_path), gpt2(tmp_path)
    texts = transfer_statistics.enough_text(*bases, positions=300)
    counts = [len(aligned_positions(text, *(base.tokenizer for base in bases)).source_positions) for text in texts]
    assert sum(counts[:-1]) < 300 <= sum(counts)


def test_each_thing_that_is_read_is_compared_once(tmp_path: Path) -> None:
    pairs = transfer_statistics.site_pairs(llama(tmp_path), other_llama(tmp_path))
    assert pairs[:4] == [
        SitePair(Site(f"model.layers.0.{path}"), Site(f"model.layers.0.{path}"))
        for path in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
    ]
    assert len(pairs) == 8


def other_llama(folder: Path) -> LoadedBase:
    place = folder / "other"
    place.mkdir()
    return llama(place, intermediate_size=64)


def test_a_clock_adds_up_what_calls_take() -> None:
    clock = Clock()
    assert clock.around(sum)([1, 2]) == 3
    first = clock.wall_s
    with pytest.raises(TypeError):
        clock.around(sum)(3)
    assert 0.0 < first < clock.wall_s
