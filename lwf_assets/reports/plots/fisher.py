"""The plot of the Fisher diagonal, layer by layer."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from lwf_assets.reports.plots.style import BASE, FORGOTTEN, INK, LWF, REFERENCE, legend, new_figure, say_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.figure import Figure


def fisher_by_layer(means: Mapping[str, float]) -> Figure:
    """Mean diagonal Fisher of each parameter by layer, a line per kind of parameter, on a log scale.

    `means` goes by parameter name, such as "model.layers.3.mlp.up_proj.weight". Parameters outside the layers
    are left ("emb") and right ("out") of them. Zeros cannot be shown on a log scale and are left out.
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


def _block_colour(kind: str) -> str:
    rules: tuple[tuple[str, Callable[[str], bool]], ...] = (
        (BASE, lambda name: "norm" in name or "ln_" in name),
        (REFERENCE, lambda name: "attn" in name or "attention" in name),
        (LWF, lambda name: "mlp" in name or "feed_forward" in name),
    )
    return next((colour for colour, holds in rules if holds(kind)), FORGOTTEN)
