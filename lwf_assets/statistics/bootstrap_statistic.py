"""The difference of two models in a measure of the whole test set, such as macro-F1, with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lwf_assets.errors import LwfError
from lwf_assets.statistics.crossed_variances import CrossedVariances
from lwf_assets.statistics.effect import Effect, check_confidence

Statistic: TypeAlias = Callable[[NDArray[Any], NDArray[np.float64]], NDArray[np.float64]]
"""From the answers of one model [items] and weights [resamples, items], which say how often each item was drawn, to the
measure of each resample [resamples]."""


def bootstrap_statistic(
    statistic: Statistic,
    arm: Sequence[Sequence[Any]] | NDArray[Any],
    reference: Sequence[Sequence[Any]] | NDArray[Any],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Effect:
    """How much the statistic of the arm is above that of the reference, with an interval for other seeds and items.

    Items are resampled, the same ones for both models and for every seed; what that does to the seeds' differences in
    common is the items' part of the variance. The seeds' part comes from the differences themselves, because a
    resample of three seeds is too narrow. The mean as statistic gives what `paired_effect` gives, but for the draw.

    Args:
        statistic: see `Statistic`; for example `macro_f1(labels)`.
        arm: [seeds, items], answers of any kind that `statistic` takes.
        reference: the same of the reference, with the same seeds and items.
        confidence: of the interval.
        resamples: how many.
        seed: of the draws.

    Raises:
        LwfError: where the shapes do not match, there are fewer than two items, or a statistic is not finite.
    """
    check_confidence(confidence)
    answers = [np.asarray(model) for model in (arm, reference)]
    shape = answers[0].shape
    if len(shape) != 2 or answers[1].shape != shape or shape[0] < 1 or shape[1] < 2:
        raise LwfError(
            f"arm has shape {shape} and reference {answers[1].shape}; both must be [seeds, items], the same, with at "
            "least one seed and two items"
        )
    seeds, items = shape
    weights = np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), size=resamples).astype(float)
    # One row more: the items as they are.
    weights = np.vstack([np.ones(items), weights])
    drawn = np.stack([statistic(a, weights) - statistic(r, weights) for a, r in zip(*answers, strict=True)])
    if not np.isfinite(drawn).all():
        raise LwfError(
            "the statistic is not finite on every resample of the items; it must be defined for any of them, those "
            "without some class among them"
        )
    estimates, drawn = drawn[:, 0], drawn[:, 1:]
    # The variance of a resampled mean is (items - 1) / items of the unbiased one.
    inflation = items / (items - 1)
    items_alone = float(drawn.mean(axis=0).var(ddof=1)) * inflation
    seed_part, noise = 0.0, 0.0
    if seeds > 1:
        seed_part = float(estimates.var(ddof=1)) / seeds
        noise = float((drawn - estimates[:, None]).var(axis=0, ddof=1).mean()) / seeds * inflation
    variances = CrossedVariances(seed_part, max(items_alone - noise, 0.0), items_alone, seeds, items)
    return variances.effect(float(estimates.mean()), confidence=confidence)
