"""Puts what was measured on base, reference and LWF together into the report of one cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwf_assets import lwf_checkpoint
from lwf_assets.reports.report import (
    CellReport,
    Curve,
    CurvePoint,
    Difference,
    Example,
    ForgottenSample,
    Interval,
    ModelFigures,
    Source,
)
from lwf_assets.scored_forget_set import shares_of_terms
from lwf_assets.seeded_fine_tunes import CURVES, seeds_of
from lwf_assets.statistics import bootstrap_interval, rank_correlation
from lwf_assets.tables import read_rows

if TYPE_CHECKING:
    from lwf_assets.work import Work

BASE, REFERENCE, LWF = "base", "reference", "lwf"
MODELS = (BASE, REFERENCE, LWF)
PRIMARY = "accuracy"


@dataclass(frozen=True)
class Evaluated:
    """Everything measured on one model directory."""

    items: list[dict[str, Any]]
    forgetting_nll: list[float]
    responses: list[str]
    aggregates: dict[str, float]


def cell_report(
    work: Work,
    evaluated: Mapping[str, Mapping[int | None, Evaluated]],
    scored: Sequence[dict[str, Any]],
    prompts: Sequence[dict[str, Any]],
) -> CellReport:
    """The report of the cell that `work` makes.

    Args:
        work: gives the study, the partition and the inputs.
        evaluated: what was measured, by model and seed (None for the base model).
        scored: the rows of the scored forget set, in the order of each `forgetting_nll`.
        prompts: the forgetting prompts that every model answered.
    """
    alpha = work.study.alpha
    difference = _difference(evaluated)
    nll = {
        model: _mean_over_seeds([r.forgetting_nll for r in by_seed.values()]) for model, by_seed in evaluated.items()
    }
    ledger = lwf_checkpoint.read_ledger(work.input("lwf_checkpoint"), work.study.seeds)
    times = Counter(entry["sample_id"] for entry in ledger if entry["pushed"])
    confidence = [row["forgetting_confidence"] for row in scored]
    shares = shares_of_terms(scored, alpha)
    return CellReport(
        study=work.study.name,
        learning_task=work.learning_task,
        forgetting_task=work.forgetting_task,
        alpha=alpha,
        primary_measure=PRIMARY,
        models=[_figures(model, evaluated[model], scored) for model in MODELS],
        difference=difference,
        learning_curves=[
            *learning_curves(REFERENCE, work.input("reference_checkpoint")),
            *learning_curves(LWF, work.input("lwf_checkpoint")),
        ],
        unlearning_curves=_unlearning_curves(ledger),
        samples=[
            ForgottenSample(
                id=row["id"],
                prompt=row["prompt"],
                response=row["response"],
                forgetting_confidence=row["forgetting_confidence"],
                linear=row["linear"],
                quadratic=row["quadratic"],
                tokens=row["tokens"],
                selected=row["selected"],
                nll={model: nll[model][index] for model in MODELS},
                times_unlearned=times[row["id"]],
            )
            for index, row in enumerate(scored)
        ],
        examples=[
            Example(
                prompt=prompt["prompt"],
                responses={model: next(iter(evaluated[model].values())).responses[index] for model in MODELS},
            )
            for index, prompt in enumerate(prompts)
        ],
        linear_share=_number(shares["linear"]),
        quadratic_share=_number(shares["quadratic"]),
        length_correlation=_number(rank_correlation(confidence, [row["tokens"] for row in scored])),
        nll_correlation=_number(rank_correlation(confidence, [row["nll"] for row in scored])),
        notes=notes(difference),
        made_from=[
            Source(cell.asset, cell.partition.key, artifact.version) for cell, artifact in sorted(work.inputs.items())
        ],
    )


def _figures(model: str, by_seed: Mapping[int | None, Evaluated], scored: Sequence[dict[str, Any]]) -> ModelFigures:
    """Each measure's mean over items (and seeds), with an interval over the items."""
    first = next(iter(by_seed.values()))
    names = [name for name, value in first.items[0].items() if isinstance(value, float)]
    measures = {
        name: bootstrap_interval(_mean_over_seeds([[i[name] for i in r.items] for r in by_seed.values()]))
        for name in names
    }
    for name in sorted(first.aggregates.keys() - measures.keys() - {"invalid_share"}):
        # A measure of the whole test set, such as macro-F1, has no value per item to draw an interval from.
        mean = sum(result.aggregates[name] for result in by_seed.values()) / len(by_seed)
        measures[name] = Interval(mean, math.nan, math.nan)
    nll = _mean_over_seeds([result.forgetting_nll for result in by_seed.values()])
    for name, chosen in (("forgotten_nll", True), ("kept_nll", False)):
        measures[name] = bootstrap_interval(
            [value for value, row in zip(nll, scored, strict=True) if row["selected"] == chosen]
        )
    return ModelFigures(model, [seed for seed in by_seed if seed is not None], measures)


def _difference(evaluated: Mapping[str, Mapping[int | None, Evaluated]]) -> Difference:
    """LWF minus reference on the primary measure, paired item by item (and seed by seed, before averaging)."""
    means = {
        model: _mean_over_seeds([[item[PRIMARY] for item in result.items] for result in evaluated[model].values()])
        for model in (REFERENCE, LWF)
    }
    paired = [lwf - reference for lwf, reference in zip(means[LWF], means[REFERENCE], strict=True)]
    return Difference(PRIMARY, bootstrap_interval(paired), items=len(paired), seeds=len(evaluated[LWF]))


def notes(difference: Difference) -> list[str]:
    """What a reader must know of the figures before believing them."""
    interval = difference.interval
    if interval.low == interval.high == 0:
        return [
            f"LWF and reference did alike on all {difference.items} items, so the interval has no width. That does not "
            f"make the effect zero: up to {min(1, 3 / difference.items):.1%} of other items may turn out differently "
            "(rule of three, 95 %)."
        ]
    return []


def learning_curves(label: str, checkpoint: Path) -> list[Curve]:
    """The loss curve of each seed of a reference or LWF checkpoint."""
    points = read_rows(checkpoint / CURVES)
    return [
        Curve(label, seed, [CurvePoint(p["step"], p["loss"]) for p in points if p["seed"] == seed])
        for seed in seeds_of(checkpoint)
    ]


def _unlearning_curves(ledger: Sequence[dict[str, Any]]) -> list[Curve]:
    """Mean NLL of each unlearning batch, just before its update and when its samples were next looked at."""
    curves = []
    for label in ("before", "after"):
        for seed in sorted({entry["seed"] for entry in ledger}):
            by_step: dict[int, list[float]] = {}
            for entry in ledger:
                if entry["seed"] == seed:
                    by_step.setdefault(entry["step"], []).append(entry[f"nll_{label}"])
            points = [CurvePoint(step, sum(values) / len(values)) for step, values in sorted(by_step.items())]
            curves.append(Curve(label, seed, points))
    return curves


def _mean_over_seeds(values: Sequence[Sequence[float]]) -> list[float]:
    return [sum(of_item) / len(of_item) for of_item in zip(*values, strict=True)]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
