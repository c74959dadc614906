"""Does FC find the samples that are known to conflict with the learning task? Its ranking compared with simpler
ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lwf_assets.comparison.records import NAN, ConflictRanking
from lwf_assets.statistics import precision_recall_of_ranking
from lwf_assets.statistics.interval import Interval

RANKINGS = {
    "FC": "forgetting_confidence",
    "linear term alone": "linear",
    "quadratic term alone": "quadratic",
    "gradient norm": "gradient_norm",
}
"""Which column each ranking goes by, highest first; the linear term counts against FC and is turned round."""


def conflict_rankings(scored: Sequence[Mapping[str, Any]], known_conflicts: Sequence[str]) -> list[ConflictRanking]:
    """Precision and recall of each ranking's highest, as many as are chosen, and its average precision.

    Empty where no source task is known to conflict, or all are, or the samples do not say where they come from. The
    last one is what a ranking by chance is expected to have.
    """
    conflicting = [row.get("source_task") in known_conflicts for row in scored]
    if all(conflicting) or not any(conflicting):
        return []
    top = sum(row["selected"] for row in scored)
    found, chance = [], None
    for name, column in RANKINGS.items():
        scores = [row.get(column) for row in scored]
        if top == 0 or any(score is None or not math.isfinite(score) for score in scores):
            continue
        sign = -1.0 if column == "linear" else 1.0
        quality = precision_recall_of_ranking([sign * score for score in scores if score is not None], conflicting, top)
        chance = quality
        found.append(
            ConflictRanking(name, *map(_interval, (quality.average_precision, quality.precision, quality.recall)))
        )
    if chance is None:
        return []
    by_chance = (chance.average_precision, chance.precision, chance.recall)
    return [*found, ConflictRanking("random", *(Interval(figure.at_random, NAN, NAN) for figure in by_chance))]


def _interval(figure: Any) -> Interval:
    return Interval(figure.value, figure.low, figure.high)
