"""What the reports say in words: outcome sentences, cautions, the names of measures. Pure functions of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lwf_assets.reports.numbers import bounds, decimals, fixed, mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from lwf_assets.reports.report import CellReport, Interval, LeaderboardRow

QUADRATIC_WARNING_SHARE = 0.5
"""Above this share of FC's variance the quadratic term decides the ranking, not the conflict with the learning task."""

Grade = Literal["better", "worse", "unclear", "unknown"]


@dataclass(frozen=True)
class Measure:
    """How a measure is called, and what it is."""

    name: str
    hint: str


MEASURES = {
    "accuracy": Measure("Accuracy", "share of test items answered right"),
    "macro_f1": Measure("Macro F1", "unweighted mean of the F1 of each answer class"),
    "exact_match_strict": Measure("Exact match (strict)", "share of right answers in the form that was asked for"),
    "exact_match_flexible": Measure("Exact match (flexible)", "share of right answers in whatever form"),
    "partial_credit": Measure("Partial credit", "the generator's own score, with part of a point for a part"),
    "invalid": Measure("Invalid answers", "share of responses without an answer that can be read"),
    "invalid_share": Measure("Invalid answers", "share of responses without an answer that can be read"),
    "target_nll": Measure("NLL of the targets", "test set, nats per token"),
    "forgotten_nll": Measure("NLL of the samples chosen", "self-generated, chosen for unlearning, nats per token"),
    "kept_nll": Measure("NLL of the samples not chosen", "self-generated, scored only, nats per token"),
}


def measure_name(measure: str) -> str:
    """A measure's name for people; an unknown one as it is spelt, without underscores."""
    return MEASURES[measure].name if measure in MEASURES else measure.replace("_", " ")


def lower_is_better(measure: str) -> bool:
    """Whether a smaller value of the measure is the better one."""
    return measure.startswith("invalid") or measure.endswith(("nll", "loss"))


def difference_grade(interval: Interval, measure: str) -> Grade:
    """What a difference, LWF minus reference, shows: nothing unless its interval excludes zero."""
    if not all(map(math.isfinite, (interval.mean, interval.low, interval.high))):
        return "unknown"
    if interval.low <= 0 <= interval.high:
        return "unclear"
    return "better" if (interval.low > 0) != lower_is_better(measure) else "worse"


def outcome(report: CellReport) -> str:
    """The cell's result in one plain sentence."""
    lwf = report.figures("lwf", report.primary_measure)
    reference = report.figures("reference", report.primary_measure)
    difference = report.difference.interval
    # One number of decimals, or the reader cannot check the subtraction.
    places = decimals(difference)
    levels = f"LWF {fixed(lwf.mean, places)}, reference {fixed(reference.mean, places)}"
    if not math.isfinite(difference.mean):
        return f"{levels}: the difference was not measured, so this run says nothing about the effect of forgetting."
    found = f"{levels}: difference {mean(difference, signed=True)}"
    grade = difference_grade(difference, report.difference.measure)
    if grade == "unknown":
        return f"{found}, without an interval, so this run does not say whether forgetting had an effect."
    found += f" (95 % interval {bounds(difference, signed=True)})"
    if grade == "unclear":
        return f"{found}: the interval includes zero, so this run shows no clear effect."
    side = "above" if difference.low > 0 else "below"
    return f"{found}: the interval lies {side} zero, so in this run LWF did {grade} than the reference."


def caution(seeds: AbstractSet[int]) -> str | None:
    """What the intervals do not cover, for cells with these numbers of seeds; None without any cell."""
    if not seeds:
        return None
    if seeds == {1}:
        return (
            "Caution: with one seed the intervals are over test items only. They do not cover how far another seed "
            "of the same training would differ."
        )
    over = f"the {max(seeds)} seeds" if len(seeds) == 1 else "its cell's seeds"
    return (
        f"The intervals are over test items, each averaged over {over}. They do not cover how far further seeds would "
        "differ."
    )


def leaderboard_outcome(rows: Sequence[LeaderboardRow]) -> str:
    """How many cells show an effect, and how many would by chance."""
    grades = [difference_grade(row.difference, row.primary_measure) for row in rows]
    known = [grade for grade in grades if grade != "unknown"]
    if not known:
        return "No cell has been measured yet."
    cells = "1 cell" if len(known) == 1 else f"{len(known)} cells"
    text = (
        f"Of {cells} measured, LWF did better than the reference in {known.count('better')} and worse in "
        f"{known.count('worse')}; in {known.count('unclear')} the 95 % interval includes zero: no clear effect."
    )
    if len(known) >= 10:
        by_chance = max(1, round(len(known) / 20))
        text += f" With no effect at all, about {by_chance} of {len(known)} would exclude zero by chance."
    return text


@dataclass(frozen=True)
class ConfidenceSources:
    """What FC's ranking came from, in words."""

    shares: str
    correlations: str
    warning: str | None


def sources_of_confidence(report: CellReport) -> ConfidenceSources:
    """Shares of variance and rank correlations of FC, and a warning where the quadratic term has taken over."""
    share = report.quadratic_share
    warning = None
    if share is not None and share > QUADRATIC_WARNING_SHARE:
        warning = (
            f"At alpha = {report.alpha:g} the quadratic term makes {_percent(share)} of FC's variance, so the ranking "
            "follows the size of a sample's gradient more than its conflict with the learning task. A smaller alpha "
            "lets the linear term decide."
        )
    return ConfidenceSources(
        shares=f"linear term {_percent(report.linear_share)}, quadratic term {_percent(share)}",
        correlations=(
            f"{fixed(report.length_correlation, 2, signed=True)} with the number of tokens, "
            f"{fixed(report.nll_correlation, 2, signed=True)} with the base model's NLL"
        ),
        warning=warning,
    )


def _percent(share: float | None) -> str:
    text = fixed(None if share is None else 100 * share, 0)
    return text if share is None or not math.isfinite(share) else f"{text} %"
