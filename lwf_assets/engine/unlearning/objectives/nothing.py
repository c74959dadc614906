"""No unlearning: the control that shows what retention does alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Nothing:
    """Zero: the samples are evaluated and recorded in the ledger, and not pushed."""

    @property
    def needs_reference(self) -> bool:
        return False

    def losses(self, nll: Tensor, tokens: Tensor, reference_nll: Tensor | None = None) -> Tensor:
        """0, [batch]."""
        return 0 * nll
