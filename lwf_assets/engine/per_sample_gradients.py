"""The gradient of each sample's loss, handed to a reduction parameter by parameter.

Both the Fisher diagonal and the confidence terms are sums over the elements of per-sample gradients that never need to
be kept. They give this module a `Reduction` and get called once per sample and parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from lwf_assets.engine.left_as_found import left_as_found
from lwf_assets.engine.loss import LossReduction, sample_losses
from lwf_assets.engine.samples import Sample, batches_by_length, collate
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch.nn import Parameter
    from transformers import PreTrainedModel


class Reduction(Protocol):
    """What becomes of the per-sample gradients."""

    def add(self, index: int, name: str, gradient: Tensor) -> None:
        """Sample `index`'s gradient of the parameter `name`, in the parameter's shape and type. Not to be kept."""


def reduce_per_sample_gradients(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    reduction: Reduction,
    *,
    loss_reduction: LossReduction = "mean",
    batch_size: int = 8,
    progress: Progress = SILENT,
) -> list[float]:
    """Feed every sample's gradient to `reduction`; give back each sample's loss, in nats.

    A tied parameter is one parameter: its gradient is the sum over its uses. A parameter that a sample does not reach
    (an idle expert) has gradient zero and is not passed on. `batch_size` bounds how many samples are in memory at once
    and never changes a result: samples are differentiated one by one, which is right for every architecture.
    """
    losses = [0.0] * len(samples)
    current = 0

    def receive(name: str, gradient: Tensor) -> None:
        reduction.add(current, name, gradient)

    with left_as_found(model) as parameters, gradients_handed_to(receive, parameters):
        for indices in batches_by_length(samples, batch_size):
            for current in indices:
                batch = collate([samples[current]]).to(model.device)
                with torch.enable_grad():
                    loss = sample_losses(model, batch, reduction=loss_reduction)[0]
                torch.autograd.backward(loss)
                losses[current] = loss.item()
                progress.advance()
    return losses


@contextmanager
def gradients_handed_to(receive: Callable[[str, Tensor], None], parameters: Mapping[str, Parameter]) -> Iterator[None]:
    """Within the block, a backward pass hands each parameter's gradient to `receive` as soon as it is complete and
    keeps none: the gradient of the whole model never exists at once. Gradients that were there before are restored."""
    kept = {name: parameter.grad for name, parameter in parameters.items()}
    handles = []

    def hand_over(name: str) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            gradient, parameter.grad = parameter.grad, None
            assert gradient is not None
            receive(name, gradient)

        return hook

    try:
        for name, parameter in parameters.items():
            parameter.grad = None
            handles.append(parameter.register_post_accumulate_grad_hook(hand_over(name)))  # type: ignore[no-untyped-call]
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, parameter in parameters.items():
            parameter.grad = kept[name]
