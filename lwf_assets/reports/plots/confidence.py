"""The plots of scored samples: the distribution of FC and of its terms, what FC correlates with, and the NLL by model.

Values that are not finite are left out; a plot without any says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lwf_assets.comparison.records import MODELS, ForgottenSample
from lwf_assets.reports.numbers import common_exponent, unit_of
from lwf_assets.reports.plots.style import (
    FONT_SIZE,
    FORGOTTEN,
    INK,
    KEPT,
    MODEL_NAMES,
    legend,
    legend_of_figure,
    new_figure,
    say_empty,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLES_DRAWN = 100
"""At most this many single samples are drawn as lines in one panel; means are over all."""
POINTS_DRAWN = 400
"""At most this many samples are drawn as points, evenly from all."""

_CHOSEN, _NOT_CHOSEN = "chosen for unlearning", "not chosen"


def confidence_histogram(
    confidence: Sequence[float], selected: Sequence[bool], threshold: float | None = None, *, constant: float = 0.0
) -> Figure:
    """Distribution of FC over the scored samples, the chosen ones apart.

    `threshold` is the FC where the choice ends; None where FC did not decide it. `constant`, the term that all samples
    share, is taken off, because it can be so large that the axis shows nothing else.
    """
    from matplotlib.ticker import MaxNLocator

    pairs = [(value - constant, flag) for value, flag in zip(confidence, selected, strict=True) if math.isfinite(value)]
    exponent = common_exponent(value for value, _ in pairs)
    scale = 10.0**exponent
    name = "FC \N{MINUS SIGN} constant" if constant else "forgetting confidence FC"
    figure, (axes,) = new_figure(name + unit_of(exponent), "samples")
    if not pairs:
        say_empty(axes)
        return figure
    groups = [[value / scale for value, flag in pairs if flag is wanted] for wanted in (False, True)]
    place = None if threshold is None or not math.isfinite(threshold) else (threshold - constant) / scale
    edges = _bin_edges([*groups[0], *groups[1]], place)
    names = [_NOT_CHOSEN, _CHOSEN]
    axes.hist(groups, bins=edges, stacked=True, color=[KEPT, FORGOTTEN], label=names, rwidth=0.9)
    if place is not None:
        axes.axvline(place, color=INK, linewidth=1, linestyle="--", label="threshold")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    legend(axes)
    return figure


def terms_histogram(linear: Sequence[float], quadratic: Sequence[float], selected: Sequence[bool]) -> Figure:
    """Distribution of what each term adds to FC over the scored samples, side by side, the chosen ones apart."""
    from matplotlib.ticker import MaxNLocator

    exponent = common_exponent([*linear, *quadratic])
    scale = 10.0**exponent
    figure, panels = new_figure("", "samples", panels=2)
    for axes, name, values in zip(panels, ("linear", "quadratic"), (linear, quadratic), strict=True):
        axes.set_xlabel(f"{name} part{unit_of(exponent)}", fontsize=FONT_SIZE, color=INK)
        axes.locator_params(nbins=4, axis="x")
        pairs = [(v / scale, flag) for v, flag in zip(values, selected, strict=True) if math.isfinite(v)]
        if not pairs:
            say_empty(axes)
            continue
        groups = [[value for value, flag in pairs if flag is wanted] for wanted in (False, True)]
        edges = _bin_edges([*groups[0], *groups[1]], None)
        axes.hist(groups, bins=edges, stacked=True, color=[KEPT, FORGOTTEN], label=[_NOT_CHOSEN, _CHOSEN], rwidth=0.9)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if panels[0].patches:
        legend_of_figure(figure, panels[0])
    return figure


def confidence_against(
    quantity: Sequence[float],
    confidence: Sequence[float],
    selected: Sequence[bool],
    name: str,
    *,
    constant: float = 0.0,
) -> Figure:
    """FC, per sample, over another quantity such as length; `constant` as in `confidence_histogram`."""
    points = [
        (across, up - constant, flag)
        for across, up, flag in zip(quantity, confidence, selected, strict=True)
        if math.isfinite(across + up)
    ]
    exponent = common_exponent(up for _, up, _ in points)
    scale = 10.0**exponent
    figure, (axes,) = new_figure(name, ("FC \N{MINUS SIGN} constant" if constant else "FC") + unit_of(exponent))
    _scatter(axes, [(across, up / scale, flag) for across, up, flag in points])
    return figure


def terms_scatter(linear: Sequence[float], quadratic: Sequence[float], selected: Sequence[bool]) -> Figure:
    """What the two terms add to FC, per sample: -alpha <F d, g> across, alpha^2/2 <F g, g> up, in the same unit."""
    points = [point for point in zip(linear, quadratic, selected, strict=True) if math.isfinite(point[0] + point[1])]
    exponent = common_exponent(value for point in points for value in point[:2])
    scale = 10.0**exponent
    unit = unit_of(exponent)
    figure, (axes,) = new_figure(f"linear part of FC{unit}", f"quadratic part of FC{unit}")
    if points:
        axes.axvline(0, color=INK, linewidth=0.8)
    _scatter(axes, [(across / scale, up / scale, flag) for across, up, flag in points])
    return figure


def _scatter(axes: Axes, points: Sequence[tuple[float, float, bool]]) -> None:
    if not points:
        say_empty(axes)
        return
    drawn = points[:: math.ceil(len(points) / POINTS_DRAWN)]
    for flag, name, colour, marker in ((False, _NOT_CHOSEN, KEPT, "o"), (True, _CHOSEN, FORGOTTEN, "D")):
        across, up = [p[0] for p in drawn if p[2] is flag], [p[1] for p in drawn if p[2] is flag]
        if across:
            axes.scatter(across, up, s=16, color=colour, marker=marker, alpha=0.75, linewidths=0, label=name)
    legend(axes)


def _bin_edges(values: Sequence[float], threshold: float | None) -> list[float]:
    """Equal bins over the values; one of the edges is the threshold, so that no bar is half chosen."""
    low, high = min(values), max(values)
    bins = min(30, max(6, math.ceil(1.5 * math.sqrt(len(values)))))
    width = (high - low) / bins
    if width <= 1e-9 * max(abs(low), abs(high)):
        # Equal, or too close for bins between them.
        half = max(abs(low), 1.0) / 20
        return [low - half, high + half]
    start = low
    if threshold is not None and low < threshold < high:
        start += (threshold - low) % width - width
    return [start + width * index for index in range(bins + (2 if start < low else 1))]


def nll_before_after(samples: Sequence[ForgottenSample], models: Sequence[str] = MODELS) -> Figure:
    """Each self-generated sample's NLL from model to model, for the chosen ones and for the others."""
    figure, panels = new_figure("", "NLL (nats per token)", panels=2)
    for axes, flag, name, colour in zip(
        panels, (True, False), ("chosen", "not chosen"), (FORGOTTEN, KEPT), strict=True
    ):
        rows = [[sample.nll.get(model, math.nan) for model in models] for sample in samples if sample.selected is flag]
        rows = [row for row in rows if all(map(math.isfinite, row))]
        axes.set_title(f"{name} ({len(rows)})", fontsize=FONT_SIZE, color=INK)
        axes.set_xticks(range(len(models)), [MODEL_NAMES.get(model, model) for model in models])
        axes.set_xlim(-0.3, len(models) - 0.7)
        if not rows:
            say_empty(axes)
            continue
        for row in rows[:: math.ceil(len(rows) / SAMPLES_DRAWN)]:
            axes.plot(row, color=colour, linewidth=0.7, alpha=0.25)
        means = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
        axes.plot(means, color=colour, linewidth=2.2, marker="o", markersize=5, label="mean")
    return figure
