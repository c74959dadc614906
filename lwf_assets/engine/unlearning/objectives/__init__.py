"""Unlearning objectives: what one unlearning step descends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lwf_assets.engine.unlearning.objectives.ascent import Ascent
from lwf_assets.engine.unlearning.objectives.nothing import Nothing
from lwf_assets.engine.unlearning.objectives.npo import NPO
from lwf_assets.engine.unlearning.objectives.simnpo import SimNPO

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NPO", "Ascent", "Nothing", "Objective", "SimNPO"]


class Objective(Protocol):
    """Turns the likelihood of samples into what unlearning descends."""

    @property
    def needs_reference(self) -> bool:
        """Whether `losses` reads `reference_nll`."""

    def losses(self, nll: Tensor, tokens: Tensor, reference_nll: Tensor | None) -> Tensor:
        """The loss of each sample, [batch]; to be descended.

        Args:
            nll: NLL of each sample, summed over its response tokens, in nats, [batch]; differentiable.
            tokens: response tokens of each sample, [batch].
            reference_nll: `nll` under the model as training began, [batch]; None unless `needs_reference`.
        """
