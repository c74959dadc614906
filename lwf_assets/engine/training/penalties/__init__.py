"""Penalties on the learner's loss that hold back negative transfer, and what a penalty is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from lwf_assets.engine.training.penalties.batch_spectral_shrinkage import BatchSpectralShrinkage
from lwf_assets.engine.training.penalties.l2_sp import L2SP

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from lwf_assets.engine.samples import Batch

__all__ = ["L2SP", "BatchSpectralShrinkage", "Penalty"]


class Penalty(Protocol):
    """Added to the loss of every batch that the learner sees."""

    def watching(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Around the forward pass of the batch, for a penalty that needs to see it."""

    def value(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """The penalty, weight included, a scalar in fp32; differentiable. Called once after each `watching`."""
