"""The plots that Dagster shows; see `lwf_assets.reports`."""

from lwf_assets.reports.confidence_plots import confidence_histogram
from lwf_assets.reports.curve_plots import loss_curves
from lwf_assets.reports.figure_formats import to_png
from lwf_assets.reports.fisher_plot import fisher_by_layer

__all__ = ["confidence_histogram", "fisher_by_layer", "loss_curves", "to_png"]
