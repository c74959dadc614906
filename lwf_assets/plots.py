"""The plots that Dagster shows; see `lwf_assets.reports`."""

from lwf_assets.reports.plots import confidence_histogram, fisher_by_layer, loss_curves, to_png

__all__ = ["confidence_histogram", "fisher_by_layer", "loss_curves", "to_png"]
