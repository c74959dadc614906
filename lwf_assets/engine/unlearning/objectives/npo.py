"""Negative Preference Optimization: ascent that fades as a sample becomes less likely than it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NPO:
    """Zhang, Lin, Bai and Mei, "Negative Preference Optimization" (COLM 2024), equation 3; `beta` 0.1 is theirs.

        2/beta log(1 + (p(y|x) / p_ref(y|x))^beta)

    p is the probability of the whole response, p_ref that of the model as training began. The gradient is that of
    ascent on the summed NLL, times 2 r / (1 + r) with r = (p / p_ref)^beta: 1 at the start, 0 once forgotten.

    Raises:
        ValueError: `beta` is not positive.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"beta of NPO must be positive and finite; got {self.beta}")

    @property
    def needs_reference(self) -> bool:
        return True

    def losses(self, nll: Tensor, tokens: Tensor, reference_nll: Tensor | None) -> Tensor:
        """-2/beta log sigmoid(beta (nll - reference_nll)), [batch]."""
        if reference_nll is None:
            raise ValueError("NPO needs the NLL of each sample under the model as training began")
        return -2 / self.beta * functional.logsigmoid(self.beta * (nll - reference_nll))
