"""The plots of curves over steps: learning, unlearning, learning again; one function each, without global state.

Values that are not finite are left out; a plot without any says so. With several seeds the line is their mean and the
band reaches from the lowest to the highest seed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from lwf_assets.reports.plots.style import (
    BASE,
    FONT_SIZE,
    FORGOTTEN,
    INK,
    KEPT,
    MODEL_COLOURS,
    MODEL_NAMES,
    REFERENCE,
    drawable,
    legend,
    new_figure,
    new_grid,
    say_empty,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lwf_assets.comparison.records import Curve

POINTS_DRAWN = 160
"""A longer curve is thinned to about this many points, after smoothing."""


def loss_curves(curves: Sequence[Curve], *, what: str = "training loss (nats per token)") -> Figure:
    """A learning curve by learning step: "reference" and "lwf" in their colours, any other label as it is."""
    figure, (axes,) = new_figure("learning step", what)
    looks = {name: (MODEL_NAMES[name], MODEL_COLOURS[name]) for name in ("reference", "lwf")}
    others = {curve.label: (curve.label, INK) for curve in curves if curve.label not in looks}
    _draw_curves(axes, curves, looks | others)
    return figure


def arm_panels(curves: Sequence[Curve], names: Mapping[str, str], *, what: str) -> Figure:
    """One small panel per arm: its learning curve over that of the reference, all on the same axes.

    `names` has the arms to draw, and how each is called.
    """
    figure, panels = new_grid(len(names), "step", what)
    for axes, (arm, name) in zip(panels, names.items(), strict=True):
        axes.set_title(drawable(name), fontsize=FONT_SIZE, color=INK)
        looks = {"reference": ("reference", REFERENCE), arm: (name, FORGOTTEN)}
        _draw_curves(axes, curves, looks, with_legend=False)
    return figure


def unlearning_curves(curves: Sequence[Curve]) -> Figure:
    """Mean NLL of the unlearning batch by learning step; "before" the update, and "after": when next evaluated."""
    figure, (axes,) = new_figure("learning step", "NLL of the unlearning batch\n(nats per token)")
    looks = {"before": ("before the update", BASE), "after": ("when next looked at", FORGOTTEN)}
    _draw_curves(axes, curves, looks)
    return figure


def relearning_curves(curves: Sequence[Curve], names: Mapping[str, str]) -> Figure:
    """NLL of the samples chosen for unlearning, by step of learning them again, under each probed model."""
    figure, (axes,) = new_figure("step of learning again", "NLL of the samples chosen\n(nats per token)")
    labels = list(dict.fromkeys(curve.label for curve in curves))
    others = iter((KEPT, FORGOTTEN, INK))
    looks = {
        label: (names.get(label, label), MODEL_COLOURS[label] if label in MODEL_COLOURS else next(others, INK))
        for label in labels
    }
    _draw_curves(axes, curves, looks)
    return figure


def _draw_curves(
    axes: Axes, curves: Sequence[Curve], looks: Mapping[str, tuple[str, str]], *, with_legend: bool = True
) -> None:
    """Boldly the mean over seeds under a running mean of a twentieth; behind it a band, or faintly the one seed."""
    drawn = False
    for label, (name, colour) in looks.items():
        series = [
            {point.step: point.value for point in curve.points if math.isfinite(point.value)}
            for curve in curves
            if curve.label == label
        ]
        by_step: dict[int, list[float]] = defaultdict(list)
        for points in series:
            for step, value in points.items():
                by_step[step].append(value)
        if not by_step:
            continue
        drawn = True
        steps = sorted(by_step)
        rows = [(min(v), math.fsum(v) / len(v), max(v)) for v in (by_step[step] for step in steps)]
        low, smooth, high = (_running_mean(column, len(steps) // 20) for column in zip(*rows, strict=True))
        if len(series) > 1:
            places = _thinned(len(steps))
            axes.fill_between(
                [steps[i] for i in places],
                [low[i] for i in places],
                [high[i] for i in places],
                color=colour,
                alpha=0.18,
                linewidth=0,
            )
        elif len(steps) // 20 > 0:
            places = _thinned(len(steps), most=3 * POINTS_DRAWN)
            axes.plot([steps[i] for i in places], [rows[i][1] for i in places], color=colour, linewidth=0.8, alpha=0.3)
        places = _thinned(len(steps))
        marker = "o" if len(steps) <= 20 else ""
        axes.plot(
            [steps[i] for i in places],
            [smooth[i] for i in places],
            color=colour,
            linewidth=1.8,
            marker=marker,
            markersize=4,
            label=drawable(name),
        )
    if not drawn:
        say_empty(axes)
    elif with_legend:
        legend(axes)


def _thinned(count: int, *, most: int = POINTS_DRAWN) -> list[int]:
    """Evenly spread places among `count`, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    half = window // 2
    around = [values[max(0, index - half) : index + half + 1] for index in range(len(values))]
    return [math.fsum(part) / len(part) for part in around]
