"""Where `statistics` finds its Interval until it has its own."""

from lwf_assets.reports.report import Interval

__all__ = ["Interval"]
