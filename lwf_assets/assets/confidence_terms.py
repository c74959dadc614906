"""Asset confidence_terms: the three terms of the forgetting confidence of every sample of D_self.

With d = theta_base - theta_L* and g = dL(x)/dtheta at theta_base,

    FC(x) = 1/2 sum F (d - alpha g)^2 = 1/2 sum F d^2  -  alpha sum F d g  +  alpha^2 1/2 sum F g^2
                                        constant          linear             quadratic

The expanded form is computed, in fp32 products with fp64 totals: at |theta| = 0.02 the literal subtraction in low
precision loses alpha*g altogether. Keeping the terms apart lets any alpha be tried by a query, with no new gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lwf_assets.engine.gradients.per_sample import reduce_per_sample_gradients
from lwf_assets.engine.loss import LossReduction
from lwf_assets.engine.samples import TOKEN_BUDGET, Sample
from lwf_assets.errors import LwfError
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel

    from lwf_assets.engine.gradients.blocks import GradientsOfSamples
    from lwf_assets.graph.work import Work

FILE = "confidence_terms.parquet"


@dataclass(frozen=True)
class ConfidenceTerms:
    """FC = constant - alpha * linear + alpha^2 * quadratic, per sample.

    `gradient_norm` (L2, all parameters) and `losses` (nats, reduced as asked) come from the same backward pass.
    """

    constant: float
    linear: NDArray[np.float64]
    quadratic: NDArray[np.float64]
    gradient_norm: NDArray[np.float64]
    losses: NDArray[np.float64]

    def forgetting_confidence(self, alpha: float) -> NDArray[np.float64]:
        """FC of every sample for one alpha."""
        return self.constant - alpha * self.linear + alpha**2 * self.quadratic


class _Terms:
    """Sums the linear and the quadratic term of each sample."""

    def __init__(self, count: int, fisher: Mapping[str, Tensor], delta: Mapping[str, Tensor]) -> None:
        self.fisher = fisher
        self.delta = delta
        device = next(iter(fisher.values())).device
        self.linear, self.quadratic, self.squared_norm = torch.zeros(3, count, dtype=torch.float64, device=device)

    def add(self, name: str, rows: slice | EllipsisType, gradients: Iterable[GradientsOfSamples]) -> None:
        fisher = self.fisher[name][rows].flatten()
        pull = fisher * self.delta[name][rows].flatten()
        for samples, some in gradients:
            values = some.reshape(len(samples), -1).float()
            self.linear.index_add_(0, samples, _inner_products(values, pull))
            squares = values.square_()
            self.squared_norm.index_add_(0, samples, squares.sum(dim=1).double())
            self.quadratic.index_add_(0, samples, _inner_products(squares, fisher), alpha=0.5)

    def add_rows(self, name: str, rows: Tensor, gradients: GradientsOfSamples) -> None:
        samples, values = gradients
        fisher, delta = self.fisher[name][rows], self.delta[name][rows]
        for total, products in (
            (self.linear, values * fisher * delta),
            (self.squared_norm, values.square()),
            (self.quadratic, 0.5 * values.square() * fisher),
        ):
            total.index_add_(0, samples, products.flatten(1).sum(dim=1, dtype=torch.float64))


def _inner_products(values: Tensor, weights: Tensor) -> Tensor:
    """Of each row of [n, elements] with [elements]; fp64, of sums in fp32 within the block."""
    if values.device.type == "cpu":
        # Faster than a product of matrix and vector, for which a few rows are too few.
        return torch.stack([torch.dot(row, weights) for row in values]).double()
    return torch.mv(values, weights).double()


BLOCK = 2**18
"""Elements of which a weighted copy may exist."""


def squared_norm(values: Tensor, weights: Tensor | None = None) -> float:
    """Sum of weights * values^2: block by block in fp32, over the blocks in fp64, with no copy of the whole."""
    blocks = torch.split(values.reshape(-1), BLOCK)
    weighted = blocks if weights is None else map(torch.mul, blocks, torch.split(weights.reshape(-1), BLOCK))
    sums = [torch.dot(block, other) for block, other in zip(blocks, weighted, strict=True)]
    return torch.stack(sums).sum(dtype=torch.float64).item()


def confidence_terms(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    *,
    fisher: Mapping[str, Tensor],
    delta: Mapping[str, Tensor],
    reduction: LossReduction = "mean",
    batch_size: int | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress = SILENT,
) -> ConfidenceTerms:
    """The terms of FC for each of `samples` at the base model.

    Args:
        model: the base model; left as found.
        samples: D_self, in any order; results keep it.
        fisher: diagonal Fisher of D_L by parameter name, as `fisher_diagonal` gives it.
        delta: theta_base - theta_L*, by the same names.
        reduction: a sample's loss is the mean or the sum over its response tokens.
        batch_size: samples in memory at once, at most.
        token_budget: tokens in memory at once, padding included. Neither changes the result.
        progress: told of every sample.

    Raises:
        ValueError: `fisher` or `delta` does not name exactly the model's parameters, or differs in a shape.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for label, tensors in (("fisher", fisher), ("delta", delta)):
        if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            odd = sorted(set(tensors) ^ set(shapes)) or [n for n in shapes if tensors[n].shape != shapes[n]]
            raise ValueError(f"{label} does not fit the model: see {', '.join(odd[:3])}")
    weights = {name: value.to(model.device, torch.float32) for name, value in fisher.items()}
    deltas = {name: value.to(model.device, torch.float32) for name, value in delta.items()}
    terms = _Terms(len(samples), weights, deltas)
    losses = reduce_per_sample_gradients(
        model,
        samples,
        terms,
        loss_reduction=reduction,
        batch_size=batch_size,
        token_budget=token_budget,
        progress=progress,
    )
    return ConfidenceTerms(
        constant=0.5 * sum(squared_norm(value, weights[name]) for name, value in deltas.items()),
        linear=terms.linear.cpu().numpy(),
        quadratic=terms.quadratic.cpu().numpy(),
        gradient_norm=terms.squared_norm.sqrt().cpu().numpy(),
        losses=np.array(losses),
    )


