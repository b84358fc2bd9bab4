"""PEFT to AIR and back, against safetensors loading and saving the same tensors.

Targets: each way at most 1.2 times the wall time of ``load_file`` and ``save_file`` of the same tensors; peak memory
above the interpreter at most 1.1 times the largest tensor plus 32 MiB; an AIR file at most 2 % larger than the PEFT
file, fused splits included.
"""

from __future__ import annotations

import json
import shutil
import tempfile
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
_CASES = {
    "llama 7B, 7 modules": (_LLAMA, "model.layers", _LLAMA_MODULES),
    "gpt_neox 6.9B, fused qkv": (_NEOX, "gpt_neox.layers", _NEOX_MODULES),
}


def _make(folder: Path, config: dict[str, object], blocks: str, modules: dict[str, tuple[int, int]], rank: int) -> None:
    """Write a base config and a PEFT adapter of random bfloat16 numbers."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(int(str(config["num_hidden_layers"]))):
        for module, (width_in, width_out) in modules.items():
            name = f"base_model.model.{blocks}.{layer}.{module}"
            for factor, shape in (("lora_A", (rank, width_in)), ("lora_B", (width_out, rank))):
                tensors[f"{name}.{factor}.weight"] = torch.randn(shape, generator=generator).to(torch.bfloat16)
    (folder / "peft").mkdir(parents=True)
    safetensors.torch.save_file(tensors, folder / "peft" / "adapter_model.safetensors", metadata={"format": "pt"})
    adapter = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted({module.rpartition(".")[2] for module in modules}),
    }
    (folder / "peft" / "adapter_config.json").write_text(json.dumps(adapter))
    (folder / "base.json").write_text(json.dumps(config))


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

    load_save, there, back = in_turns([peer, to_air, to_peft], runs=runs, before=clear)
    print(f"  {size / 1e6:.0f} MB; seconds: median [least, most]")
    print(f"  safetensors load + save  {load_save.text()}")
    for name, times in (("PEFT -> AIR", there), ("AIR -> PEFT", back)):
        print(f"  {name}              {times.text()}  ratio {times.median / load_save.median:.2f} (target 1.2)")
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
@click.option("--runs", default=5, show_default=True)
@click.option("--rank", default=64, show_default=True)
def main(runs: int, rank: int) -> None:
    print(f"machine: {machine()}")
    for title, (config, blocks, modules) in _CASES.items():
        folder = Path(tempfile.mkdtemp(prefix="ual-round-trip-"))
        try:
            print(f"{title}, rank {rank}, bfloat16")
            _make(folder, config, blocks, modules, rank)
            _measure(folder, runs)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
