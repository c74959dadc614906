"""From the variances that seeds and items give a mean to its interval and p-value, honest for few seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import stdtrit

from lwf_assets.statistics.effect import Effect

_SMALLEST_P = 1e-100
"""Below it stdtrit is wrong for some degrees of freedom."""


@dataclass(frozen=True)
class CrossedVariances:
    """The variance of a mean over seeds and items, in parts.

    Of the linear model difference = effect + seed + item + rest, the mean over S seeds and N items has variance
    var(seed)/S + var(item)/N + var(rest)/(S N).
    """

    seed: float
    """Estimates var(seed)/S + var(rest)/(S N), with S - 1 degrees of freedom."""
    item: float
    """Estimates var(item)/N."""
    items_alone: float
    """Estimates var(item)/N + var(rest)/(S N): the variance if the seeds were given."""
    seeds: int
    items: int

    def effect(self, mean: float, *, confidence: float) -> Effect:
        """`mean` with its interval.

        The critical value is that of Cochran and Cox (Experimental Designs, 1950): the mean of the t quantiles of the
        two parts, weighted with their variances. The interval is never narrower than the one over the items alone: with
        few seeds their means can agree by chance, more closely than the noise of the answers allows.
        """
        crossed = ((self.seed, self.seeds - 1.0), (self.item, self.items - 1.0))
        candidates = [_Parts(crossed), _Parts(((self.items_alone, self.items - 1.0),))]
        widest = max(candidates, key=lambda parts: parts.half_width(1 - confidence))
        half = widest.half_width(1 - confidence)
        return Effect(
            mean=mean,
            low=mean - half,
            high=mean + half,
            standard_error=widest.standard_error,
            p_value=max(parts.p_value(mean) for parts in candidates if parts.variance > 0)
            if half > 0
            else (1.0 if mean == 0 else math.nan),
            seeds=self.seeds,
            items=self.items,
            degrees_of_freedom=widest.degrees_of_freedom(1 - confidence),
            confidence=confidence,
        )


class _Parts:
    """A variance that is a sum of estimates, each with its degrees of freedom."""

    def __init__(self, parts: tuple[tuple[float, float], ...]) -> None:
        self._parts = [(variance, freedom) for variance, freedom in parts if variance > 0]
        self.variance = sum(variance for variance, _ in self._parts)
        self.standard_error = math.sqrt(self.variance)

    def half_width(self, level: float) -> float:
        return self._critical_value(level) * self.standard_error if self._parts else 0.0

    def p_value(self, mean: float) -> float:
        """The level at which the interval ends at zero."""
        ratio = abs(mean) / self.standard_error
        if ratio == 0 or self._critical_value(_SMALLEST_P) < ratio:
            return 1.0 if ratio == 0 else 0.0
        logarithm = brentq(
            lambda log_level: self._critical_value(math.exp(log_level)) - ratio, math.log(_SMALLEST_P), 0, xtol=1e-10
        )
        return math.exp(logarithm)

    def degrees_of_freedom(self, level: float) -> float:
        """Of the t distribution that has this critical value."""
        freedoms = [freedom for _, freedom in self._parts] or [math.nan]
        if len(set(freedoms)) == 1:
            return freedoms[0]
        wanted = self._critical_value(level)
        return float(brentq(lambda freedom: _quantile(freedom, level) - wanted, min(freedoms), max(freedoms)))

    def _critical_value(self, level: float) -> float:
        return sum(variance * _quantile(freedom, level) for variance, freedom in self._parts) / self.variance


def _quantile(freedom: float, level: float) -> float:
    """What |t| exceeds with probability `level`."""
    return -float(stdtrit(freedom, level / 2))
