"""Which plots are on the page of a cell, with what a reader must know to read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lwf_assets.comparison.measures import measure_name
from lwf_assets.comparison.records import CellReport, Curve, ForgottenSample
from lwf_assets.reports.confidence_columns import ConfidenceColumns
from lwf_assets.reports.plots import confidence as confidence_plots
from lwf_assets.reports.plots import curves as curve_plots
from lwf_assets.reports.plots.export import to_svg
from lwf_assets.reports.plots.forest import effects_forest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS_DRAWN = 12
"""At most this many arms have a panel of their own."""

_BAND = (
    "With one seed the faint line is the curve as logged, with several the band reaches from the lowest seed to the "
    "highest. Bold: the mean, smoothed over a twentieth of the steps."
)


@dataclass(frozen=True)
class PageFigure:
    """A figure in the page."""

    name: str
    title: str
    caption: str
    svg: str


def result_figures(report: CellReport) -> list[PageFigure]:
    """How the models learned, and how they compare with the reference."""
    names = {model: report.label(model) for model in (figures.model for figures in report.models)}
    pair = ("reference", "lwf")
    shown = [
        _figure(
            "forest",
            f"Effects on {measure_name(report.primary_measure)}",
            "Difference from the reference with its 95 % interval, before the adjustment for multiple "
            "comparisons. Filled: the verdict is an effect.",
            effects_forest(report.effects, report.primary_measure, names),
        ),
        _figure("learning", "Learning", _BAND, curve_plots.loss_curves(_of(report.learning_curves, pair))),
    ]
    if report.validation_curves:
        curves = curve_plots.loss_curves(
            _of(report.validation_curves, pair), what="NLL of the validation split\n(nats per token)"
        )
        shown.append(_figure("validation", "Learning, on the validation split", _BAND, curves))
    if report.primary_measure != "target_nll" and any(e.measure == "target_nll" for e in report.effects):
        forest = effects_forest(report.effects, "target_nll", names)
        shown.append(
            _figure("forest-nll", "Effects on the NLL of the targets", "As above; left of zero is better.", forest)
        )
    return shown


def arm_figures(report: CellReport) -> list[PageFigure]:
    """The learning curve of each arm with that of the reference; nothing without arms."""
    validated = bool(report.validation_curves)
    curves = report.validation_curves if validated else report.learning_curves
    known = {curve.label for curve in curves}
    arms = [arm for arm in report.arms if arm in known][:ARMS_DRAWN]
    if not arms:
        return []
    what = "NLL of the validation split" if validated else "training loss"
    figure = curve_plots.arm_panels(curves, {arm: report.label(arm) for arm in arms}, what=what)
    caption = f"{what[0].upper()}{what[1:]}, nats per token. Purple: the arm. Blue: the reference. {_BAND}"
    return [_figure("arms", "Learning, arm by arm", caption, figure)]


def unlearning_figures(report: CellReport) -> list[PageFigure]:
    """What became of the samples."""
    return [
        _figure(
            "unlearning",
            "Unlearning",
            "The batch of each unlearning step, just before its update, and at its samples' next turn or the end. "
            + _BAND,
            curve_plots.unlearning_curves(report.unlearning_curves),
        ),
        _figure(
            "samples",
            "The model's own samples",
            f"Faint: single samples, at most {confidence_plots.SAMPLES_DRAWN}. Bold: mean over all. "
            "Higher is less likely.",
            confidence_plots.nll_before_after(report.samples),
        ),
    ]


def confidence_figures(report: CellReport) -> list[PageFigure]:
    """How FC is distributed, what it is made of, and what it goes together with."""
    columns, samples = ConfidenceColumns.of(report), report.samples
    confidence = [sample.forgetting_confidence for sample in samples]
    selected = [sample.selected for sample in samples]
    constant = columns.constant if math.isfinite(columns.constant) else 0.0
    linear, quadratic = [columns.linear(s) for s in samples], [columns.quadratic(s) for s in samples]
    histogram = confidence_plots.confidence_histogram(confidence, selected, threshold(samples), constant=constant)
    points = f"At most {confidence_plots.POINTS_DRAWN} samples are drawn."
    lengths = [float(sample.tokens) for sample in samples]
    nll = [sample.nll.get("base", math.nan) for sample in samples]
    return [
        _figure("histogram", "Distribution of FC", "FC without the constant term, which all samples share.", histogram),
        _figure(
            "parts",
            "Distribution of the two terms",
            "What each term adds to FC.",
            confidence_plots.terms_histogram(linear, quadratic, selected),
        ),
        _figure(
            "terms",
            "The two terms against each other",
            f"FC is the sum of both, plus the constant term. {points}",
            confidence_plots.terms_scatter(linear, quadratic, selected),
        ),
        _figure(
            "length",
            "FC and length",
            points,
            confidence_plots.confidence_against(
                lengths, confidence, selected, "tokens of the response", constant=constant
            ),
        ),
        _figure(
            "likelihood",
            "FC and likelihood",
            points,
            confidence_plots.confidence_against(
                nll, confidence, selected, "NLL under the base model (nats per token)", constant=constant
            ),
        ),
    ]


def relearning_figures(report: CellReport) -> list[PageFigure]:
    """How fast the samples come back; nothing where that was not probed."""
    if not report.relearning:
        return []
    names = {curve.label: report.label(curve.label) for curve in report.relearning}
    figure = curve_plots.relearning_curves(report.relearning, names)
    caption = "NLL of the samples chosen while each model is trained on them. A fast fall means: hidden, not forgotten."
    return [_figure("relearning", "Relearning", caption, figure)]


def threshold(samples: Sequence[ForgottenSample]) -> float | None:
    """The FC half-way between chosen and not; None where FC did not decide it, or all were chosen."""
    chosen = [s.forgetting_confidence for s in samples if s.selected and math.isfinite(s.forgetting_confidence)]
    kept = [s.forgetting_confidence for s in samples if not s.selected and math.isfinite(s.forgetting_confidence)]
    if chosen and kept and min(chosen) >= max(kept):
        return (min(chosen) + max(kept)) / 2
    if chosen and kept and max(chosen) <= min(kept):
        return (max(chosen) + min(kept)) / 2
    return None


def _figure(name: str, title: str, caption: str, figure: Figure) -> PageFigure:
    from markupsafe import Markup

    # matplotlib escapes what it writes into its SVG.
    return PageFigure(name, title, caption, Markup(to_svg(figure, prefix=f"plot-{name}")))


def _of(curves: Sequence[Curve], labels: Sequence[str]) -> list[Curve]:
    return [curve for curve in curves if curve.label in labels]
