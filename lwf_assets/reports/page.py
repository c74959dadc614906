"""The reports as single HTML files: they open with no network, hold no script, and equal data give equal bytes.

What a model wrote is hostile input: every text is escaped by the templates, and the page's content security policy
forbids scripts and loads of any kind, should something slip through.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from lwf_assets.reports import numbers as report_numbers
from lwf_assets.reports import plots
from lwf_assets.reports.figure_formats import to_svg
from lwf_assets.reports.report import MODELS, CellReport, ForgottenSample, LeaderboardRow
from lwf_assets.reports.wording import (
    MEASURES,
    caution,
    difference_grade,
    leaderboard_outcome,
    measure_name,
    outcome,
    sources_of_confidence,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment
    from matplotlib.figure import Figure

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f]")
_NOT_TEXT = re.compile("[\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def cell_page(report: CellReport) -> str:
    """One cell's report as a whole HTML page."""
    measures = {report.primary_measure: None} | dict.fromkeys(m for figures in report.models for m in figures.measures)
    chosen = [sample for sample in report.samples if sample.selected]
    template = _environment().get_template("cell.html.j2")
    return template.render(
        report=report,
        outcome=outcome(report),
        caution=caution({report.difference.seeds}),
        measures=list(measures),
        seeds={figures.model: figures.seeds for figures in report.models},
        result_plots=_result_plots(report),
        confidence_plots=_confidence_plots(report),
        chosen=_by_confidence(chosen),
        kept=_by_confidence([sample for sample in report.samples if not sample.selected]),
        columns=_Columns.of(report),
        sources=sources_of_confidence(report),
    )


def leaderboard_page(study: str, rows: Sequence[LeaderboardRow]) -> str:
    """Every cell of a study as a whole HTML page: the grid of differences, and the table behind it."""
    template = _environment().get_template("leaderboard.html.j2")
    learning_tasks = list(dict.fromkeys(row.learning_task for row in rows))
    forgetting_tasks = {row.forgetting_task for row in rows}
    # The tasks that are also learned in the order of the rows, so that the grid's diagonal is its diagonal.
    columns = [task for task in learning_tasks if task in forgetting_tasks]
    columns += [task for task in dict.fromkeys(row.forgetting_task for row in rows) if task not in columns]
    return template.render(
        study=study,
        rows=rows,
        outcome=leaderboard_outcome(rows),
        caution=caution({row.seeds for row in rows}),
        learning_tasks=learning_tasks,
        forgetting_tasks=columns,
        cells={(row.learning_task, row.forgetting_task): row for row in rows},
    )


