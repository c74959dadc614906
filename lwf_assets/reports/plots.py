"""The plots of the reports, one function each, as matplotlib figures without global state.

Values that are not finite are left out; a plot without any says so. Colours are from palettes that stay apart under the
common colour-blindnesses, and mean the same in every plot. `figure_formats.py` turns a figure into SVG or PNG.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from lwf_assets.reports.figure_formats import to_png, to_svg
from lwf_assets.reports.figure_look import (
    BASE,
    FONT_SIZE,
    FORGOTTEN,
    INK,
    KEPT,
    LWF,
    REFERENCE,
    legend,
    new_figure,
    say_empty,
)
from lwf_assets.reports.report import MODELS, Curve, ForgottenSample, ModelFigures
from lwf_assets.reports.numbers import common_exponent, decimals, fixed, unit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "confidence_histogram",
    "fisher_by_layer",
    "loss_curves",
    "model_comparison",
    "nll_before_after",
    "terms_scatter",
    "to_png",
    "to_svg",
    "unlearning_curves",
]

MODEL_COLOURS = {"base": BASE, "reference": REFERENCE, "lwf": LWF}
MODEL_NAMES = {"base": "base", "reference": "reference", "lwf": "LWF"}
SAMPLES_DRAWN = 100
"""At most so many single samples are drawn as lines in one panel; means are over all."""

_NLL = "NLL (nats per token)"
_CHOSEN, _NOT_CHOSEN = "chosen for unlearning", "not chosen"


def loss_curves(curves: Sequence[Curve]) -> Figure:
    """Training loss by learning step: "reference" and "lwf" in their colours, any other label as it is."""
    figure, (axes,) = new_figure("learning step", "training loss (nats per token)")
    looks = {name: (MODEL_NAMES[name], MODEL_COLOURS[name]) for name in ("reference", "lwf")}
    others = {curve.label: (curve.label, INK) for curve in curves if curve.label not in looks}
    _draw_curves(axes, curves, looks | others)
    return figure


def unlearning_curves(curves: Sequence[Curve]) -> Figure:
    """Mean NLL of the unlearning batch by learning step; "before" the update, and "after": when next looked at."""
    figure, (axes,) = new_figure("learning step", "NLL of the unlearning batch\n(nats per token)")
    looks = {"before": ("before the update", BASE), "after": ("when next looked at", FORGOTTEN)}
    _draw_curves(axes, curves, looks)
    return figure


def confidence_histogram(
    confidence: Sequence[float], selected: Sequence[bool], threshold: float | None = None, *, constant: float = 0.0
) -> Figure:
    """Distribution of FC over the scored samples, the chosen ones apart.

    `threshold` is the FC where the choice ends; None where FC did not decide it. `constant`, the term that all samples
    share, is taken off, for it can be so large that the axis shows nothing else.
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


def terms_scatter(linear: Sequence[float], quadratic: Sequence[float], selected: Sequence[bool]) -> Figure:
    """What the two terms add to FC, per sample: -alpha <F d, g> across, alpha^2/2 <F g, g> up, in the same unit."""
    points = [point for point in zip(linear, quadratic, selected, strict=True) if math.isfinite(point[0] + point[1])]
    exponent = common_exponent(value for point in points for value in point[:2])
    scale = 10.0**exponent
    unit = unit_of(exponent)
    figure, (axes,) = new_figure(f"linear part of FC{unit}", f"quadratic part of FC{unit}")
    if not points:
        say_empty(axes)
        return figure
    axes.axvline(0, color=INK, linewidth=0.8)
    for flag, name, colour, marker in ((False, _NOT_CHOSEN, KEPT, "o"), (True, _CHOSEN, FORGOTTEN, "D")):
        across = [point[0] / scale for point in points if point[2] is flag]
        up = [point[1] / scale for point in points if point[2] is flag]
        if across:
            axes.scatter(across, up, s=16, color=colour, marker=marker, alpha=0.75, linewidths=0, label=name)
    legend(axes)
    return figure


def nll_before_after(samples: Sequence[ForgottenSample], models: Sequence[str] = MODELS) -> Figure:
    """Each self-generated sample's NLL from model to model, the chosen ones beside those that were not chosen."""
    figure, panels = new_figure("", _NLL, panels=2)
    for axes, flag, name, colour in zip(panels, (True, False), (_CHOSEN, _NOT_CHOSEN), (FORGOTTEN, KEPT), strict=True):
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


