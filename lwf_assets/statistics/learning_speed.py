"""How fast a model learned, as one number of its learning curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lwf_assets.errors import LwfError


def area_under_curve(steps: Sequence[float], values: Sequence[float]) -> float:
    """The mean of a curve over training: the area under it by the trapezoidal rule, divided by the span of steps.

    In the units of the values. Steps need not be evenly spaced. Of a curve of one point it is that value.

    Raises:
        LwfError: as `steps_to_reach`.
    """
    at, value = _checked(steps, values)
    if len(at) == 1:
        return float(value[0])
    return float(np.trapezoid(value, at) / (at[-1] - at[0]))


def steps_to_reach(
    steps: Sequence[float], values: Sequence[float], level: float, *, rising: bool = False
) -> float | None:
    """The step at which a curve first comes to `level`, interpolated linearly between the points.

    None where it never does. The number is then censored: more than the last step, not missing. A mean over the seeds
    that did reach the level flatters the slow model; use a level that all seeds of both models reach, or the area.

    Args:
        steps: increasing.
        values: one a step; of a falling curve such as NLL, unless `rising`.
        level: to come to or pass.
        rising: for a curve such as accuracy, that comes to the level from below.

    Raises:
        LwfError: where the curve is empty, steps do not increase, or a number is not finite.
    """
    at, value = _checked(steps, values)
    if not np.isfinite(level):
        raise LwfError(f"level is {level}; it must be a finite number")
    above = (level - value) if rising else (value - level)
    reached = np.flatnonzero(above <= 0)
    if len(reached) == 0:
        return None
    first = int(reached[0])
    if first == 0:
        return float(at[0])
    share = above[first - 1] / (above[first - 1] - above[first])
    return float(at[first - 1] + share * (at[first] - at[first - 1]))


def _checked(steps: Sequence[float], values: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    at, value = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if at.ndim != 1 or at.shape != value.shape or len(at) == 0:
        raise LwfError(
            f"a curve needs one value a step and at least one; got {at.shape} steps and {value.shape} values"
        )
    if not (np.isfinite(at).all() and np.isfinite(value).all()):
        row = int(np.flatnonzero(~(np.isfinite(at) & np.isfinite(value)))[0])
        raise LwfError(f"point {row} of the curve is ({at[row]}, {value[row]}); every step and value must be finite")
    if (np.diff(at) <= 0).any():
        row = int(np.flatnonzero(np.diff(at) <= 0)[0])
        raise LwfError(f"step {at[row + 1]:g} of the curve comes after step {at[row]:g}; steps must increase")
    return at, value
