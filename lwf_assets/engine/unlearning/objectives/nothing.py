"""No unlearning: the control that tells what retention does by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Nothing:
    """Zero: the samples are looked at and noted in the ledger, and nothing pushes them."""

    @property
    def needs_reference(self) -> bool:
        return False

    def losses(self, nll: Tensor, tokens: Tensor, reference_nll: Tensor | None = None) -> Tensor:
        """0, [batch]."""
        return 0 * nll
