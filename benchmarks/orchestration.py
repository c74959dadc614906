"""How much Dagster, the store and MLflow cost per asset, on top of the assets' own work.

    .venv/bin/python benchmarks/orchestration.py

Builds the tests' tiny study twice in one process: first to have everything imported and the databases made, then, with
every asset forced, for the measurement. Prints the wall time of the second build, the part of it that was the assets'
own work (as their manifests say), and the difference per asset.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))


def main() -> None:
    """Measure and print."""
    from dagster_project.terminal import quiet_libraries

    quiet_libraries()
    from tiny import tiny_study_values, write_study

    from dagster_project.builder import build
    from lwf_assets.graph import cells
    from lwf_assets.home import Home
    from lwf_assets.study_file import load_study

    with tempfile.TemporaryDirectory() as folder:
        study = load_study(write_study(Path(folder) / "study", tiny_study_values(Path(folder) / "study")))
        home = Home(Path(folder) / "home")
        build(study, home)
        began = time.perf_counter()
        ran = build(study, home, force=cells(study))
        wall = time.perf_counter() - began
        artifacts = [home.store.current(cell.asset, cell.partition) for cell in ran]
        work = sum(artifact.manifest.provenance["wall_seconds"] for artifact in artifacts if artifact is not None)
    print(f"{len(ran)} assets in {wall:.2f} s, of which their own work {work:.2f} s")
    print(f"orchestration per asset: {(wall - work) / len(ran):.2f} s")


if __name__ == "__main__":
    main()
