"""The plot of the model's own samples: how likely each model finds them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lwf_assets.comparison.records import MODELS, ForgottenSample
from lwf_assets.reports.plots.style import FONT_SIZE, FORGOTTEN, INK, KEPT, MODEL_NAMES, new_figure, say_empty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

SAMPLES_DRAWN = 100
"""At most so many single samples are drawn as lines in one panel; means are over all."""


def nll_before_after(samples: Sequence[ForgottenSample], models: Sequence[str] = MODELS) -> Figure:
    """Each self-generated sample's NLL from model to model, the chosen ones beside those that were not chosen."""
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
