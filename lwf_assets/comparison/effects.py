"""What each model does differently from the reference, in every measure: difference, interval, verdict.

All statistics are those of `lwf_assets.statistics`; this module pairs seeds and items and says which is computed where.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lwf_assets.comparison.evaluations import BASE, REFERENCE, Evaluation, of_kind
from lwf_assets.comparison.measures import measure_of, steps_to
from lwf_assets.comparison.records import NAN, ArmEffect, ModelFigures
from lwf_assets.errors import LwfError
from lwf_assets.statistics import (
    Effect,
    area_under_curve,
    bootstrap_interval,
    bootstrap_statistic,
    holm,
    macro_f1,
    minimum_detectable_effect,
    paired_effect,
    seed_effect,
    steps_to_reach,
    verdict,
)
from lwf_assets.statistics.interval import Interval

PER_SEED = [""]
"""The columns of a measure that has one value per seed."""


def with_curve_measures(evaluations: Sequence[Evaluation], levels: Sequence[float]) -> list[Evaluation]:
    """The evaluations with the area under the learning curve and the steps to each NLL level, per seed.

    The curve is the validation NLL where every fine-tuned model has one, and the training loss else; of every model up
    to the step at which the shortest one ends, so that all are over the same steps.
    """
    kind, last = _common_curve(evaluations)
    found = []
    for evaluation in evaluations:
        curves = getattr(evaluation, kind)
        values = dict(evaluation.values)
        if not curves.empty:
            parts = {int(seed): _until(curves[seed], last) for seed in curves}
            values["learning_auc"] = _per_seed({s: area_under_curve(list(c.index), list(c)) for s, c in parts.items()})
            for level in levels:
                reached = {seed: steps_to_reach(list(c.index), list(c), level) for seed, c in parts.items()}
                values[steps_to(level)] = _per_seed({s: NAN if step is None else step for s, step in reached.items()})
        found.append(replace(evaluation, values=values))
    return found


def curve_in_use(evaluations: Sequence[Evaluation]) -> str:
    """Which curve the measures of learning speed are of, as text."""
    return "NLL of the validation split" if _common_curve(evaluations)[0] == "validation" else "training loss"


def figures_of(evaluation: Evaluation) -> ModelFigures:
    """Each measure's mean, with an interval over the items, each of which counts with its mean over the seeds."""
    measures = {}
    for name, table in evaluation.values.items():
        of_items = table.mean(axis="index", skipna=False)
        if list(table.columns) == PER_SEED:
            measures[name] = Interval(float(of_items.iloc[0]), math.nan, math.nan)
        else:
            interval = bootstrap_interval(of_items.tolist())
            measures[name] = Interval(interval.mean, interval.low, interval.high)
    return ModelFigures(
        evaluation.name, evaluation.seeds, measures, evaluation.label, evaluation.description, evaluation.steps
    )


def effects_of(evaluations: Sequence[Evaluation], primary: str, *, least_seeds: int) -> list[ArmEffect]:
    """Every model but base against the reference, in every measure that both have.

    Holm's adjustment is over the models within the primary measure; the other measures are not adjusted.
    """
    reference = of_kind(evaluations, REFERENCE)
    arms = [evaluation for evaluation in evaluations if evaluation.kind not in (BASE, REFERENCE)]
    found: list[tuple[Evaluation, str, Effect]] = []
    for arm in arms:
        for name in arm.values:
            effect = _effect(arm, reference, name) if name in reference.values else None
            if effect is not None:
                found.append((arm, name, effect))
    within = [index for index, (_, name, _) in enumerate(found) if name == primary]
    adjusted = dict(zip(within, holm([found[index][2].p_value for index in within]), strict=True))
    return [
        _row(arm, reference, name, effect, adjusted.get(index, NAN), compared=len(within), least_seeds=least_seeds)
        for index, (arm, name, effect) in enumerate(found)
    ]


