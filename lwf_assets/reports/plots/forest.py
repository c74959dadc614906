"""The forest plot: every model's difference from the reference in one measure, with its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lwf_assets.comparison.measures import measure_name
from lwf_assets.reports.plots.style import (
    BETTER,
    FONT_SIZE,
    INK,
    WORSE,
    drawable,
    new_figure,
    say_empty,
)
from lwf_assets.reports.wording import direction, grade

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from lwf_assets.comparison.records import ArmEffect

_COLOURS = {"better": BETTER, "worse": WORSE}


def effects_forest(effects: Sequence[ArmEffect], measure: str, names: Mapping[str, str]) -> Figure:
    """The effects in `measure`, in their order, one a row; filled where the verdict is an effect.

    `names` says how each model is called.
    """
    way = direction(measure)
    label = f"{measure_name(measure)}, difference to the reference" + (f"\n({way})" if way else "")
    figure, (axes,) = new_figure(label, "")
    rows = [e for e in effects if e.measure == measure and math.isfinite(e.difference.mean)]
    if not rows:
        say_empty(axes)
        return figure
    figure.set_size_inches(5.6, 1.25 + 0.34 * len(rows))
    axes.axvline(0, color=INK, linewidth=1)
    for place, effect in enumerate(rows):
        found = grade(effect.verdict)
        colour = _COLOURS.get(found, INK)
        interval = effect.difference
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2)
        clear = found not in ("unclear", "unknown")
        axes.plot(
            [interval.mean],
            [place],
            color=colour,
            marker="o",
            markersize=7,
            markerfacecolor=colour if clear else "none",
        )
    axes.set_yticks(range(len(rows)), [drawable(names.get(e.model, e.model)) for e in rows], fontsize=FONT_SIZE)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    return figure