@dataclass(frozen=True)
class _Plot:
    """A figure in the page, with what a reader must know to read it."""

    name: str
    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class _Columns:
    """How the terms of FC are written in the table of samples: what all share taken off, one power of ten taken out."""

    alpha: float
    constant: float
    exponent: int

    @classmethod
    def of(cls, report: CellReport) -> _Columns:
        alpha = report.alpha
        constants = [s.forgetting_confidence + alpha * s.linear - alpha**2 * s.quadratic for s in report.samples]
        constants = sorted(filter(math.isfinite, constants))
        constant = constants[len(constants) // 2] if constants else math.nan
        parts = [part for s in report.samples for part in (alpha * s.linear, alpha**2 * s.quadratic)]
        return cls(alpha, constant, report_numbers.common_exponent(parts))

    @property
    def unit(self) -> str:
        """The power of ten, for the heads of the columns."""
        return report_numbers.unit_of(self.exponent)

    def linear(self, sample: ForgottenSample) -> float:
        """What the linear term adds to the sample's FC."""
        return -self.alpha * sample.linear

    def quadratic(self, sample: ForgottenSample) -> float:
        """What the quadratic term adds to the sample's FC."""
        return self.alpha**2 * sample.quadratic

    def write(self, value: float) -> str:
        """A value of these columns, in their unit."""
        return report_numbers.fixed(value / 10.0**self.exponent, 3, signed=True)


def _result_plots(report: CellReport) -> list[_Plot]:
    seeds = (
        "Faint: each seed as logged. Bold: mean over seeds, smoothed by a running mean over a twentieth of the points."
    )
    comparison = plots.model_comparison(report.models, report.primary_measure)
    name = measure_name(report.primary_measure)
    return [
        _plot("comparison", name, "Mean and 95 % interval.", comparison),
        _plot("learning", "Learning", seeds, plots.loss_curves(report.learning_curves)),
        _plot(
            "unlearning",
            "Unlearning",
            "The batch of each unlearning step, just before its update, and at its samples' next turn or the end. "
            + seeds,
            plots.unlearning_curves(report.unlearning_curves),
        ),
        _plot(
            "samples",
            "The model's own samples",
            f"Faint: single samples, at most {plots.SAMPLES_DRAWN}. Bold: mean over all. Higher is less likely.",
            plots.nll_before_after(report.samples),
        ),
    ]


def _confidence_plots(report: CellReport) -> list[_Plot]:
    columns, samples = _Columns.of(report), report.samples
    confidence = [sample.forgetting_confidence for sample in samples]
    selected = [sample.selected for sample in samples]
    constant = columns.constant if math.isfinite(columns.constant) else 0.0
    histogram = plots.confidence_histogram(confidence, selected, _threshold(samples), constant=constant)
    linear, quadratic = [columns.linear(s) for s in samples], [columns.quadratic(s) for s in samples]
    scatter = plots.terms_scatter(linear, quadratic, selected)
    return [
        _plot("histogram", "Distribution of FC", "FC without the constant term, which all samples share.", histogram),
        _plot("terms", "The two terms of FC", "FC is the sum of both, plus the constant term.", scatter),
    ]


def _plot(name: str, title: str, caption: str, figure: Figure) -> _Plot:
    from markupsafe import Markup

    # matplotlib escapes what it writes into its SVG.
    return _Plot(name, title, caption, Markup(to_svg(figure, prefix=f"plot-{name}")))


def _threshold(samples: Sequence[ForgottenSample]) -> float | None:
    """The FC half-way between chosen and not; None where FC did not decide it, or all were chosen."""
    chosen = [s.forgetting_confidence for s in samples if s.selected and math.isfinite(s.forgetting_confidence)]
    kept = [s.forgetting_confidence for s in samples if not s.selected and math.isfinite(s.forgetting_confidence)]
    if chosen and kept and min(chosen) >= max(kept):
        return (min(chosen) + max(kept)) / 2
    if chosen and kept and max(chosen) <= min(kept):
        return (max(chosen) + min(kept)) / 2
    return None


def _by_confidence(samples: Sequence[ForgottenSample]) -> list[ForgottenSample]:
    """Highest FC first; NaN last."""

    def order(sample: ForgottenSample) -> tuple[bool, float, str]:
        value = sample.forgetting_confidence
        return math.isnan(value), 0.0 if math.isnan(value) else -value, sample.id

    return sorted(samples, key=order)


def _visible(text: str) -> str:
    """Text with its control characters as pictures, and what HTML cannot hold as replacement characters."""
    shown = _CONTROL.sub(lambda match: chr(0x2400 + ord(match[0])), text)
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", shown)


def _excerpt(text: str, length: int = 90) -> str:
    """The beginning of a text on one line."""
    line = " ".join(_visible(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        # By name autoescape would be off: these templates end in .j2.
        autoescape=True,
        loader=PackageLoader("lwf_assets", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Also where no filter is named, a model's text must not break the page.
        finalize=lambda value: _visible(value) if type(value) is str else value,
    )
    filters: dict[str, Any] = {
        "bounds": report_numbers.bounds,
        "signed_bounds": partial(report_numbers.bounds, signed=True),
        "mean": report_numbers.mean,
        "signed_mean": partial(report_numbers.mean, signed=True),
        "fixed": report_numbers.fixed,
        "significant": report_numbers.significant,
        "excerpt": _excerpt,
        "measure": measure_name,
    }
    environment.filters.update(filters)
    environment.globals.update(
        models=MODELS, model_names=plots.MODEL_NAMES, measure_hints=MEASURES, difference_grade=difference_grade
    )
    return environment
