"""How small an effect a comparison could have seen."""

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
    from statsmodels.stats.power import TTestPower

    check_confidence(confidence)
    if not 1 - confidence < power < 1:
        raise LwfError(f"power is {power}; it must be between {1 - confidence:.3g} (1 - confidence) and 1")
    if not effect.standard_error > 0:
        return math.nan
    # One sample of this size has these degrees of freedom; the effect size is in its standard deviations.
    observations = effect.degrees_of_freedom + 1
    size = TTestPower().solve_power(nobs=observations, alpha=1 - confidence, power=power)
    return float(size) * math.sqrt(observations) * effect.standard_error
