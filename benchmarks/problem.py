"""What every method of the race is given: a model, samples, and the tensors that the confidence terms are made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lwf_assets.engine.samples import Batch, Sample, batches_by_length, collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Problem:
    """`fisher` and `delta` (theta_base - theta_L*) are fp32, by parameter name, tied parameters once. `chunk` is how
    many samples a batch may have; None for as many as this project takes."""

    model: PreTrainedModel
    samples: Sequence[Sample]
    fisher: dict[str, Tensor]
    delta: dict[str, Tensor]
    chunk: int | None = None

    def batches(self) -> list[Batch]:
        """The samples in the batches that this project makes of them, in smaller ones if there is a chunk."""
        groups = batches_by_length(self.samples, batch_size=self.chunk)
        return [collate([self.samples[index] for index in indices]) for indices in groups]

    def with_samples(self, samples: Sequence[Sample]) -> Problem:
        """The same model and tensors with other samples."""
        return replace(self, samples=samples)

    def in_chunks(self, chunk: int | None) -> Problem:
        """The same in batches of at most `chunk` samples."""
        return replace(self, chunk=chunk)


def new_problem(model: PreTrainedModel, samples: Sequence[Sample], *, seed: int = 0) -> Problem:
    """A problem with a random Fisher diagonal and a random distance: their values change no measured time."""
    generator = torch.Generator().manual_seed(seed)
    fisher, delta = {}, {}
    for name, parameter in model.named_parameters():
        fisher[name] = torch.rand(parameter.shape, generator=generator).mul_(1e-3)
        delta[name] = torch.randn(parameter.shape, generator=generator).mul_(1e-3)
    return Problem(model, samples, fisher, delta)


def random_samples(lengths: Sequence[int], vocabulary: int, *, seed: int = 0) -> list[Sample]:
    """One sample of each length (tokens), of random token ids; the last third of each is its response."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for length in lengths:
        ids = torch.randint(2, vocabulary, (length,), generator=generator).tolist()
        response = max(1, length // 3)
        samples.append(Sample(ids[:-response], ids[-response:]))
    return samples


def mixed_lengths(count: int, shortest: int, longest: int, *, seed: int = 0) -> list[int]:
    """`count` random lengths between the two, both included, in tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