def fisher_by_layer(means: Mapping[str, float]) -> Figure:
    """Mean diagonal Fisher of each parameter by layer, a line per kind of parameter, on a log scale.

    `means` goes by parameter name, such as "model.layers.3.mlp.up_proj.weight". Parameters outside the layers
    stand left ("emb") and right ("out") of them. Zeros cannot stand on a log scale and are left out.
    """
    figure, (axes,) = new_figure("layer", "mean diagonal Fisher")
    kinds: dict[str, list[tuple[int, float]]] = defaultdict(list)
    outside: list[tuple[str, float]] = []
    for name, value in means.items():
        if not (math.isfinite(value) and value > 0):
            continue
        parts = name.removesuffix(".weight").split(".")
        layer = next((index for index, part in enumerate(parts) if part.isdigit()), None)
        if layer is None:
            outside.append((parts[-1], value))
        else:
            kinds[".".join(parts[layer + 1 :])].append((int(parts[layer]), value))
    if not kinds and not outside:
        say_empty(axes)
        return figure
    last = max((layer for points in kinds.values() for layer, _ in points), default=-1)
    gap = max(1, round((last + 1) / 12))
    used: dict[str, int] = defaultdict(int)
    for kind, points in kinds.items():
        colour = _block_colour(kind)
        marker = "osD^vP*X<>"[used[colour] % 10]
        used[colour] += 1
        points.sort()
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=colour, marker=marker, markersize=4, linewidth=1, label=kind)
    for name, value in outside:
        place = -gap if any(part in name for part in ("emb", "wte", "wpe")) else last + gap
        axes.plot([place], [value], color=INK, marker="_", markersize=12, linestyle="none", label=name)
    inner = range(0, last + 1, max(1, math.ceil((last + 1) / 6)))
    axes.set_xticks([-gap, *inner, last + gap], ["emb", *map(str, inner), "out"])
    axes.set_yscale("log")
    figure.set_size_inches(7.2, 3.6)
    legend(axes, beside=True)
    return figure


def model_comparison(models: Sequence[ModelFigures], measure: str) -> Figure:
    """One measure with its 95 % interval on every model."""
    figure, (axes,) = new_figure(f"{measure.replace('_', ' ')} (mean and 95 % interval)", "")
    found = [(figures.model, figures.measures[measure]) for figures in models if measure in figures.measures]
    found = [(model, interval) for model, interval in found if math.isfinite(interval.mean)]
    if not found:
        say_empty(axes)
        return figure
    for place, (model, interval) in enumerate(found):
        colour = MODEL_COLOURS.get(model, INK)
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2.5)
        axes.plot([interval.mean], [place], color=colour, marker="o", markersize=8)
        text = fixed(interval.mean, decimals(interval))
        axes.text(interval.mean, place - 0.15, text, ha="center", va="bottom", fontsize=FONT_SIZE, color=INK)
    axes.set_yticks(range(len(found)), [MODEL_NAMES.get(model, model) for model, _ in found])
    axes.set_ylim(len(found) - 0.5, -0.6)
    axes.grid(visible=False, axis="y")
    return figure


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


def _draw_curves(axes: Axes, curves: Sequence[Curve], looks: Mapping[str, tuple[str, str]]) -> None:
    """Every seed faintly as it was logged; boldly the mean over seeds, under a running mean of a twentieth of it."""
    drawn = False
    for label, (name, colour) in looks.items():
        by_step: dict[int, list[float]] = defaultdict(list)
        for curve in curves:
            points = [(point.step, point.value) for point in curve.points if math.isfinite(point.value)]
            if curve.label != label or not points:
                continue
            for step, value in points:
                by_step[step].append(value)
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.8, alpha=0.3)
        if not by_step:
            continue
        drawn = True
        steps = sorted(by_step)
        means = [math.fsum(by_step[step]) / len(by_step[step]) for step in steps]
        marker = "o" if len(steps) <= 20 else ""
        smooth = _running_mean(means, len(means) // 20)
        axes.plot(steps, smooth, color=colour, linewidth=1.8, marker=marker, markersize=4, label=name)
    if drawn:
        legend(axes)
    else:
        say_empty(axes)


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    half = window // 2
    around = [values[max(0, index - half) : index + half + 1] for index in range(len(values))]
    return [math.fsum(part) / len(part) for part in around]


def _block_colour(kind: str) -> str:
    rules: tuple[tuple[str, Callable[[str], bool]], ...] = (
        (BASE, lambda name: "norm" in name or "ln_" in name),
        (REFERENCE, lambda name: "attn" in name or "attention" in name),
        (LWF, lambda name: "mlp" in name or "feed_forward" in name),
    )
    return next((colour for colour, holds in rules if holds(kind)), FORGOTTEN)
