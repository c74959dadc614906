"""McNemar's test of two models' right and wrong answers, for one seed and for several together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lwf_assets.errors import LwfError


@dataclass(frozen=True)
class DiscordantPairs:
    """The items on which one of two models is right, for one seed."""

    arm_alone: int
    reference_alone: int
    p_value: float
    """Exact, two-sided, mid-p; 1 where there are none."""


@dataclass(frozen=True)
class McNemar:
    """The discordant pairs of each seed, and one p-value of all."""

    by_seed: list[DiscordantPairs]
    p_value: float
    """For these trained models and other items; how other seeds would do it does not say."""


def mcnemar(arm_correct: ArrayLike, reference_correct: ArrayLike) -> McNemar:
    """The exact mid-p McNemar test (Fagerland, Lydersen and Laake 2013) of each seed and of all seeds together.

    Together, an item counts once, with the number of seeds by which the arm is ahead on it. The null: a lead of k is as
    likely as a lag of k, item by item. Its distribution (every sign flipped or not) is summed exactly. With one seed
    this is McNemar's test. Answers of several seeds to one item are never taken as independent.

    Args:
        arm_correct: [seeds, items], true or 1 for right, false or 0 for wrong.
        reference_correct: the same of the reference.

    Raises:
        LwfError: where the shapes do not match or an answer is neither right nor wrong.
    """
    arm = _right_or_wrong("arm_correct", arm_correct)
    reference = _right_or_wrong("reference_correct", reference_correct)
    if arm.shape != reference.shape:
        raise LwfError(f"arm_correct has shape {arm.shape} and reference_correct {reference.shape}; they must be alike")
    ahead = arm - reference
    by_seed = [
        DiscordantPairs(int((of_seed > 0).sum()), int((of_seed < 0).sum()), sign_flip_p(of_seed)) for of_seed in ahead
    ]
    return McNemar(by_seed, sign_flip_p(ahead.sum(axis=0)))


def sign_flip_p(leads: NDArray[np.int64]) -> float:
    """The chance that integers [items] whose signs were tossed add up to more, either way, than these do.

    Sums just as far from zero count half (mid-p). 1 where all are zero.
    """
    sizes = np.abs(leads)
    if not sizes.any():
        return 1.0
    probabilities = np.ones(1)
    for size in np.unique(sizes[sizes > 0]):
        probabilities = np.convolve(probabilities, _sum_of_signs(int((sizes == size).sum()), int(size)))
    sums = np.abs(np.arange(len(probabilities)) - len(probabilities) // 2)
    seen = abs(int(leads.sum()))
    return float(min(1.0, probabilities[sums > seen].sum() + probabilities[sums == seen].sum() / 2))


def _sum_of_signs(count: int, size: int) -> NDArray[np.float64]:
    """The probability of each sum of `count` signs times `size`, from the lowest to the highest."""
    from scipy.stats import binom

    probabilities = np.zeros(2 * count * size + 1)
    probabilities[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
    return probabilities


def _right_or_wrong(name: str, given: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(given, dtype=float)
    if array.ndim != 2 or array.size == 0:
        raise LwfError(f"{name} has shape {array.shape}; it must be [seeds, items]")
    if not np.isin(array, (0.0, 1.0)).all():
        raise LwfError(
            f"{name} holds {array[~np.isin(array, (0.0, 1.0))][0]}; an answer must be 1 (right) or 0 (wrong)"
        )
    return array.astype(np.int64)
