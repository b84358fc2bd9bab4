"""PEFT to AIR and back, against safetensors loading and saving the same tensors.

Targets: each way at most 1.2 times the wall time of ``load_file`` and ``save_file`` of the same tensors, which check
nothing; the same with a sha256 of the result, as a reader who wants to know would add, is shown beside. Peak memory
above the interpreter at most 1.1 times the largest tensor plus 32 MiB; an AIR file at most 2 % larger than the PEFT
file, fused splits included.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import safetensors.torch
import torch

from benchmarks.measure import child_peak_bytes, in_turns, machine
from ual_registry.workflows.convert import convert_to_air, convert_to_peft

_LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
}
_NEOX = {
    "model_type": "gpt_neox",
    "architectures": ["GPTNeoXForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 16384,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 50432,
}
_LLAMA_MODULES = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (4096, 4096),
    "self_attn.v_proj": (4096, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (4096, 11008),
    "mlp.up_proj": (4096, 11008),
    "mlp.down_proj": (11008, 4096),
}
_NEOX_MODULES = {
    "attention.query_key_value": (4096, 3 * 4096),
    "attention.dense": (4096, 4096),
    "mlp.dense_h_to_4h": (4096, 16384),
    "mlp.dense_4h_to_h": (16384, 4096),
}
_SMOL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}
_SMOL_MODULES = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (576, 192),
    "self_attn.v_proj": (576, 192),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (576, 1536),
    "mlp.up_proj": (576, 1536),
    "mlp.down_proj": (1536, 576),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One adapter to convert."""

    title: str
    config: dict[str, object]
    blocks: str
    modules: dict[str, tuple[int, int]]
    rank: int
    dtype: torch.dtype


_CASES = (
    Case(
        title="llama 7B, all 7 modules of 32 layers, rank 64, bfloat16",
        config=_LLAMA,
        blocks="model.layers",
        modules=_LLAMA_MODULES,
        rank=64,
        dtype=torch.bfloat16,
    ),
    Case(
        title="gpt_neox 6.9B, fused query_key_value, rank 64, bfloat16",
        config=_NEOX,
        blocks="gpt_neox.layers",
        modules=_NEOX_MODULES,
        rank=64,
        dtype=torch.bfloat16,
    ),
    Case(
        title="SmolLM2-135M, all 7 modules of 30 layers, rank 8, float32",
        config=_SMOL,
        blocks="model.layers",
        modules=_SMOL_MODULES,
        rank=8,
        dtype=torch.float32,
    ),
)


def _make(folder: Path, case: Case) -> None:
    """Write a base config and a PEFT adapter of random numbers."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(int(str(case.config["num_hidden_layers"]))):
        for module, (width_in, width_out) in case.modules.items():
            name = f"base_model.model.{case.blocks}.{layer}.{module}"
            for factor, shape in (("lora_A", (case.rank, width_in)), ("lora_B", (width_out, case.rank))):
                tensors[f"{name}.{factor}.weight"] = torch.randn(shape, generator=generator).to(case.dtype)
    (folder / "peft").mkdir(parents=True)
    safetensors.torch.save_file(tensors, folder / "peft" / "adapter_model.safetensors", metadata={"format": "pt"})
    adapter = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": case.rank,
        "lora_alpha": 2 * case.rank,
        "target_modules": sorted({module.rpartition(".")[2] for module in case.modules}),
    }
    (folder / "peft" / "adapter_config.json").write_text(json.dumps(adapter))
    (folder / "base.json").write_text(json.dumps(case.config))


def _measure(folder: Path, runs: int) -> None:
    peft, base = folder / "peft", folder / "base.json"
    weights = peft / "adapter_model.safetensors"
    size = weights.stat().st_size

    convert_to_air(peft, folder / "source.air", base=base)

    def clear() -> None:
        """Let everybody write new files: replacing a large one makes the file system flush it first."""
        for name in ("copy.safetensors", "out.air"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "back", ignore_errors=True)

    def peer() -> None:
        safetensors.torch.save_file(safetensors.torch.load_file(weights), folder / "copy.safetensors")

    def to_air() -> None:
        convert_to_air(peft, folder / "out.air", base=base)

    def to_peft() -> None:
        convert_to_peft(folder / "source.air", folder / "back")

    def checked_peer() -> None:
        peer()
        with (folder / "copy.safetensors").open("rb") as stream:
            hashlib.file_digest(stream, "sha256")

    tasks = [peer, checked_peer, to_air, to_peft]
    load_save, with_digest, there, back = in_turns(tasks, runs=runs, before=clear)
    print(f"  {size / 1e6:.0f} MB; seconds: median [least, most]")
    print(f"  safetensors load + save  {load_save.text()}")
    print(f"  the same and a sha256    {with_digest.text()}")
    for name, times in (("PEFT -> AIR", there), ("AIR -> PEFT", back)):
        ratio, checked = times.median / load_save.median, times.median / with_digest.median
        print(f"  {name}              {times.text()}  ratio {ratio:.2f} (target 1.2), with a sha256 {checked:.2f}")
    _measure_memory(folder, peft, base)
    air = (folder / "source.air").stat().st_size
    print(f"  AIR file {100 * (air / size - 1):+.2f} % of the PEFT file (target +2 %)")


def _measure_memory(folder: Path, peft: Path, base: Path) -> None:
    """Compare peaks of whole processes: a bare interpreter, and each conversion."""
    header = json.loads((peft / "adapter_model.safetensors").read_bytes()[8 : 8 + _header_length(peft)])
    largest = max(row["data_offsets"][1] - row["data_offsets"][0] for name, row in header.items() if name[0] != "_")
    limit = (1.1 * largest + 32 * 2**20) / 2**20
    bare = child_peak_bytes(["-c", "pass"])
    for name, source, target in (("PEFT -> AIR", peft, "memory.air"), ("AIR -> PEFT", folder / "source.air", "memory")):
        options = ["--base", str(base)] if source == peft else []
        command = ["-m", "ual_registry", "convert", str(source), str(folder / target), "--force", *options]
        above = (child_peak_bytes(command) - bare) / 2**20
        print(f"  {name} peak memory {above:.1f} MiB above the interpreter (target {limit:.1f})")


def _header_length(peft: Path) -> int:
    with (peft / "adapter_model.safetensors").open("rb") as stream:
        return int.from_bytes(stream.read(8), "little")


@click.command()
@click.option("--runs", default=7, show_default=True)
def main(runs: int) -> None:
    print(f"machine: {machine()}")
    for case in _CASES:
        folder = Path(tempfile.mkdtemp(prefix="ual-round-trip-"))
        try:
            print(case.title)
            _make(folder, case)
            _measure(folder, runs)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
