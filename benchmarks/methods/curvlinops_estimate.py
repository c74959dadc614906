"""curvlinops: the empirical Fisher as a linear operator, whose diagonal is estimated from products with random vectors.

The operator wants a loss function of a known kind. A squared error whose target is half below the output has gradient
one, so that a model which gives each sample's loss makes it the empirical Fisher of these losses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.methods.method import Method, Result
from benchmarks.problem import Problem
from lwf_assets.engine.loss import sample_losses
from lwf_assets.engine.samples import Batch

PRODUCTS = 1
"""Products with random vectors: the fewest that give an estimate, and so the least time it can take."""


class _Losses(nn.Module):
    """Each sample's loss as the model's output, [batch, 1]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return sample_losses(self.model, Batch(**batch)).unsqueeze(1)


def _prepare(problem: Problem) -> Callable[[], Result]:
    from curvlinops import EFLinearOperator, hutchinson_diag

    model = copy.deepcopy(problem.model)
    model.set_attn_implementation("eager")  # torch has no forward mode for its fused attention on a CPU
    losses = _Losses(model)
    named = dict(model.named_parameters())

    def run() -> Result:
        data = []
        for batch in problem.batches():
            inputs = dict(vars(batch))
            with torch.no_grad():
                data.append((inputs, losses(inputs) - 0.5))
        operator = EFLinearOperator(
            losses,
            nn.MSELoss(reduction="sum"),
            list(named.values()),
            data,
            check_deterministic=False,
            batch_size_fn=lambda inputs: inputs["input_ids"].shape[0],
        )
        diagonal = hutchinson_diag(operator, num_matvecs=PRODUCTS).detach().div_(len(problem.samples))
        pieces = diagonal.split([parameter.numel() for parameter in named.values()])
        return {n: piece.view_as(p) for (n, p), piece in zip(named.items(), pieces, strict=True)}

    return run


FISHER = Method(
    "curvlinops",
    "curvlinops: `EFLinearOperator`, `hutchinson_diag`",
    "fisher",
    "peer",
    _prepare,
    package="curvlinops-for-pytorch",
    remark=f"an estimate, from {PRODUCTS} random vector; eager attention",
)
