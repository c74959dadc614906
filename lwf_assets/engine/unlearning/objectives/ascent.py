"""Gradient ascent on the likelihood: what Learning With Forgetting does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ascent:
    """Minus the mean NLL per response token. Unbounded: `per_sample_cap` is what ends it."""

    @property
    def needs_reference(self) -> bool:
        return False

    def losses(self, nll: Tensor, tokens: Tensor, reference_nll: Tensor | None = None) -> Tensor:
        """-nll / tokens, [batch]."""
        return -(nll / tokens)
