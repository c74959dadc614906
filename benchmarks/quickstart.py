"""How long each asset of the quickstart took, if it has been built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lwf_assets.graph.cells import cells
from lwf_assets.store.home import DEFAULT_STUDY, Home
from lwf_assets.study.file import load_study


def quickstart(home: Path) -> dict[str, Any] | None:
    """Seconds of each cell's own work, as the manifests of the store in `home` say; None unless every cell is there and
    was made from the default study."""
    study, store = load_study(DEFAULT_STUDY), Home(home).store
    rows = []
    for cell in cells(study):
        artifact = store.current(cell.asset, cell.partition)
        if artifact is None or artifact.manifest.provenance["study"] != study.name:
            return None
        rows.append(
            {
                "asset": cell.asset,
                "partition": cell.partition.key,
                "seconds": artifact.manifest.provenance["wall_seconds"],
                "commit": artifact.manifest.provenance["git_commit"],
                "began": artifact.manifest.provenance["began"],
            }
        )
    return {"rows": rows}
