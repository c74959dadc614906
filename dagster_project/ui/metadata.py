"""What the Dagster UI shows of an artifact: figures, path, a few rows, a plot."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from lwf_assets.graph.table import ASSET
from lwf_assets.store.layout import FISHER_DIAGONAL, FORGET_SET
from lwf_assets.store.store import Artifact

SAMPLE_ROWS = 5
CELL_WIDTH = 120
PLOT_BYTES = 70_000
"""A third is added by base64, and 100 KB is what an event should carry at most: Dagster keeps it several times over."""


def metadata_of(artifact: Artifact, *, reused: bool) -> dict[str, Any]:
    """Metadata for a materialization of `artifact`: what a person looks for first, and hashes last."""
    manifest = artifact.manifest
    shown: dict[str, Any] = {}
    spec = ASSET[manifest.asset]
    if spec.table is not None:
        shown["sample"] = dg.MetadataValue.md(table_sample(artifact.path / spec.table, spec.columns))
    if manifest.asset in _PLOTS:
        shown["plot"] = dg.MetadataValue.md(_image(_PLOTS[manifest.asset](artifact.path)))
    return {
        **shown,
        **{name: value for name, value in manifest.summary.items() if value is not None},
        "from_store": reused,
        "size_mb": round(sum(entry.size for entry in manifest.files) / 1e6, 2),
        "path": dg.MetadataValue.path(str(artifact.path)),
        "version": manifest.version,
        "recipe": manifest.recipe,
        "seal": manifest.seal,
    }


def table_sample(path: Path, columns: tuple[str, ...]) -> str:
    """The first rows of a Parquet file as a markdown table; long texts are cut."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=list(columns)).slice(0, SAMPLE_ROWS).to_pylist()
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict) and "mean" in value:  # an interval
        value = value["mean"]
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split())
    cut = text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 2] + ".."
    for character in ("\\", "|", "<", "`", "*", "_", "["):  # the model's text must not become markup
        cut = cut.replace(character, f"&#{ord(character)};")
    return cut


def _image(png: bytes) -> str:
    return f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})"


def _fisher_plot(folder: Path) -> bytes:
    from safetensors import safe_open

    from lwf_assets.reports.plots.export import to_png
    from lwf_assets.reports.plots.fisher import fisher_by_layer

    with safe_open(folder / FISHER_DIAGONAL, framework="pt") as file:
        means = {name: file.get_tensor(name).mean().item() for name in file.keys()}  # noqa: SIM118 - no mapping
    return to_png(fisher_by_layer(means), max_bytes=PLOT_BYTES)


def _scored_plot(folder: Path) -> bytes:
    from lwf_assets.reports.plots.confidence import confidence_histogram
    from lwf_assets.reports.plots.export import to_png
    from lwf_assets.store.tables import read_rows

    rows = read_rows(folder / FORGET_SET)
    figure = confidence_histogram(
        [row["forgetting_confidence"] for row in rows], [row["selected"] for row in rows], constant=rows[0]["constant"]
    )
    return to_png(figure, max_bytes=PLOT_BYTES)


def _curves_plot(folder: Path) -> bytes:
    from lwf_assets.comparison.cell_report import learning_curves
    from lwf_assets.reports.plots.curves import loss_curves
    from lwf_assets.reports.plots.export import to_png

    return to_png(loss_curves(learning_curves("learning loss", folder)), max_bytes=PLOT_BYTES)


_PLOTS: dict[str, Callable[[Path], bytes]] = {
    "fisher_diagonal": _fisher_plot,
    "scored_forget_set": _scored_plot,
    "reference_checkpoint": _curves_plot,
    "lwf_checkpoint": _curves_plot,
    "arm_checkpoint": _curves_plot,
}
