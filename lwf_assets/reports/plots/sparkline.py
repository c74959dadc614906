"""A sample's NLL over the steps of a run, small enough for a table."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from lwf_assets.comparison.records import CurvePoint

WIDTH, HEIGHT, MARGIN = 96, 26, 3
POINTS_DRAWN = 40


def sparkline(
    history: Sequence[CurvePoint], pushed: Collection[int], *, steps: tuple[int, int], nll: tuple[float, float]
) -> str:
    """The curve as an <svg> element; a dot at each step that pushed the sample.

    `steps` and `nll` are what the axes reach from and to, so that the lines of a table compare. Empty for less than two
    points. Colours are the page's, by the class `spark`.
    """
    points = [point for point in history if math.isfinite(point.value)]
    if len(points) < 2:
        return ""
    if len(points) > POINTS_DRAWN:
        last = len(points) - 1
        points = [points[round(index * last / (POINTS_DRAWN - 1))] for index in range(POINTS_DRAWN)]
    places = [
        (_place(point.step, *steps, WIDTH), HEIGHT - _place(point.value, *nll, HEIGHT), point.step in pushed)
        for point in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>' for x, y, marked in places if marked)
    label = f"NLL from {points[0].value:.2f} to {points[-1].value:.2f}"
    return (
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f'<polyline points="{line}"/>{dots}</svg>'
    )


def _place(value: float, low: float, high: float, length: int) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    return MARGIN + min(max(share, 0.0), 1.0) * (length - 2 * MARGIN)