def materialize(work: Work) -> dict[str, Any]:
    """Write the terms of every sample of D_self that says something, with the sample itself."""
    from safetensors.torch import load_file

    from lwf_assets.assets import fisher_diagonal, self_generated_corpus
    from lwf_assets.assets.reference_checkpoint import optimum
    from lwf_assets.engine.checkpoint import load_model, parameter_difference
    from lwf_assets.store.tables import read_rows, write_rows

    corpus = read_rows(work.input("self_generated_corpus") / self_generated_corpus.FILE)
    # In a mixed cell the learning task's own prompts are no forgetting task.
    rows = [row for row in corpus if row["response"].strip() and row["source_task"] != work.learning_task]
    if not rows:
        raise LwfError(
            f"self_generated_corpus[{work.forgetting_task}] holds no response to score for {work.learning_task}"
        )
    model = load_model(work.input("base_model"))
    delta = parameter_difference(model, load_model(optimum(work.input("reference_checkpoint"))))
    work.progress.begin("Confidence terms", len(rows))
    terms = confidence_terms(
        model,
        [Sample(row["prompt_ids"], row["response_ids"]) for row in rows],
        fisher=load_file(work.input("fisher_diagonal") / fisher_diagonal.FILE),
        delta=delta,
        reduction=work.study.confidence.loss_reduction,
        token_budget=work.study.model.token_budget,
        progress=work.progress,
    )
    by_token = terms.losses if work.study.confidence.loss_reduction == "mean" else terms.losses / _lengths(rows)
    write_rows(
        work.out / FILE,
        [
            {
                "id": row["id"],
                "source_task": row["source_task"],
                "prompt": row["prompt"],
                "response": row["response"],
                "prompt_ids": row["prompt_ids"],
                "response_ids": row["response_ids"],
                "tokens": row["tokens"],
                "constant": terms.constant,
                "linear": float(terms.linear[index]),
                "quadratic": float(terms.quadratic[index]),
                "gradient_norm": float(terms.gradient_norm[index]),
                "nll": float(by_token[index]),
            }
            for index, row in enumerate(rows)
        ],
    )
    return {
        "samples": len(rows),
        "left_out": len(corpus) - len(rows),
        "constant": terms.constant,
        "linear_mean": float(terms.linear.mean()),
        "linear_spread": float(terms.linear.std()),
        "quadratic_mean": float(terms.quadratic.mean()),
        "quadratic_spread": float(terms.quadratic.std()),
        "distance_to_optimum": float(np.sqrt(sum(squared_norm(d) for d in delta.values()))),
    }


def _lengths(rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    return np.array([len(row["response_ids"]) for row in rows], dtype=np.float64)
