"""SimNPO: Negative Preference Optimization without a reference, on the NLL per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SimNPO:
    """Fan et al., "Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning" (2024).

        -2/beta log sigmoid(-beta/|y| log p(y|x) - gamma)

    Defaults are those of their TOFU forget05 runs. (Their code multiplies gamma by beta; their paper does not, nor does
    this.)

    Raises:
        ValueError: `beta` is not positive, or `gamma` is negative.
    """

    beta: float = 2.5
    gamma: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"beta of SimNPO must be positive and finite; got {self.beta}")
        if not 0 <= self.gamma < float("inf"):
            raise ValueError(f"gamma of SimNPO must be finite and at least 0; got {self.gamma}")

    @property
    def needs_reference(self) -> bool:
        return False

    def losses(self, nll: Tensor, tokens: Tensor, reference_nll: Tensor | None = None) -> Tensor:
        """-2/beta log sigmoid(beta nll / tokens - gamma), [batch]."""
        return -2 / self.beta * functional.logsigmoid(self.beta * nll / tokens - self.gamma)
