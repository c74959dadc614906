"""The mean of the values of one model, with an interval over the items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; NaN where it is not known."""

    mean: float
    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan, math.nan)


def bootstrap_interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Mean of per-item values with a 95 % bootstrap interval over the items (percentile; BCa is undefined for equal
    values).

    It says nothing about other training seeds; to compare two models use `paired_effect`. NaN values are left out; with
    none left all three are NaN.
    """
    numbers = np.asarray([value for value in values if not math.isnan(value)], dtype=float)
    if numbers.size == 0:
        return UNKNOWN
    draws = np.random.default_rng(seed).integers(numbers.size, size=(RESAMPLES, numbers.size))
    low, high = np.percentile(numbers[draws].mean(axis=1), [2.5, 97.5])
    return Interval(float(numbers.mean()), float(low), float(high))
