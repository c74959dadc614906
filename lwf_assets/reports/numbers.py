"""How the reports write numbers: with as many digits as the data support."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lwf_assets.statistics.interval import Interval

MISSING = "n/a"
_MOST_DECIMALS = 6

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decimals(interval: Interval) -> int:
    """Decimals for a mean and its bounds: 2, or more where the interval is narrower or stops just short of zero."""
    half = (interval.high - interval.low) / 2
    wanted = 2
    if math.isfinite(half) and half > 0:
        wanted = max(wanted, -math.floor(math.log10(half)))
    if interval.low > 0 or interval.high < 0:
        nearest = min(abs(interval.low), abs(interval.high))
        # A bound that rounds to 0.00 would look as if the interval included zero.
        while wanted < _MOST_DECIMALS and round(nearest, wanted) == 0:
            wanted += 1
    return min(wanted, _MOST_DECIMALS)


def fixed(value: float | None, places: int, *, signed: bool = False) -> str:
    """`value` with a fixed number of decimals, and a plus where asked for; "n/a" for None and NaN."""
    if value is None or not math.isfinite(value):
        return MISSING
    # Rounding first, because a small negative number would come out as -0.00.
    rounded = round(value, places) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{places}f}"


def significant(value: float, digits: int) -> str:
    """`value` with this many significant digits; "n/a" for NaN."""
    return f"{value:.{digits}g}" if math.isfinite(value) else MISSING


def probability(value: float) -> str:
    """A p-value with two significant digits; "< 0.001" below that, "n/a" for NaN."""
    if not math.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def bounds(interval: Interval, *, signed: bool = False) -> str:
    """The interval without its mean: "0.41 to 0.55", or "no interval"."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return "no interval"
    places = decimals(interval)
    return f"{fixed(interval.low, places, signed=signed)} to {fixed(interval.high, places, signed=signed)}"


def mean(interval: Interval, *, signed: bool = False) -> str:
    """The mean, to the decimals that its interval bears out."""
    return fixed(interval.mean, decimals(interval), signed=signed)


def common_exponent(values: Iterable[float]) -> int:
    """The power of ten to take out of a column or an axis: 0 where the largest value reads well as it is."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0 or 0.01 <= largest < 10_000:
        return 0
    return math.floor(math.log10(largest))


def unit_of(exponent: int) -> str:
    """What to write behind a quantity whose values were divided by 10^exponent; nothing for 0."""
    return f" (×10{str(exponent).translate(_SUPERSCRIPT)})" if exponent else ""  # noqa: RUF001
