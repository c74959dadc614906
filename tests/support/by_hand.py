"""The slow, obvious versions: tiny models of many architectures, and losses and gradients one sample at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks.models import ARCHITECTURES as ARCHITECTURES
from benchmarks.models import TINY_VOCABULARY, tiny_config
from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.samples import Sample

VOCABULARY = TINY_VOCABULARY


def tiny_model(architecture: str, *, tied: bool = True, seed: int = 0, spread: float = 0.1) -> PreTrainedModel:
    """A random model in evaluation mode; `spread` is the weights' standard deviation, and biases are not zero."""
    config = tiny_config(architecture)
    config.tie_word_embeddings = tied
    config.initializer_range = spread
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=spread)
    return model


def samples_of_all_lengths(count: int = 6, *, seed: int = 0, vocabulary: int = VOCABULARY) -> list[Sample]:
    """Prompts and responses between one token and forty, in no order; the first two are the extremes."""
    generator = torch.Generator().manual_seed(seed)

    def ids(length: int) -> list[int]:
        return torch.randint(2, vocabulary, (length,), generator=generator).tolist()

    lengths = [(1, 1), (40, 1), (1, 40), (3, 17), (25, 2), (9, 9), (2, 1), (12, 30)]
    return [Sample(ids(prompt), ids(response)) for prompt, response in lengths[:count]]


def loss_by_hand(model: nn.Module, sample: Sample, reduction: str = "mean") -> Tensor:
    """One unpadded row; the response tokens' negative log-probabilities picked out one at a time."""
    row = sample.prompt_ids + sample.response_ids
    logits = model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    losses = [
        torch.logsumexp(logits[position - 1], dim=0) - logits[position - 1, row[position]]
        for position in range(max(len(sample.prompt_ids), 1), len(row))
    ]
    total = torch.stack(losses).sum()
    return total / len(losses) if reduction == "mean" else total


def in_float64(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the model in double precision and evaluation mode, nothing frozen."""
    precise = copy.deepcopy(model).double().eval().requires_grad_(True)
    precise.set_experts_implementation("eager")  # a loop over the experts: the grouped product takes no doubles
    return precise


def gradients_by_hand(model: PreTrainedModel, samples: Sequence[Sample], reduction: str) -> list[dict[str, Tensor]]:
    """Each sample's gradient, from a backward pass of its own through a float64 copy of `model`."""
    precise = in_float64(model)
    gradients = []
    for sample in samples:
        precise.zero_grad(set_to_none=True)
        loss_by_hand(precise, sample, reduction).backward()
        gradients.append(
            {
                name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
                for name, parameter in precise.named_parameters()
            }
        )
    return gradients


def fisher_by_hand(gradients: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of the squares, not square of the mean."""
    return {name: torch.stack([one[name] ** 2 for one in gradients]).mean(dim=0) for name in gradients[0]}


def relative_error(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest relative error of any tensor, in the L2 norm.

    Some gradients are zero but for rounding (attention does not feel the bias of its keys): below 1e-8 of the largest
    tensor's norm, an error is no error.
    """
    assert set(actual) == set(expected)
    floor = 1e-8 * max(value.double().norm().item() for value in expected.values())
    return max(
        ((actual[name].double() - value.double()).norm() / max(value.double().norm().item(), floor)).item()
        for name, value in expected.items()
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same_bits(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether all tensors are equal bit for bit."""
    return set(first) == set(second) and all(torch.equal(value, second[name]) for name, value in first.items())


def distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """L2 norm of the difference of two sets of weights."""
    return sum(((value.double() - second[name].double()) ** 2).sum().item() for name, value in first.items()) ** 0.5


def error_of_fisher(model: Any, samples: Sequence[Sample], **settings: Any) -> float:
    """Relative error of the Fisher diagonal, against a backward pass a sample in double precision."""
    expected = fisher_by_hand(gradients_by_hand(model, samples, "mean"))
    return relative_error(fisher_diagonal(model, samples, **settings), expected)


def error_of_terms(model: Any, samples: Sequence[Sample], **settings: Any) -> float:
    """The same for each term of the confidence and each loss; the largest of them.

    Relative to the norm of the term, and of its summands where it is a small difference of large sums.
    """
    generator = torch.Generator().manual_seed(3)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    fisher = {name: torch.rand(shape, generator=generator) + 0.1 for name, shape in shapes.items()}
    delta = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    terms = confidence_terms(model, samples, fisher=fisher, delta=delta, **settings)
    gradients = gradients_by_hand(model, samples, "mean")

    def totals(of: Callable[[str, Tensor], Tensor]) -> Tensor:
        return torch.tensor([math.fsum(of(n, g).double().sum().item() for n, g in one.items()) for one in gradients])

    precise = in_float64(model)
    expected = {
        "linear": totals(lambda n, g: fisher[n] * delta[n] * g),
        "quadratic": totals(lambda n, g: 0.5 * fisher[n] * g**2),
        "gradient_norm": totals(lambda _, g: g**2).sqrt(),
        "losses": torch.tensor([loss_by_hand(precise, sample).item() for sample in samples]),
    }
    sizes = expected | {"linear": totals(lambda n, g: (fisher[n] * delta[n] * g).abs())}
    return max(
        ((torch.from_numpy(getattr(terms, name)) - value).norm() / sizes[name].norm()).item()
        for name, value in expected.items()
    )
