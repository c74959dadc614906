"""Other intervals of the mean over crossed seeds and items, to hold `paired_effect` against. Used by `calibration`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lwf_assets.statistics.paired_effect import paired_effect

IntervalOf: TypeAlias = Callable[[NDArray[np.float64]], tuple[float, float]]
"""From differences [seeds, items] to the ends of a 95 % interval."""

_RESAMPLES = 1000


def ours(differences: NDArray[np.float64]) -> tuple[float, float]:
    """That of `paired_effect`."""
    effect = paired_effect(differences)
    return effect.low, effect.high


def items_alone(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Student's t over the items, each with its mean over the seeds."""
    of_item = differences.mean(axis=0)
    half = stats.sem(of_item) * stats.t.ppf(0.975, len(of_item) - 1)
    return float(of_item.mean() - half), float(of_item.mean() + half)


def pigeonhole(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Percentiles of the bootstrap that resamples seeds and items (Owen 2007)."""
    low, high = np.percentile(pigeonhole_means(differences), [2.5, 97.5])
    return float(low), float(high)


def expanded_pigeonhole(differences: NDArray[np.float64]) -> tuple[float, float]:
    """The same with percentiles further out, as Hesterberg (2015) has them for a sample as large as the seeds are."""
    seeds = len(differences)
    tail = 100 * stats.norm.cdf(stats.t.ppf(0.025, seeds - 1) * math.sqrt(seeds / (seeds - 1)))
    low, high = np.percentile(pigeonhole_means(differences), [tail, 100 - tail])
    return float(low), float(high)


def cluster_robust(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Variance clustered two ways (Cameron, Gelbach and Miller 2011) and the t quantile of seeds less one."""
    seeds, items = differences.shape
    mean, of_seed, of_item = differences.mean(), differences.mean(axis=1), differences.mean(axis=0)
    variance = of_seed.var(ddof=1) / seeds + of_item.var(ddof=1) / items - differences.var(ddof=1) / differences.size
    half = math.sqrt(max(variance, 0)) * stats.t.ppf(0.975, seeds - 1)
    return float(mean - half), float(mean + half)


def satterthwaite(differences: NDArray[np.float64]) -> tuple[float, float]:
    """The variances of `paired_effect` without its floor, with Satterthwaite's degrees of freedom."""
    seeds, items = differences.shape
    mean, of_seed, of_item = differences.mean(), differences.mean(axis=1), differences.mean(axis=0)
    rest = differences - of_seed[:, None] - of_item + mean
    noise = (rest**2).sum() / ((seeds - 1) * (items - 1)) / differences.size
    seed, item = of_seed.var(ddof=1) / seeds, max(of_item.var(ddof=1) / items - noise, 0)
    if seed + item == 0:
        return float(mean), float(mean)
    freedom = (seed + item) ** 2 / (seed**2 / (seeds - 1) + item**2 / (items - 1))
    half = math.sqrt(seed + item) * stats.t.ppf(0.975, freedom)
    return float(mean - half), float(mean + half)


INTERVALS: dict[str, IntervalOf] = {
    "this project": ours,
    "items alone, t": items_alone,
    "pigeonhole, percentile": pigeonhole,
    "pigeonhole, expanded": expanded_pigeonhole,
    "cluster-robust, t(S-1)": cluster_robust,
    "Satterthwaite": satterthwaite,
}


def pigeonhole_means(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each resample of seeds and items, [resamples]."""
    of_seeds, of_items = (_counts(size) for size in differences.shape)
    sums: NDArray[np.float64] = (of_seeds * (of_items @ differences.T)).sum(axis=1)
    return sums / differences.size


@cache
def _counts(size: int) -> NDArray[np.float64]:
    """How often each of `size` is drawn. The same draws for all differences, which spares most of the time."""
    return np.random.default_rng(size).multinomial(size, np.full(size, 1 / size), size=_RESAMPLES).astype(float)
