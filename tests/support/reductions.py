"""Reductions to feed with per-sample gradients."""

from __future__ import annotations

from collections.abc import Iterable

from odd_models import KINDS
from odd_models.causal import samples_of
from torch import Tensor

from lwf_assets.engine.gradients.blocks import GradientsOfSamples, RowsOfParameter

EIGHT_TOKENS = samples_of((3, 5), (2, 6), (4, 4), (1, 7), (5, 3))


REFUSED = {"Checkpointed", "CheckpointedReentrant", "DifferentiatesInForward"}


EXACT = {name: kind for name, kind in KINDS.items() if name not in REFUSED}


class Nothing:
    """A reduction that keeps nothing."""

    def add(self, name: str, rows: RowsOfParameter, gradients: Iterable[GradientsOfSamples]) -> None:
        for _ in gradients:
            pass

    def add_rows(self, name: str, rows: Tensor, gradients: GradientsOfSamples) -> None:
        pass
