"""torch.func: the gradient of one sample's loss as a function, mapped over the samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from benchmarks.methods.method import Method, Result
from benchmarks.problem import Problem
from lwf_assets.engine.samples import IGNORED, Batch


def _prepare(problem: Problem) -> Callable[[], Result]:
    # torch has no batching rule for its fused attention on a CPU and loops there over the samples, which is faster than
    # the attention that it has a rule for (attn_implementation="eager").
    model = problem.model
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(weights: dict[str, Tensor], ids: Tensor, positions: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        # No attention mask: padding stands on the right, where causal attention does not look. (transformers branches
        # on the mask's contents, which vmap forbids.)
        inputs = {"input_ids": ids.unsqueeze(0), "use_cache": False, "logits_to_keep": positions}
        logits = functional_call(model, weights, (), inputs).logits[0]
        return (functional.cross_entropy(logits, targets, reduction="none") * shares).sum()

    per_sample = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0))

    def run() -> Result:
        sums = {name: torch.zeros_like(value) for name, value in parameters.items()}
        for batch in problem.batches():
            gradients = per_sample(parameters, batch.input_ids, *_where_loss_is(batch))
            while gradients:
                name, value = gradients.popitem()
                sums[name] += value.square_().sum(dim=0)
        return {name: total.div_(len(problem.samples)) for name, total in sums.items()}

    return run


def _where_loss_is(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Positions whose logits predict a response token, the tokens, and the share of each in its sample's mean: all
    [batch, longest response], the share 0 where a response is shorter."""
    counted = batch.labels[:, 1:] != IGNORED
    most = int(counted.sum(dim=1).max())
    order = counted.int().sort(dim=1, descending=True, stable=True)
    positions = order.indices[:, :most]
    shares = order.values[:, :most] / counted.sum(dim=1, keepdim=True)
    return positions, batch.labels[:, 1:].gather(1, positions).clamp_min(0), shares


FISHER = Method("torch_func", "torch.func: `vmap(grad)`", "fisher", "peer", _prepare, chunks=(2, 4, 8))
