"""Tokens per second of this project's generation on the card."""

from __future__ import annotations

import torch

import benchmarks.generation
from benchmarks.gpu_check.check import Check, Figure, Place, Skipped


def throughput(place: Place) -> list[Figure]:
    """256 prompts x 64 tokens of a random 135M Llama at the study's defaults, the second run."""
    measure = getattr(benchmarks.generation, "generation_throughput", None)
    if measure is None:
        raise Skipped("this version has no measurement of it")
    tokens = measure(device=place.device, tiny=place.tiny, dtype=torch.bfloat16)
    return [Figure("generation, 135M", tokens, None if place.tiny else 20_000, " tokens/s", at_least=True)]


GENERATION = Check("generation", "Generation", throughput, seconds=60, gib=10)
