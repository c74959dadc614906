"""What Dagster, the store and MLflow cost on top of the assets' own work, and how long the commands take to answer.

The tests' tiny study is built twice in one process: first to have everything imported and the databases made, then,
with every asset forced, for the measurement.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def orchestration() -> dict[str, Any]:
    """Wall seconds of the build and the part of it that was the assets' own work, as their manifests say; seconds of
    loading the code location and of `lwf plan` on an empty home, each three times, each in a new process."""
    from dagster_project.cli.progress_bars import quiet_libraries

    quiet_libraries()
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from tiny import tiny_study_values, write_study

    from dagster_project.builds.builder import build
    from lwf_assets.graph.cells import cells
    from lwf_assets.store.home import Home
    from lwf_assets.study.file import load_study

    with tempfile.TemporaryDirectory() as folder:
        study = load_study(write_study(Path(folder) / "study", tiny_study_values(Path(folder) / "study")))
        home = Home(Path(folder) / "home")
        build(study, home)
        began = time.perf_counter()
        ran = build(study, home, force=cells(study))
        wall = time.perf_counter() - began
        artifacts = [home.store.current(cell.asset, cell.partition) for cell in ran]
        work = sum(artifact.manifest.provenance["wall_seconds"] for artifact in artifacts if artifact is not None)
        empty = Path(folder) / "empty"
        load = [_seconds("-c", "import dagster_project.definitions", home=empty) for _ in range(3)]
        plan = [_seconds("-m", "dagster_project.cli", "plan", home=empty) for _ in range(3)]
    return {
        "assets": len(ran),
        "wall_seconds": wall,
        "work_seconds": work,
        "load_seconds": load,
        "plan_seconds": plan,
    }


def _seconds(*words: str, home: Path) -> float:
    began = time.perf_counter()
    environment = {**os.environ, "LWF_HOME": str(home)}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began
