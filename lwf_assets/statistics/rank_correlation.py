"""Spearman's rank correlation, where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rho; None where one side does not vary or is not finite."""
    from scipy.stats import spearmanr

    if len(set(first)) < 2 or len(set(second)) < 2 or not np.isfinite([*first, *second]).all():
        return None
    return float(spearmanr(first, second).statistic)
