"""What vLLM says after a prompt, with and without an adapter; runs in vLLM's own environment.

    python vllm_worker.py BASE ADAPTER ANSWER TOKEN ...

ANSWER becomes a JSON document: the log-probabilities of the likeliest next tokens, ``base`` and ``adapter``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def main(base: str, adapter: str, answer: str, prompt: list[int]) -> None:
    """Ask vLLM twice."""
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    vllm = importlib.import_module("vllm")
    request = importlib.import_module("vllm.lora.request").LoRARequest("adapter", 1, adapter)
    model: Any = vllm.LLM(
        base,
        dtype="float32",
        enable_lora=True,
        max_lora_rank=16,
        enforce_eager=True,
        max_model_len=64,
        skip_tokenizer_init=True,
        max_logprobs=64,
    )
    settings = vllm.SamplingParams(max_tokens=1, temperature=0, logprobs=20, detokenize=False)
    found = {}
    for name, own in (("base", None), ("adapter", request)):
        (said,) = model.generate([{"prompt_token_ids": prompt}], settings, lora_request=own)
        found[name] = {int(token): row.logprob for token, row in said.outputs[0].logprobs[0].items()}
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], [int(word) for word in sys.argv[4:]])
