"""Tokens per second of this project's generation on the card."""

from __future__ import annotations

from benchmarks.generation_throughput import generation_throughput
from benchmarks.gpu_check.check import Check, Figure, Place
from benchmarks.gpu_check.ratios import WORKLOADS, model_of
from lwf_assets.engine.generation.decoding import Decoding

BAR = 20_000


def throughput(place: Place) -> list[Figure]:
    """256 prompts x 64 tokens of a random 135M Llama at temperature 1, by the way that a study takes for so much work,
    and by the plain one."""
    workload = next(workload for workload in WORKLOADS if workload.name == "135M")
    prompts, new_tokens, batch_size = (4, 4, 2) if place.tiny else (256, 64, 256)
    ways: tuple[Decoding, ...] = ("plain",) if place.device.type == "cpu" else ("plain", "captured")
    found = generation_throughput(
        model_of(workload, place), prompts=prompts, new_tokens=new_tokens, batch_size=batch_size, ways=ways
    )["ways"]
    own = found[ways[-1]]
    notes = {
        "in the first run": own["first"],
        "plain": found["plain"]["second"],
        "by model.generate": found["model.generate"]["second"],
        "responses that are the plain way's": own["same"],
    }
    return [Figure("generation, 135M", own["second"], None if place.tiny else BAR, " tokens/s", True, notes)]


GENERATION = Check("generation", "Generation", throughput, seconds=60, gib=10)
