"""The two plots of the page."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from lwf_assets.reports.plots.export import save_svg
from lwf_assets.reports.plots.style import BASE, FONT_SIZE, INK, KEPT, LWF, REFERENCE, new_figure

if TYPE_CHECKING:
    pass

_COLOURS = {"floor": BASE, "ours_fisher": LWF, "ours_terms": REFERENCE, "loop_fisher": KEPT}
_NAMES = {"floor": "floor", "ours_fisher": "Fisher", "ours_terms": "terms", "loop_fisher": "loop"}


def plot_race(data: dict[str, Any], path: Path) -> None:
    """Bars of the median ratio to the floor on the first workload, the one that every method runs on."""
    figure, (axes,) = new_figure("seconds over those of the floor", "")
    ran = {row["key"]: row for row in data["workloads"][0]["rows"]}
    methods = [method for method in data["methods"] if method["key"] in ran][::-1]
    ratios = [median(ran[method["key"]]["ratios"]) for method in methods]
    colours = [LWF if method["key"].startswith("ours") else BASE for method in methods]
    bars = axes.barh([method["label"].replace("`", "") for method in methods], ratios, color=colours)
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3, fontsize=FONT_SIZE, color=INK)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)
    figure.set_size_inches(8.4, 0.6 + 0.34 * len(methods))
    save_svg(figure, path)


def plot_growth(data: dict[str, Any], path: Path) -> None:
    """Median seconds over each axis, both logarithmic: a straight line is a power law."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    figure, row = new_figure("", "seconds", panels=len(data["curves"]))
    for axes, curve in zip(row, data["curves"], strict=True):
        for key, seconds in curve["seconds"].items():
            axes.plot(curve["x"], seconds, marker="o", markersize=3.5, color=_COLOURS[key], label=_NAMES[key])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(curve["axis"], fontsize=FONT_SIZE, color=INK)
        axes.xaxis.set_major_locator(FixedLocator(curve["x"]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e6:.0f}M" if x >= 1e6 else f"{x:.0f}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    figure.set_size_inches(8.4, 3.2)
    row[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=FONT_SIZE, labelcolor=INK)
    save_svg(figure, path)
