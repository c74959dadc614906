"""L2-SP: weight decay towards the starting point instead of towards zero."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from lwf_assets.engine.samples import Batch


class L2SP:
    """weight / 2 times the squared Euclidean distance of the trainable parameters from the starting point.

    Li, Grandvalet and Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks" (ICML
    2018). A language model has no new head, so their second term, decay of new parameters to zero, does not occur.
    Tied parameters count once.

    Args:
        start: the pre-trained model. Its trainable parameters are copied now, so it may itself be the model that is
            trained. Also before a resume, hand in the pre-trained model and not the checkpoint: then a resumed run
            equals an uninterrupted one.
        weight: alpha of the paper.

    Raises:
        ValueError: the weight is not positive, or nothing is trainable.
    """

    def __init__(self, start: PreTrainedModel, *, weight: float) -> None:
        if not 0 < weight < float("inf"):
            raise ValueError(f"weight of L2-SP must be positive and finite; got {weight}")
        self.weight = weight
        self.start = {
            name: parameter.detach().clone() for name, parameter in start.named_parameters() if parameter.requires_grad
        }
        if not self.start:
            raise ValueError("L2-SP has nothing to hold: no parameter is trainable")

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[None]:
        """The forward pass does not matter here."""
        yield

    def value(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """weight / 2 ||theta - theta_0||^2, whatever the batch."""
        with torch.autocast(model.device.type, enabled=False):
            squares = [
                (model.get_parameter(name).float() - start.to(model.device).float()).square().sum()
                for name, start in self.start.items()
            ]
            return self.weight / 2 * torch.stack(squares).sum()
