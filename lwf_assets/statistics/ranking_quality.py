"""How well a ranking puts the conflicting samples first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lwf_assets.errors import LwfError
from lwf_assets.statistics.effect import check_confidence


@dataclass(frozen=True)
class RankingFigure:
    """One measure of a ranking."""

    value: float
    low: float
    high: float
    at_random: float
    """What a ranking by chance is expected to have."""


@dataclass(frozen=True)
class RankingQuality:
    """Measures of a ranking from the highest score to the lowest, each between 0 and 1."""

    precision: RankingFigure
    """The share of conflicting samples among the `top`."""
    recall: RankingFigure
    """The share of the conflicting samples that is among the `top`."""
    average_precision: RankingFigure


def precision_recall_of_ranking(
    scores: Sequence[float] | NDArray[np.float64],
    is_conflicting: ArrayLike,
    top: int,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> RankingQuality:
    """Precision and recall of the `top` highest scores, and average precision.

    Equal scores are one threshold, as in scikit-learn; where the cut at `top` falls among them, the mean over their
    orders counts. Intervals: percentiles of a bootstrap over the samples, conflicting and others each resampled to
    their own number.

    Args:
        scores: [samples], the highest first in the ranking.
        is_conflicting: [samples], true for those that should come first.
        top: how many are chosen.
        confidence: of the intervals.
        resamples: how many.
        seed: of the draws.

    Raises:
        LwfError: where a score is not finite, one of the classes is empty, or there are not `top` samples.
    """
    from sklearn.metrics import average_precision_score

    check_confidence(confidence)
    score, positive = _checked(scores, is_conflicting, top)
    samples, positives = len(score), int(positive.sum())
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    weights = np.vstack([np.ones(samples), _stratified(positive, resamples, seed)])
    drawn = _measures(weights[:, order], positive[order], ends, top)
    drawn["average_precision"][0] = average_precision_score(positive, score)
    at_random = {
        "precision": positives / samples,
        "recall": top / samples,
        "average_precision": expected_average_precision(samples, positives),
    }
    tail = 100 * (1 - confidence) / 2
    figures = {}
    for name, values in drawn.items():
        low, high = np.percentile(values[1:], [tail, 100 - tail])
        figures[name] = RankingFigure(float(values[0]), float(low), float(high), at_random[name])
    return RankingQuality(**figures)


def expected_average_precision(samples: int, positives: int) -> float:
    """The mean average precision over all orders of the samples; somewhat above the share of positives.

    Bestgen, "Exact expected average precision of the random baseline for system evaluation", 2015.
    """
    if samples == 1:
        return float(positives)
    harmonic = float((1 / np.arange(1, samples + 1)).sum())
    return ((positives - 1) / (samples - 1) * (samples - harmonic) + harmonic) / samples


def _stratified(positive: NDArray[np.bool_], resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each sample is drawn, [resamples, samples]; each class keeps its number."""
    generator = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(positive)))
    for members in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        weights[:, members] = generator.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=resamples
        )
    return weights


def _measures(
    weights: NDArray[np.float64], positive: NDArray[np.bool_], ends: NDArray[np.intp], top: int
) -> dict[str, NDArray[np.float64]]:
    """Each measure of each row of `weights`; samples are in the order of the ranking, `ends` closes the ties."""
    nothing = np.zeros((len(weights), 1))
    hits = np.hstack([nothing, np.cumsum(weights * positive, axis=1)[:, ends]])
    misses = np.hstack([nothing, np.cumsum(weights * ~positive, axis=1)[:, ends]])
    chosen = hits + misses
    positives = hits[:, -1]
    precision = np.divide(hits, chosen, out=np.zeros_like(hits), where=chosen > 0)
    found = np.array([np.interp(top, *row) for row in zip(chosen, hits, strict=True)])
    return {
        "precision": found / top,
        "recall": found / positives,
        "average_precision": (np.diff(hits, axis=1) * precision[:, 1:]).sum(axis=1) / positives,
    }


def _checked(
    scores: Sequence[float] | NDArray[np.float64], is_conflicting: ArrayLike, top: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    score, positive = np.asarray(scores, dtype=float), np.asarray(is_conflicting, dtype=bool)
    if score.ndim != 1 or score.shape != positive.shape:
        raise LwfError(f"{score.shape} scores and {positive.shape} labels; each sample needs one of both")
    if not np.isfinite(score).all():
        row = int(np.flatnonzero(~np.isfinite(score))[0])
        raise LwfError(f"the score of sample {row} is {score[row]}; every score must be finite")
    if positive.all() or not positive.any():
        raise LwfError(
            f"{int(positive.sum())} of {len(positive)} samples are conflicting; a ranking can be judged only where "
            "some are and some are not"
        )
    if not 1 <= top <= len(score):
        raise LwfError(f"top is {top}; it must be from 1 to the {len(score)} samples")
    return score, positive
