"""The plot of docs/scaling.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.cluster.summary import bound
from lwf_assets.reports.plots.export import save_svg
from lwf_assets.reports.plots.style import BASE, FONT_SIZE, INK, LWF, REFERENCE, new_figure


def plot_scaling(scenarios: list[dict[str, Any]], path: Path) -> None:
    """Makespans over devices, with the bound and what is left without transfers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    figure, row = new_figure("", "hours", panels=len(scenarios))
    for axes, data in zip(row, scenarios, strict=True):
        points = data["points"]
        counts = [point["devices"] for point in points]
        lines = {
            "no schedule is faster": (BASE, [bound(data, point) for point in points]),
            "without transfers": (REFERENCE, [point["without"]["transfers"] for point in points]),
            "simulated": (LWF, [point["makespan"] for point in points]),
        }
        for label, (colour, seconds) in lines.items():
            hours = [value / 3600 for value in seconds]
            axes.plot(counts, hours, marker="o", markersize=3.5, color=colour, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(data["scenario"]["title"], fontsize=FONT_SIZE, color=INK, loc="left", pad=24)
        axes.set_xlabel("devices", fontsize=FONT_SIZE, color=INK)
        axes.xaxis.set_major_locator(FixedLocator(counts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    figure.set_size_inches(8.4, 3.6)
    row[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=FONT_SIZE, labelcolor=INK)
    save_svg(figure, path)
