"""The mean difference between two models over seeds and items, and between numbers with one value per seed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from lwf_assets.errors import LwfError
from lwf_assets.statistics.crossed_variances import CrossedVariances
from lwf_assets.statistics.effect import Effect, check_confidence, checked_differences


def paired_effect(differences: ArrayLike, *, confidence: float = 0.95) -> Effect:
    """The mean of paired differences, with an interval for other seeds and other items.

    Seeds are crossed with items, as in the pigeonhole bootstrap (Owen 2007), whose variance is here written down
    rather than drawn, without its bias for few seeds, and with t quantiles; docs/statistics.md has the coverage of
    both. With one seed the interval is over the items alone, for the models of that seed.

    Args:
        differences: [seeds, items], arm minus reference: the two trained with the same seed, answering the same item.
        confidence: of the interval.

    Raises:
        LwfError: for another shape, fewer than two items, or a number that is not finite.
    """
    check_confidence(confidence)
    array = checked_differences(differences, axes=("seed", "item"))
    seeds, items = array.shape
    if items < 2:
        raise LwfError(
            "differences has one item; an interval over items needs two or more (for numbers of which each seed has "
            "one, use seed_effect)"
        )
    mean = float(array.mean())
    of_seed, of_item = array.mean(axis=1), array.mean(axis=0)
    # A variance that is nothing but rounding counts as none.
    rounding = (1e-12 * float(np.abs(array).max())) ** 2
    items_alone = _above(float(of_item.var(ddof=1)) / items, rounding)
    if seeds == 1:
        variances = CrossedVariances(0.0, items_alone, items_alone, seeds, items)
    else:
        rest = array - of_seed[:, None] - of_item[None, :] + mean
        noise = float((rest**2).sum()) / ((seeds - 1) * (items - 1)) / (seeds * items)
        variances = CrossedVariances(
            seed=_above(float(of_seed.var(ddof=1)) / seeds, rounding),
            item=_above(items_alone - noise, rounding),
            items_alone=items_alone,
            seeds=seeds,
            items=items,
        )
    return variances.effect(mean, confidence=confidence)


def seed_effect(differences: ArrayLike, *, confidence: float = 0.95) -> Effect:
    """The mean of paired differences between numbers with one value per seed, with Student's t interval.

    For the area under a learning curve, the steps to a level, a distance of weights. With one seed there is no
    interval: all but the mean is NaN.

    Args:
        differences: [seeds], arm minus reference.
        confidence: of the interval.

    Raises:
        LwfError: for another shape, or a number that is not finite.
    """
    from scipy import stats

    check_confidence(confidence)
    array = checked_differences(differences, axes=("seed",))
    mean, seeds = float(array.mean()), len(array)
    if seeds == 1:
        return Effect(mean, math.nan, math.nan, math.nan, math.nan, 1, 0, 0.0, confidence)
    if np.ptp(array) <= 1e-12 * float(np.abs(array).max()):
        return Effect(mean, mean, mean, 0.0, 1.0 if mean == 0 else math.nan, seeds, 0, seeds - 1.0, confidence)
    test = stats.ttest_1samp(array, 0.0)
    low, high = test.confidence_interval(confidence)
    standard_error = float(stats.sem(array))
    return Effect(mean, float(low), float(high), standard_error, float(test.pvalue), seeds, 0, seeds - 1.0, confidence)


def _above(variance: float, rounding: float) -> float:
    return variance if variance > rounding else 0.0
