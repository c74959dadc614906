"""How the terms of FC are written in tables and drawn in plots."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lwf_assets.comparison.records import CellReport, ForgottenSample
from lwf_assets.reports import numbers


@dataclass(frozen=True)
class ConfidenceColumns:
    """What all samples share is taken off, and one power of ten is taken out."""

    alpha: float
    constant: float
    exponent: int

    @classmethod
    def of(cls, report: CellReport) -> ConfidenceColumns:
        """The columns for all samples of a report."""
        alpha = report.alpha
        constants = [s.forgetting_confidence + alpha * s.linear - alpha**2 * s.quadratic for s in report.samples]
        constants = sorted(filter(math.isfinite, constants))
        constant = constants[len(constants) // 2] if constants else math.nan
        parts = [part for s in report.samples for part in (alpha * s.linear, alpha**2 * s.quadratic)]
        return cls(alpha, constant, numbers.common_exponent(parts))

    @property
    def unit(self) -> str:
        """The power of ten, for the heads of the columns."""
        return numbers.unit_of(self.exponent)

    def linear(self, sample: ForgottenSample) -> float:
        """What the linear term adds to the sample's FC."""
        return -self.alpha * sample.linear

    def quadratic(self, sample: ForgottenSample) -> float:
        """What the quadratic term adds to the sample's FC."""
        return self.alpha**2 * sample.quadratic

    def write(self, value: float) -> str:
        """A value of these columns, in their unit."""
        return numbers.fixed(value / 10.0**self.exponent, 3, signed=True)
