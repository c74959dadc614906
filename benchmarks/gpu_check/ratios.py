"""Fisher and terms of random Llamas against the floor: a plain forward and backward pass of the same batches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu_check.check import Check, Figure, Place
from benchmarks.problem import mixed_lengths, random_samples
from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.gradients import fused
from lwf_assets.engine.loss import sample_losses
from lwf_assets.engine.samples import batches_by_length, collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lwf_assets.engine.samples import Sample

TOKENS = 2**14
"""Token budget: all samples of a workload are one batch, or two where lengths differ by more than half."""


@dataclass(frozen=True)
class Workload:
    """A Llama's sizes, its type, how many samples of which lengths, and the bars of Fisher and terms. `compact`: Fisher
    and difference are held in bf16."""

    name: str
    sizes: dict[str, Any]
    dtype: torch.dtype
    samples: tuple[int, int, int]
    fisher_bar: float | None
    terms_bar: float | None
    gib: float
    seconds: float
    compact: bool = False


def _sizes(
    hidden: int, intermediate: int, layers: int, heads: int, groups: int, words: int, tied: bool
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": words,
        "tie_word_embeddings": tied,
    }


_135M = _sizes(576, 1536, 30, 9, 3, 49152, True)
_1B = _sizes(2048, 8192, 16, 32, 8, 128256, True)
_8B = _sizes(4096, 14336, 32, 32, 8, 128256, False)
_TINY = _sizes(16, 40, 1, 4, 2, 61, True)

WORKLOADS = (
    Workload("1B", _1B, torch.bfloat16, (32, 128, 256), 1.6, 2.2, 30, 25),
    Workload("135M", _135M, torch.bfloat16, (64, 64, 128), 1.8, 1.8, 10, 25),
    Workload("8B", _8B, torch.bfloat16, (16, 128, 256), 1.4, 2.5, 76, 45, compact=True),
    Workload("135M fp32", _135M, torch.float32, (64, 64, 128), None, None, 15, 20),
)


def ratios(workload: Workload, place: Place) -> list[Figure]:
    """Seconds over those of the floor, by the kernels and by the loop that they take the place of."""
    model, samples = model_of(workload, place), _samples(workload, place)
    floor = place.seconds(partial(_floor, model, samples))
    model.zero_grad(set_to_none=True)
    place.clear()
    found = [_figure(f"Fisher, {workload.name}", partial(_fisher, model, samples), floor, workload.fisher_bar, place)]
    place.clear()
    held = torch.bfloat16 if workload.compact else torch.float32
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    fisher, delta = (
        {name: torch.rand(shape, device=place.device, dtype=held).mul_(1e-3) for name, shape in shapes.items()}
        for _ in range(2)
    )

    def terms() -> None:
        confidence_terms(model, samples, fisher=fisher, delta=delta, token_budget=TOKENS)

    found.append(_figure(f"terms, {workload.name}", terms, floor, workload.terms_bar, place))
    return found


def _figure(what: str, call: Callable[[], None], floor: float, bar: float | None, place: Place) -> Figure:
    with fused.kernels_used(True):
        seconds = place.seconds(call)
        peak = place.peak_gib(call)
    by_loop = None
    # The loop needs more memory: where it does not fit, there is nothing to compare with.
    with fused.kernels_used(False), suppress(torch.OutOfMemoryError):
        by_loop = place.seconds(call, rounds=1) / floor
    return Figure(
        what,
        seconds / floor,
        None if place.tiny else bar,
        notes={"seconds": seconds, "floor, seconds": floor, "by the loop": by_loop, "peak, GiB": peak},
    )


def _floor(model: PreTrainedModel, samples: list[Sample]) -> None:
    model.zero_grad(set_to_none=True)
    for indices in batches_by_length(samples, TOKENS):
        batch = collate([samples[index] for index in indices]).to(model.device)
        sample_losses(model, batch).sum().backward()  # type: ignore[no-untyped-call]


def _fisher(model: PreTrainedModel, samples: list[Sample]) -> None:
    fisher_diagonal(model, samples, token_budget=TOKENS)


def model_of(workload: Workload, place: Place) -> PreTrainedModel:
    """A random Llama, made on the device: random numbers for 8B parameters take minutes on a CPU."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = LlamaConfig(**(_TINY if place.tiny else workload.sizes), max_position_embeddings=2048, **special)
    torch.manual_seed(0)
    with place.device:
        return AutoModelForCausalLM.from_config(config, dtype=workload.dtype).eval()


def _samples(workload: Workload, place: Place) -> list[Sample]:
    count, shortest, longest = (3, 4, 7) if place.tiny else workload.samples
    vocabulary = (_TINY if place.tiny else workload.sizes)["vocab_size"]
    return random_samples(mixed_lengths(count, shortest, longest), vocabulary)


RATIOS = tuple(
    Check(f"ratios of {w.name}", f"Llama {w.name}", partial(ratios, w), seconds=w.seconds, gib=w.gib) for w in WORKLOADS
)
