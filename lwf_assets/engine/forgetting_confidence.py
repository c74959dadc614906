"""FC from its three terms, wherever it is computed: in Python on numbers or arrays, in DuckDB on columns. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Values = TypeVar("Values", float, "NDArray[np.float64]")

FORGETTING_CONFIDENCE_SQL = "constant - $alpha * linear + $alpha * $alpha * quadratic"
"""The same in SQL, over the columns of confidence_terms."""


def forgetting_confidence(constant: float, linear: Values, quadratic: Values, alpha: float) -> Values:
    """FC = constant - alpha * linear + alpha^2 * quadratic; see `engine/confidence.py`."""
    pull, push = weighted_terms(linear, quadratic, alpha)
    return constant + pull + push


def weighted_terms(linear: Values, quadratic: Values, alpha: float) -> tuple[Values, Values]:
    """What the linear and the quadratic term add to FC: -alpha * linear, and alpha^2 * quadratic."""
    return -alpha * linear, alpha**2 * quadratic
