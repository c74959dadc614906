"""The sentences of the reports: outcomes, cautions, notes. Pure functions of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lwf_assets.comparison.measures import measure_name, measure_of
from lwf_assets.reports.numbers import bounds, decimals, fixed, mean, probability

if TYPE_CHECKING:
    from lwf_assets.comparison.records import ArmEffect, CellReport, LeaderboardRow

QUADRATIC_WARNING_SHARE = 0.5
"""Above this share of FC's variance the quadratic term decides the ranking, not the conflict with the learning task."""

Grade = Literal["better", "worse", "different", "unclear", "unknown"]

_GRADES: dict[str, Grade] = {
    "helps": "better",
    "hurts": "worse",
    "higher": "different",
    "lower": "different",
    "no detectable effect": "unclear",
}


def grade(verdict: str) -> Grade:
    """How a verdict is marked in tables: "unknown" where nothing can be said."""
    return _GRADES.get(verdict, "unknown")


def outcome(report: CellReport) -> str:
    """The cell's result in plain words: the verdict first, then the numbers that it rests on."""
    result = report.result
    name = measure_name(report.primary_measure)
    if result is None:
        return (
            f"Not measured: {name} was not measured on both LWF and the reference, so nothing can be said about "
            "forgetting."
        )
    difference = result.difference
    # One number of decimals, or the reader cannot check the subtraction.
    places = decimals(difference)
    found = f"{name}: LWF {fixed(result.mean, places)}, reference {fixed(result.reference_mean, places)}"
    found += f", difference {mean(difference, signed=True)}"
    if math.isfinite(difference.low):
        found += f" (95 % interval {bounds(difference, signed=True)}{_p_values(result)})"
    return f"{headline(result)} {found}.{_alone(result)}{_could_have_seen(result)}"


def headline(effect: ArmEffect) -> str:
    """A verdict as a short sentence."""
    if effect.verdict == "helps":
        return "Forgetting helps."
    if effect.verdict == "hurts":
        return "Forgetting hurts."
    if effect.verdict == "no detectable effect":
        return "No detectable effect of forgetting."
    if effect.seeds > 1 and effect.difference.low == effect.difference.high:
        return "No verdict: the difference is the same everywhere, so its spread is not known."
    return f"Too few seeds to say ({effect.seeds} trained)."


def detectable(effect: ArmEffect) -> str:
    """The smallest difference that would have been found, for a table; nothing where one was found."""
    if effect.verdict != "no detectable effect":
        return ""
    if not math.isfinite(effect.minimum_detectable):
        return ""
    return fixed(effect.minimum_detectable, decimals(effect.difference))


def caution(seeds: AbstractSet[int]) -> str | None:
    """What the intervals cover, for cells with these numbers of seeds; None without any cell."""
    if not seeds:
        return None
    if seeds == {1}:
        return (
            "Caution: with one seed the intervals are over test items only. They do not cover how far another seed "
            "of the same training would differ, so there is no verdict."
        )
    over = f"the {max(seeds)} seeds" if len(seeds) == 1 else "its cell's seeds"
    return (
        f"Intervals of differences cover both other test items and other seeds, as far as {over} show; those of single "
        "models cover other test items only."
    )


def multiplicity(report: CellReport) -> str:
    """How the many comparisons of a cell are dealt with."""
    compared = sum(effect.measure == report.primary_measure for effect in report.effects)
    if compared < 2:
        return (
            "The other measures are not adjusted for multiple comparisons: of 20 without any effect, about one would "
            "show one."
        )
    name = _lower(measure_name(report.primary_measure))
    return (
        f"Verdicts in {name} are after Holm's adjustment for the {compared} models that are compared with the "
        "reference. The other measures are not adjusted: of 20 without any effect, about one would show one."
    )


def leaderboard_outcome(rows: Sequence[LeaderboardRow]) -> str:
    """How many cells show an effect, and how many would by chance."""
    known = [row for row in rows if grade(row.verdict) != "unknown"]
    unsaid = len(rows) - len(known)
    if not rows:
        return "No cell has been measured yet."
    if not known:
        return f"None of {_cells(len(rows))} has enough seeds for a verdict."
    grades = [grade(row.verdict) for row in known]
    text = (
        f"Of {_cells(len(known))} with a verdict, forgetting helped in {grades.count('better')} and hurt in "
        f"{grades.count('worse')}; in {grades.count('unclear')} no effect was detectable."
    )
    if unsaid:
        text += f" {_cells(unsaid).capitalize()} had too few seeds to say."
    if len(known) >= 10:
        by_chance = max(1, round(len(known) / 20))
        text += (
            " Cells are not adjusted for multiple comparisons: with no effect at all, up to about "
            f"{by_chance} would show one."
        )
    return text


