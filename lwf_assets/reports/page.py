"""The HTML pages: the report of one cell, and the leaderboard of all cells.

Each is a single file that opens without a network and has no script. Equal data give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from lwf_assets.comparison.measures import STEPS_TO
from lwf_assets.comparison.records import ArmRow, CellReport, ForgottenSample, LeaderboardRow, ProbeOutcome
from lwf_assets.reports import page_figures, wording
from lwf_assets.reports.confidence_columns import ConfidenceColumns
from lwf_assets.reports.page_environment import page_environment
from lwf_assets.reports.plots.sparkline import sparkline
from lwf_assets.reports.wording import caution, leaderboard_outcome

CHOSEN_SHOWN, KEPT_SHOWN = 150, 40
"""At most this many samples are in the page's tables; samples.parquet has all."""

UTILITY = (
    "neutral_nll",
    "untouched_accuracy",
    "untouched_nll",
    "forgetting_task_accuracy",
    "forgetting_task_nll",
    "relative_distance",
)
"""What the fine-tune did elsewhere."""
_ELSEWHERE = {*UTILITY, "distance"}


def cell_page(report: CellReport) -> str:
    """One cell's report as a whole HTML page."""
    measures = {report.primary_measure: None} | dict.fromkeys(m for figures in report.models for m in figures.measures)
    chosen = _by_confidence([sample for sample in report.samples if sample.selected])
    kept = _by_confidence([sample for sample in report.samples if not sample.selected])
    template = page_environment().get_template("cell.html.j2")
    result = report.result
    return template.render(
        report=report,
        result=result,
        outcome=wording.outcome(report),
        caution=wording.caution({result.seeds} if result else set()),
        multiplicity=wording.multiplicity(report),
        measures=[measure for measure in measures if measure not in _ELSEWHERE],
        compared=[f.model for f in report.models if f.model not in ("base", "reference")],
        utility=[measure for measure in UTILITY if measure in measures],
        all_measures=[m for m in measures if any(e.measure == m for e in report.effects)],
        reached=any(m.startswith(STEPS_TO) for m in measures),
        result_plots=page_figures.result_figures(report),
        arm_plots=page_figures.arm_figures(report),
        unlearning_plots=page_figures.unlearning_figures(report),
        confidence_plots=page_figures.confidence_figures(report),
        relearning_plots=page_figures.relearning_figures(report),
        relearned=wording.relearned(report),
        conflicts=wording.conflicts_found(report),
        probe_models=list(dict.fromkeys(outcome.model for outcome in report.probes)),
        probe_rows=_probe_rows(report.probes),
        chosen=chosen[:CHOSEN_SHOWN],
        chosen_count=len(chosen),
        kept=kept[:KEPT_SHOWN],
        kept_count=len(kept),
        sparks=_sparklines(chosen[:CHOSEN_SHOWN]),
        columns=ConfidenceColumns.of(report),
        sources=wording.sources_of_confidence(report),
    )


def _sparklines(samples: Sequence[ForgottenSample]) -> dict[str, str]:
    """The course of each sample's NLL, all on the same axes."""
    from markupsafe import Markup

    points = [point for sample in samples for point in sample.history if math.isfinite(point.value)]
    if not points:
        return {}
    steps = (min(point.step for point in points), max(point.step for point in points))
    nll = (min(point.value for point in points), max(point.value for point in points))
    # It holds numbers alone.
    return {s.id: Markup(sparkline(s.history, set(s.steps_unlearned), steps=steps, nll=nll)) for s in samples}


def _probe_rows(probes: Sequence[ProbeOutcome]) -> list[tuple[str, str, dict[str, ProbeOutcome]]]:
    """Probe, variant, and the outcome by model: as trained first, then as they come."""

    def kind(outcome: ProbeOutcome) -> tuple[str, str]:
        return outcome.probe, outcome.variant

    kinds = sorted(dict.fromkeys(map(kind, probes)), key=lambda pair: pair[0] != "as trained")
    by_kind = {key: list(group) for key, group in groupby(sorted(probes, key=kind), key=kind)}
    return [(*key, {outcome.model: outcome for outcome in by_kind[key]}) for key in kinds]


def _by_confidence(samples: Sequence[ForgottenSample]) -> list[ForgottenSample]:
    """Highest FC first; NaN last."""

    def order(sample: ForgottenSample) -> tuple[bool, float, str]:
        value = sample.forgetting_confidence
        return math.isnan(value), 0.0 if math.isnan(value) else -value, sample.id

    return sorted(samples, key=order)


def leaderboard_page(study: str, rows: Sequence[LeaderboardRow], arms: Sequence[ArmRow] = ()) -> str:
    """The leaderboard as a whole HTML page; `arms` has every compared model in every cell, LWF too."""
    template = page_environment().get_template("leaderboard.html.j2")
    learning_tasks = list(dict.fromkeys(row.learning_task for row in rows))
    forgetting_tasks = {row.forgetting_task for row in rows}
    # The tasks that are also learned in the order of the rows, so that the grid's diagonal is its diagonal.
    columns = [task for task in learning_tasks if task in forgetting_tasks]
    columns += [task for task in dict.fromkeys(row.forgetting_task for row in rows) if task not in columns]
    labels = {arm.effect.model: "LWF" if arm.effect.model == "lwf" else arm.label for arm in arms}
    return template.render(
        study=study,
        rows=rows,
        outcome=leaderboard_outcome(rows),
        caution=caution({row.seeds for row in rows if row.seeds}),
        learning_tasks=learning_tasks,
        forgetting_tasks=columns,
        cells={(row.learning_task, row.forgetting_task): row for row in rows},
        arm_labels=labels,
        arm_effects={(arm.effect.model, arm.learning_task, arm.forgetting_task): arm.effect for arm in arms},
    )
