"""Tokens per second of each way of decoding that this machine has, in its first run and in its second.

    python -m benchmarks.generation_throughput [--prompts 256] [--new-tokens 64] [--batch 256] [--model DIRECTORY]

Without a directory, a random Llama of the size of SmolLM2-135M: in float32 on a CPU, in bfloat16 on a GPU. A GPU adds
the captured and the compiled step; vLLM is measured where it is installed and a directory is given.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.generation import random_prompts
from benchmarks.models import llama
from benchmarks.plan import FULL
from lwf_assets.engine.checkpoint import load_model
from lwf_assets.engine.generation import Sampling, generate
from lwf_assets.engine.generation.decoding import Decoding
from lwf_assets.engine.precision import best_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Responses = list[list[int]]
ON_A_GPU: tuple[Decoding, ...] = ("plain", "captured", "compiled")


def generation_throughput(
    model: PreTrainedModel,
    *,
    prompts: int = 256,
    new_tokens: int = 64,
    batch_size: int = 256,
    folder: Path | None = None,
    ways: tuple[Decoding, ...] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Samples responses to random prompts of 4 to 12 tokens at temperature 1, none of which ends early.

    Args:
        model: on the device that is measured, in eval mode; it needs no tokenizer.
        folder: the directory of the same model, for vLLM.
        ways: of decoding; all of the device by default.
        say: called with a line for each way.

    Returns:
        The sizes, the device, and by way `first` and `second`: tokens per second of the first run, with what compiling
        and capturing take, and of the second; `same`: the share of responses that are the plain way's, once it was run.
    """
    asked = random_prompts(prompts, model.config.vocab_size)
    ways = ways or (ON_A_GPU if model.device.type == "cuda" else ("plain",))

    def ours(way: Decoding) -> Responses:
        return generate(
            model,
            asked,
            max_new_tokens=new_tokens,
            pad_id=0,
            end_ids=[],
            temperature=1.0,
            batch_size=batch_size,
            decoding=way,
        )

    calls: dict[str, Callable[[], Responses]] = {
        "model.generate": lambda: _sampled_by_transformers(model, asked, new_tokens, batch_size)
    }
    calls |= {way: partial(ours, way) for way in ways}
    if folder is not None and model.device.type == "cuda" and find_spec("vllm") is not None:
        calls["vllm"] = lambda: _by_vllm(folder, asked, new_tokens, str(model.dtype).removeprefix("torch."))
    tokens, plain = prompts * new_tokens, None
    found: dict[str, dict[str, float | None]] = {}
    for way, call in calls.items():
        seconds = list[float]()
        for _ in range(2):
            began = time.perf_counter()
            responses = call()
            seconds.append(time.perf_counter() - began)
        plain = responses if way == "plain" else plain
        found[way] = {
            "first": tokens / seconds[0],
            "second": tokens / seconds[1],
            "same": None if plain is None else sum(map(list.__eq__, responses, plain)) / prompts,
        }
        say(f"{way}: {found[way]['first']:,.0f} tokens/s, in the second run {found[way]['second']:,.0f}")
    return {
        "prompts": prompts,
        "new_tokens": new_tokens,
        "batch_size": batch_size,
        "device": str(model.device),
        "dtype": str(model.dtype),
        "ways": found,
    }


@torch.no_grad()
def _sampled_by_transformers(
    model: PreTrainedModel, prompts: list[list[int]], new_tokens: int, batch_size: int
) -> Responses:
    """A plain call, sorted by length and padded on the left, that draws with torch's generator."""
    ordered = sorted(prompts, key=len, reverse=True)
    responses: Responses = []
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        longest = len(batch[0])
        rows = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in batch], device=model.device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch], device=model.device)
        output = model.generate(
            input_ids=rows, attention_mask=mask, max_new_tokens=new_tokens, min_new_tokens=new_tokens,
            do_sample=True, top_k=0, pad_token_id=0,
        )  # fmt: skip
        responses += output[:, longest:].tolist()
    return responses


def _by_vllm(folder: Path, prompts: list[list[int]], new_tokens: int, dtype: str) -> Responses:
    """Loading included: it is loaded for each corpus."""
    from lwf_assets.engine.generation.vllm_engine import generate_with_vllm

    return generate_with_vllm(folder, prompts, Sampling(new_tokens, [], temperature=1.0), dtype=dtype)


def _random_135m() -> PreTrainedModel:
    size, device = FULL.sizes[-1], best_device()
    sizes = {name: value for name, value in asdict(size).items() if name != "name"}
    model: PreTrainedModel = llama(**sizes).to(device).eval()
    return model.to(torch.bfloat16) if device.type == "cuda" else model


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.generation_throughput")
    options.add_argument("--prompts", type=int, default=256)
    options.add_argument("--new-tokens", type=int, default=64)
    options.add_argument("--batch", type=int, default=256)
    options.add_argument("--model", type=Path)
    given = options.parse_args()
    model = _random_135m() if given.model is None else load_model(given.model)
    found = generation_throughput(
        model, prompts=given.prompts, new_tokens=given.new_tokens, batch_size=given.batch, folder=given.model, say=print
    )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