@dataclass(frozen=True)
class ConfidenceSources:
    """What FC's ranking came from, as a sentence."""

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


def conflicts_found(report: CellReport) -> str | None:
    """Whether FC finds the known conflicts better than chance, in a sentence; None where none are known."""
    named = {ranking.ranking: ranking for ranking in report.rankings}
    if "FC" not in named or "random" not in named:
        return None
    found, chance = named["FC"].average_precision, named["random"].average_precision.mean
    how = "above" if found.low > chance else "below" if found.high < chance else "not distinguishable from"
    text = (
        f"FC's average precision is {fixed(found.mean, 2)} (95 % interval {bounds(found)}), {how} the "
        f"{fixed(chance, 2)} of a random order"
    )
    plain = [r for r in report.rankings if r.ranking in ("quadratic term alone", "gradient norm")]
    if plain:
        text += "; " + ", ".join(f"by {r.ranking} it is {fixed(r.average_precision.mean, 2)}" for r in plain)
    return text + "."


def relearned(report: CellReport) -> str | None:
    """How far relearning brings the forgotten samples back, in a sentence; None where it was not probed."""
    ends = {}
    for model in ("lwf", "reference"):
        curves = [curve for curve in report.relearning if curve.label == model and curve.points]
        if not curves:
            return None
        first = math.fsum(curve.points[0].value for curve in curves) / len(curves)
        last = math.fsum(curve.points[-1].value for curve in curves) / len(curves)
        ends[model] = (first, last, max(curve.points[-1].step for curve in curves))
    (lwf, lwf_after, steps), (reference, reference_after, _) = ends["lwf"], ends["reference"]
    text = (
        f"After {steps} steps of relearning the samples, their NLL falls from {fixed(lwf, 2)} to "
        f"{fixed(lwf_after, 2)} under LWF, and from {fixed(reference, 2)} to "
        f"{fixed(reference_after, 2)} under the reference"
    )
    # As written: less than that is no forgetting worth the word.
    if round(lwf, 2) <= round(reference, 2):
        return f"{text}. LWF did not find them less likely than the reference to begin with."
    if lwf_after <= reference:
        return f"{text}. LWF is then back where the reference started: what it forgot was within reach."
    return f"{text}. LWF is not yet back where the reference started."


def _alone(effect: ArmEffect) -> str:
    """What is to be said where the interval excludes zero and the verdict is none for all that."""
    outside = effect.difference.low > 0 or effect.difference.high < 0
    if effect.verdict != "no detectable effect" or not outside:
        return ""
    return " The interval alone excludes zero; with all models compared that is not enough."


def _could_have_seen(effect: ArmEffect) -> str:
    if effect.verdict != "no detectable effect":
        return ""
    smallest = detectable(effect)
    if not smallest:
        where = f"on all {effect.items} items" if effect.items else "in any seed"
        return f" The two are equal {where}, so the smallest detectable difference is unknown."
    return f" A true difference of {smallest} or more would have been found four times out of five."


def _p_values(effect: ArmEffect) -> str:
    if not math.isfinite(effect.p_value):
        return ""
    text = f", p {probability(effect.p_value)}"
    if math.isfinite(effect.adjusted_p) and effect.adjusted_p != effect.p_value:
        text += f", after Holm's adjustment {probability(effect.adjusted_p)}"
    return text


def _percent(share: float | None) -> str:
    text = fixed(None if share is None else 100 * share, 0)
    return text if share is None or not math.isfinite(share) else f"{text} %"


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"


def _lower(name: str) -> str:
    return name if name[:2].isupper() else name[:1].lower() + name[1:]


def direction(measure: str) -> str:
    """Which way is better, for the head of a table."""
    better = measure_of(measure).higher_is_better
    return "" if better is None else "higher is better" if better else "lower is better"
