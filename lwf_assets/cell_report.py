"""The curves that Dagster shows; see `lwf_assets.reports`."""

from lwf_assets.reports.cell_report import learning_curves

__all__ = ["learning_curves"]
