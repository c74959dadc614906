"""Asset eval_report: what forgetting did to one learning task, compared with the arms, with verdicts; tables and a
page.

It reads the tables of the evaluations, the probes, the forget set and the ledger: no model is loaded.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lwf_assets.comparison import effect_tables, forgotten_samples
from lwf_assets.comparison.cell_report import cell_report
from lwf_assets.comparison.finite_json import finite, to_json
from lwf_assets.comparison.records import MODELS, CellReport, PrimaryDifference
from lwf_assets.reports.page import cell_page
from lwf_assets.reports.wording import outcome
from lwf_assets.statistics.interval import UNKNOWN
from lwf_assets.store.layout import EFFECTS, REPORT_PAGE, REPORT_SAMPLES, SUMMARY
from lwf_assets.store.tables import write_rows

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Compare every model of the cell with the reference and write effects, samples, summary and a page."""
    report = cell_report(work.study, work.partition, work.inputs)
    write_rows(work.out / EFFECTS, effect_tables.effect_rows(report.effects), effect_tables.SCHEMA)
    write_rows(work.out / REPORT_SAMPLES, forgotten_samples.sample_rows(report.samples), forgotten_samples.SCHEMA)
    space = {} if work.study.confidence_space is None else {"confidence_space": work.study.confidence_space}
    (work.out / SUMMARY).write_text(to_json(_summary(report) | space))
    (work.out / REPORT_PAGE).write_text(cell_page(report), encoding="utf-8")
    difference = _difference(report)
    answered = report.effect("lwf", "accuracy")
    figures = {
        "test_items": answered.items if answered else None,
        **{f"{model}_{report.primary_measure}": report.figures(model, report.primary_measure).mean for model in MODELS},
        "difference": difference.interval.mean,
        "difference_low": difference.interval.low,
        "difference_high": difference.interval.high,
        "verdict": _verdict(report),
        "compared_models": len(report.models),
        **{f"{model}_forgotten_nll": report.figures(model, "forgotten_nll").mean for model in MODELS},
    }
    return {name: finite(value) if isinstance(value, float) else value for name, value in figures.items()}


def _difference(report: CellReport) -> PrimaryDifference:
    result = report.result
    if result is None:
        return PrimaryDifference(report.primary_measure, UNKNOWN, items=0, seeds=0)
    return PrimaryDifference(result.measure, result.difference, items=result.items, seeds=result.seeds)


def _verdict(report: CellReport) -> str:
    return report.result.verdict if report.result else "not measured"


def _summary(report: CellReport) -> dict[str, Any]:
    return {
        "study": report.study,
        "learning_task": report.learning_task,
        "forgetting_task": report.forgetting_task,
        "alpha": report.alpha,
        "primary_measure": report.primary_measure,
        "verdict": _verdict(report),
        "outcome": outcome(report),
        "models": [asdict(figures) for figures in report.models],
        "difference": asdict(_difference(report)),
        "effects": [asdict(effect) for effect in report.effects],
        "conflict_rankings": [asdict(ranking) for ranking in report.rankings],
    }
