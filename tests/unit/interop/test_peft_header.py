"""A PEFT adapter of which only configuration and header are at hand is described as the whole one is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.handmade import floats, llama_base, peft_config, peft_tensors, write_peft
from ual_registry.air.header import open_header
from ual_registry.air.tensor import FileSource
from ual_registry.errors import BaseMismatchError, ForeignFormatError
from ual_registry.interop.from_peft import from_peft, from_peft_header
from ual_registry.interop.peft_config import parse_config


def test_the_header_says_what_the_folder_says(tmp_path: Path) -> None:
    extra = {"base_model.model.score.weight": floats(2, 2)}
    folder = write_peft(tmp_path / "peft", {**peft_tensors(), **extra}, peft_config())
    config = parse_config((folder / "adapter_config.json").read_bytes())
    header = open_header(FileSource(folder / "adapter_model.safetensors"))
    found = from_peft_header(config, header, llama_base(), base_id="org/tiny", base_revision="main")
    with from_peft(folder, llama_base(), base_id="org/tiny", base_revision="main") as whole:
        assert found.manifest == whole.manifest
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in whole.tensors.items()}
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in found.tensors.items()} == shapes
    with pytest.raises(BaseMismatchError):
        from_peft_header(config, header, llama_base(hidden_size=8))


@pytest.mark.parametrize(
    ("data", "message"), [(b"[]", "expected a JSON object"), (b'{"peft_type": "IA3"}', "peft_type")]
)
def test_what_is_no_configuration_of_lora_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ForeignFormatError, match=f"adapter_config.json: {message}"):
        parse_config(data)
