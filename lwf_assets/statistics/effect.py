"""An effect: what an arm does better or worse than the reference, and how well that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lwf_assets.errors import LwfError


@dataclass(frozen=True)
class Effect:
    """Arm minus reference, in the units of the measure.

    The interval is mean ± t(degrees_of_freedom) * standard_error. With one seed it is for these trained models alone.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    """0 where the differences do not vary, so that their spread is unknown; then the interval has no width."""
    p_value: float
    """Two-sided, of a mean of zero. NaN where the spread is unknown and the mean is not zero."""
    seeds: int
    items: int
    """0 where each seed has one number alone."""
    degrees_of_freedom: float
    confidence: float = 0.95


def checked_differences(differences: ArrayLike, *, axes: tuple[str, ...]) -> NDArray[np.float64]:
    """`differences` as an array with one axis for each name in `axes`.

    Raises:
        LwfError: where the shape is another, something is empty or a number is not finite.
    """
    array = np.asarray(differences, dtype=float)
    shape = "[" + ", ".join(f"{axis}s" for axis in axes) + "]"
    if array.ndim != len(axes) or array.size == 0:
        raise LwfError(f"differences must be an array {shape} with a number for each, not one of shape {array.shape}")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        place = ", ".join(f"{axis} {index}" for axis, index in zip(axes, wrong[0], strict=True))
        raise LwfError(
            f"the difference at {place} is {array[tuple(wrong[0])]}; every {axes[-1]} needs a finite number from both "
            "the arm and the reference"
        )
    return array


def check_confidence(confidence: float) -> None:
    """Raise LwfError unless `confidence` is a share such as 0.95."""
    if not 0 < confidence < 1:
        raise LwfError(f"confidence is {confidence}; it must be between 0 and 1, such as 0.95")