def differences(arm: pd.DataFrame, reference: pd.DataFrame, *, what: str = "") -> pd.DataFrame:
    """Arm minus reference, of the seeds that both have. Items without a value on one of the sides are left out.

    Raises:
        LwfError: the two were not measured on the same items.
    """
    unpaired = sorted(set(map(str, arm.columns)) ^ set(map(str, reference.columns)))
    if unpaired:
        raise LwfError(
            f"evaluation: {what} is paired item by item, but {len(unpaired)} items are on one side only, such as "
            f"{unpaired[0]!r}; evaluate both models on the same items"
        )
    seeds = [seed for seed in arm.index if seed in reference.index]
    return (arm.loc[seeds] - reference.loc[seeds, arm.columns]).dropna(axis="columns", how="any")


def _effect(arm: Evaluation, reference: Evaluation, name: str) -> Effect | None:
    if list(arm.values[name].columns) == PER_SEED:
        if name == "macro_f1" and not arm.answers.empty:
            return _macro_f1_effect(arm, reference)
        # A seed that never came to the level makes the mean unknown, and is not to be left out.
        paired = differences(arm.values[name], reference.values[name], what=name)
        return seed_effect(paired[""].to_numpy()) if paired.size else None
    both = [arm.values[name], reference.values[name]]
    if name.startswith(("forgotten_", "kept_")):
        # Samples that were not measured have been dropped on their own side already.
        shared = [column for column in both[0].columns if column in set(both[1].columns)]
        both = [table[shared] for table in both]
    paired = differences(*both, what=name)
    if paired.shape[0] == 0 or paired.shape[1] < 2:
        return None
    return paired_effect(paired.to_numpy())


def _macro_f1_effect(arm: Evaluation, reference: Evaluation) -> Effect | None:
    seeds = [seed for seed in arm.answers.index if seed in reference.answers.index]
    items = list(arm.answers.columns)
    if not seeds or len(items) < 2 or set(items) != set(reference.answers.columns):
        return None
    taken = [model.answers.loc[seeds, items].to_numpy(dtype=str) for model in (arm, reference)]
    labels = [arm.labels[item] for item in items]
    # As the scorer has it: every class that is some item's answer or was taken for one.
    classes = sorted({*labels, *(str(answer) for table in taken for answer in np.unique(table))} - {""})
    return bootstrap_statistic(macro_f1(labels, classes=classes), *taken)


def _row(
    arm: Evaluation,
    reference: Evaluation,
    name: str,
    effect: Effect,
    adjusted: float,
    *,
    compared: int,
    least_seeds: int,
) -> ArmEffect:
    better = measure_of(name).higher_is_better
    # What is adjusted for being one of many must be clearer to be found.
    level = 0.05 / compared if not math.isnan(adjusted) else 0.05
    kind: str = verdict(
        effect,
        higher_is_better=better is not False,
        adjusted_p=None if math.isnan(adjusted) else adjusted,
        least_seeds=least_seeds,
    )
    if better is None:
        kind = {"helps": "higher", "hurts": "lower"}.get(kind, kind)
    return ArmEffect(
        model=arm.name,
        measure=name,
        mean=_mean(arm.values[name]),
        reference_mean=_mean(reference.values[name]),
        difference=Interval(effect.mean, effect.low, effect.high),
        p_value=effect.p_value,
        adjusted_p=adjusted,
        minimum_detectable=minimum_detectable_effect(effect, confidence=1 - level),
        verdict=kind,
        seeds=effect.seeds,
        items=effect.items,
    )


def _mean(table: pd.DataFrame) -> float:
    return float(table.mean(axis="index", skipna=False).mean())


def _common_curve(evaluations: Sequence[Evaluation]) -> tuple[str, float]:
    """Which curve every fine-tuned model has, and the step at which the shortest ends."""
    trained = [evaluation for evaluation in evaluations if evaluation.kind != BASE]
    kind = "training" if any(evaluation.validation.empty for evaluation in trained) else "validation"
    ends = [curve.index.max() for e in trained if not (curve := getattr(e, kind)).empty]
    return kind, min(ends, default=0)


def _until(curve: pd.Series[float], last: float) -> pd.Series[float]:
    known = curve.dropna()
    return known[known.index <= last]


def _per_seed(values: dict[int, float]) -> pd.DataFrame:
    return pd.DataFrame({"": values}, dtype="float64").rename_axis("seed")
