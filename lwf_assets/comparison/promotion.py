"""Whether a challenger may take the champion's place: not worse on the learning task, and no less useful elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from lwf_assets.comparison.effects import effects_of, with_curve_measures
from lwf_assets.comparison.evaluations import REFERENCE, Evaluation, read_evaluation
from lwf_assets.comparison.measures import MEASURES, measure_name, measure_of
from lwf_assets.errors import LwfError
from lwf_assets.store.layout import FORGET_SET
from lwf_assets.store.tables import read_rows
from lwf_assets.study.sections import PromotionSettings


@dataclass(frozen=True)
class Decision:
    """Whether to promote; `reasons` are sentences, one for each condition; `figures` are the numbers behind them."""

    promote: bool
    reasons: tuple[str, ...]
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """All reasons as one sentence."""
        return "; ".join(self.reasons)


def decide_promotion(
    challenger: Path,
    champion: Path | None,
    forget_set: Path,
    settings: PromotionSettings,
    *,
    measure: str,
    forgetting_task: str,
) -> Decision:
    """Compare two evaluation artifacts of the same test items, paired by seed and by item.

    Args:
        challenger: folder of its evaluation.
        champion: the same; None where there is none yet.
        forget_set: folder of the challenger's scored_forget_set.
        settings: margin and bounds.
        measure: what not to be worse in.
        forgetting_task: of the cell.

    Raises:
        LwfError: the two were not measured on the same items, or a measure that is bounded was not measured.
    """
    scored = pd.DataFrame(read_rows(forget_set / FORGET_SET))
    new = read_evaluation(challenger, forgetting_task, scored)
    (with_speed,) = with_curve_measures([new], ())
    bounds = [_bounded(with_speed, name, bound) for name, bound in settings.bounds.items()]
    compared = (
        _Condition(True, "there is no champion yet", {})
        if champion is None
        else _not_worse(new, read_evaluation(champion, forgetting_task, scored), measure, settings.margin)
    )
    conditions = [compared, *bounds]
    figures: dict[str, Any] = {}
    for condition in conditions:
        figures |= condition.figures
    return Decision(all(c.holds for c in conditions), tuple(c.words for c in conditions), figures)


@dataclass(frozen=True)
class _Condition:
    holds: bool
    words: str
    figures: Mapping[str, Any]


def _not_worse(new: Evaluation, old: Evaluation, measure: str, margin: float) -> _Condition:
    """The end of the 95 % interval on the bad side is within the margin."""
    old = replace(old, kind=REFERENCE)
    pair = with_curve_measures([old, new], ())
    effects = {effect.measure: effect for effect in effects_of(pair, measure, least_seeds=1)}
    name = measure_name(measure)
    if measure not in effects:
        raise LwfError(f"promotion: {name} of challenger and champion cannot be paired: they share no seed")
    difference = effects[measure].difference
    higher = _higher_is_better(measure)
    worst = difference.low if higher else -difference.high
    comparison = (
        f"{name} minus the champion's: {difference.mean:+.4g} ({difference.low:+.4g} to {difference.high:+.4g})"
    )
    figures = {
        "measure": measure,
        "difference": difference.mean,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "margin": margin,
        "seeds": effects[measure].seeds,
    }
    if math.isnan(worst):
        return _Condition(False, f"{comparison}: too few seeds to say", figures)
    holds = worst >= -margin
    words = "not worse" if holds else "may be worse"
    return _Condition(holds, f"{comparison}: {words} by more than the margin {margin:g}", figures)


def _bounded(new: Evaluation, name: str, bound: float) -> _Condition:
    """The mean is on the good side of the bound: at least it where higher is better, else at most."""
    if name not in new.values:
        known = ", ".join(sorted(new.values))
        raise LwfError(f"promotion.bounds: {name} was not measured; measured: {known}")
    value = float(new.values[name].mean(axis="index").mean())
    higher = _higher_is_better(name)
    holds = value >= bound if higher else value <= bound
    words = f"{measure_name(name)} {value:.4g}, {'at least' if higher else 'at most'} {bound:g} is wanted"
    return _Condition(holds, words, {name: value, f"{name}_bound": bound})


def _higher_is_better(measure: str) -> bool:
    direction = measure_of(measure).higher_is_better
    if direction is None:
        known = ", ".join(name for name, other in MEASURES.items() if other.higher_is_better is not None)
        raise LwfError(f"promotion: {measure} has no better direction, so it cannot be bounded; choose from {known}")
    return direction
