"""How small an effect a comparison could have detected."""

from __future__ import annotations

import math

from lwf_assets.errors import LwfError
from lwf_assets.statistics.effect import Effect, check_confidence


def minimum_detectable_effect(effect: Effect, *, power: float = 0.8, confidence: float = 0.95) -> float:
    """The smallest true effect that this design would find with probability `power`, in the units of the measure.

    Of the two-sided t test with the effect's standard error and degrees of freedom, by the noncentral t distribution.
    It takes the standard error for the truth; with 3 seeds that is known only within a factor of two or three. NaN
    where there is no standard error.

    Raises:
        LwfError: where power or confidence is not between 0 and 1, or power is no more than the false-positive rate.
    """
    from scipy.integrate import quad
    from scipy.optimize import brentq
    from scipy.special import chdtri, ndtr, stdtrit

    check_confidence(confidence)
    if not 1 - confidence < power < 1:
        raise LwfError(f"power is {power}; it must be between {1 - confidence:.3g} (1 - confidence) and 1")
    if not effect.standard_error > 0:
        return math.nan
    freedom = effect.degrees_of_freedom
    critical = -stdtrit(freedom, (1 - confidence) / 2)

    def lacking(size: float) -> float:
        """Power that a true effect of `size` standard errors is short of: the noncentral t distribution, as a normal
        one averaged over the quantiles of the standard error's estimate."""

        def found(quantile: float) -> float:
            needed = critical * math.sqrt(chdtri(freedom, 1 - quantile) / freedom)
            return float(ndtr(size - needed) + ndtr(-size - needed))

        return power - float(quad(found, 0, 1)[0])

    # Neither statsmodels' solve_power, which stops at ten standard deviations (3 seeds pass them), nor scipy's nct,
    # which gives NaN here and there.
    highest = 1.0
    while lacking(highest) > 0:
        highest *= 2
    return float(brentq(lacking, 0, highest)) * effect.standard_error
