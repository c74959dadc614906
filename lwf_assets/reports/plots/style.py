"""The style that all plots share: size, palette, axes, legend. Colours mean the same thing in every plot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID = "#24292f", "#d8dee4"
# Blue and vermillion of Okabe and Ito, purple of Tol, and two greys: apart under the common colour-blindnesses.
BASE, REFERENCE, LWF = "#6e7781", "#0072b2", "#d55e00"
FORGOTTEN, KEPT = "#aa4499", "#8c959f"
# A shade off the blue and the vermillion, so that a verdict's colour differs from a model's.
BETTER, WORSE = "#0073b3", "#b35900"

MODEL_COLOURS = {"base": BASE, "reference": REFERENCE, "lwf": LWF}
MODEL_NAMES = {"base": "base", "reference": "reference", "lwf": "LWF"}

FONT_SIZE = 10.5
"""In points on a figure 5.6 inches wide: as large as the page's small print where the figure is 560 px wide."""


def new_figure(x: str, y: str, *, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of one row of panels that share their y axis, with its labels: `y` on the first one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.3), layout="constrained", facecolor="none")
    row: list[Axes] = figure.subplots(1, panels, sharey=True, squeeze=False)[0].tolist()
    for index, axes in enumerate(row):
        _dress(axes, x, "" if index else y)
    return figure, row


def new_grid(count: int, x: str, y: str, *, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of `count` small panels that share both axes, in rows of `columns`."""
    from matplotlib.figure import Figure

    rows = max(1, math.ceil(count / columns))
    figure = Figure(figsize=(8.4, 0.5 + 2.0 * rows), layout="constrained", facecolor="none")
    panels: list[Axes] = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for index, axes in enumerate(panels):
        _dress(axes, "", "")
        axes.locator_params(nbins=4)
        if index >= count:
            axes.set_visible(False)
        if index + columns >= count:
            axes.tick_params(labelbottom=True)
    figure.supxlabel(x, fontsize=FONT_SIZE, color=INK)
    figure.supylabel(y, fontsize=FONT_SIZE, color=INK)
    return figure, panels[:count]


def drawable(text: str, *, most: int = 28) -> str:
    """A name as matplotlib may draw it: no mathematics, nothing that is no character of a file, and not too long."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    shown = shown if len(shown) <= most else shown[: most - 1] + "…"
    return shown.replace("$", r"\$")


def legend(axes: Axes, *, beside: bool = False) -> None:
    """The legend above the axes, or right of them: where it hides no data."""
    drawn = axes.legend(
        loc="center left" if beside else "lower left",
        bbox_to_anchor=(1.01, 0.5) if beside else (0, 1),
        ncols=1 if beside else 3,
        frameon=False,
        fontsize=FONT_SIZE,
        borderaxespad=0.2,
        handlelength=1.4,
        columnspacing=1.4,
    )
    for text in drawn.get_texts():
        text.set_color(INK)


def legend_of_figure(figure: Figure, axes: Axes) -> None:
    """One legend above all panels, with what is labelled in one of them."""
    drawn = figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)
    for text in drawn.get_texts():
        text.set_color(INK)
        text.set_fontsize(FONT_SIZE)


def say_empty(axes: Axes) -> None:
    """Say that there is nothing to draw, because an empty plot looks like a defect."""
    axes.tick_params(length=0, labelleft=False, labelbottom=False)
    axes.grid(visible=False)
    axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center", fontsize=FONT_SIZE, color=INK)


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.set_facecolor("none")
    axes.set_xlabel(x, fontsize=FONT_SIZE, color=INK)
    axes.set_ylabel(y, fontsize=FONT_SIZE, color=INK)
    axes.tick_params(labelsize=FONT_SIZE, colors=INK, length=3)
    axes.ticklabel_format(useOffset=False)
    axes.locator_params(nbins=6)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_linewidth(0.8)
