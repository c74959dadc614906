"""How long the commands take that look at everything, with large studies and full stores.

The artifacts are lines of text, made by the store's own code; so `lwf audit --verify` has next to nothing to hash.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import dagster as dg

ROOT = Path(__file__).resolve().parent.parent

COMMANDS: dict[str, tuple[str, ...]] = {
    "lwf plan": ("-m", "dagster_project.cli", "plan", "--json"),
    "lwf audit --verify": ("-m", "dagster_project.cli", "audit", "--verify"),
    "lwf gc": ("-m", "dagster_project.cli", "gc", "--without-mlflow"),
    "definitions": ("-m", "benchmarks.load", "definitions"),
    "sensor tick": ("-m", "benchmarks.load", "tick"),
}


def load(sides: Sequence[tuple[int, int]], say: Callable[[str], None]) -> dict[str, Any]:
    """For each size (learning tasks, as many forgetting tasks; 1, or then 2 to build all of it by other settings too):
    cells of the study, artifacts of the store, and of each command seconds and megabytes at its peak. With it, of each
    command the exponent of the power of the artifacts that fits its seconds best."""
    points: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for side, generation in sides:
            place = Path(folder) / str(side)
            made = subprocess.run(
                [sys.executable, "-m", "benchmarks.load", "fill", str(place), str(side), str(generation)],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
            point = json.loads(made.stdout)
            point["commands"] = {name: _measure(words, place) for name, words in COMMANDS.items()}
            points.append(point)
            took = ", ".join(f"{name} {one['seconds']:.1f} s" for name, one in point["commands"].items())
            say(f"{point['cells']:,} cells, {point['artifacts']:,} artifacts: {took}")
    artifacts = np.log([point["artifacts"] for point in points])
    exponents = {
        name: float(np.polyfit(artifacts, np.log([p["commands"][name]["seconds"] for p in points]), 1)[0])
        for name in COMMANDS
    }
    return {"points": points, "exponents": exponents}


_BETWEEN = """
import json, os, sys
process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *sys.argv[2:]])
_, status, usage = os.wait4(process, 0)
with open(sys.argv[1], "w") as file:
    json.dump({"exit code": os.waitstatus_to_exitcode(status), "megabytes": usage.ru_maxrss / 1000}, file)
"""
"""A small process that starts the measured one, whose peak counts from the memory of who started it."""


def _measure(words: tuple[str, ...], folder: Path) -> dict[str, float]:
    """Seconds and peak resident megabytes of a command in a process of its own: its wall time, or what it prints."""
    environment = {**os.environ, "LWF_HOME": str(folder / "home"), "LWF_STUDY": str(folder / "study.yaml")}
    result = folder / "measured.json"
    command = [sys.executable, "-I", "-S", "-c", _BETWEEN, str(result), *words]
    began = time.perf_counter()
    told = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True).stdout
    wall = time.perf_counter() - began
    measured = json.loads(result.read_text())
    if measured["exit code"] != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {measured['exit code']}")
    seconds = float(told.split()[-1]) if words[-1] == "tick" else wall
    return {"seconds": seconds, "megabytes": measured["megabytes"]}


def fill(folder: Path, side: int, generation: int) -> None:
    """Write a study of `side` times `side` cells and build all of it in a home, by the first settings or the second."""
    import yaml

    sys.path[:0] = [str(ROOT / "tests" / "support")]
    from pretend_store import Pretend
    from tiny import save_tiny_model

    from lwf_assets import assets
    from lwf_assets.graph.cells import cells
    from lwf_assets.store.home import Home
    from lwf_assets.study.file import load_study

    folder.mkdir(exist_ok=True)
    if generation == 1:
        save_tiny_model(folder / "model")
    values = large_study(folder, side)
    values["model"]["dtype"] = ("float32", "bfloat16")[generation - 1]
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    study = load_study(folder / "study.yaml")
    pretend = Pretend(study.model_dump(mode="json"), Home(folder / "home").store)
    assets.materialize = pretend.work
    vars(os)["fsync"] = lambda descriptor: None  # a store that is thrown away
    pretend.make_all()
    artifacts = sum(1 for _ in pretend.store.manifests())
    print(json.dumps({"cells": side * side, "steps": len(cells(study)), "artifacts": artifacts}))


def large_study(folder: Path, side: int) -> dict[str, Any]:
    """A study of `side` learning and as many forgetting tasks, on the model that is in `folder`; the files that it
    names are written there."""
    forgetting = {f"forget{n}": {"source": {"kind": "file", "prompts": f"forget{n}.jsonl"}} for n in range(side)}
    for name in forgetting:
        lines = [json.dumps({"id": f"{name}-{n}", "prompt": f"{name} {n}?"}) for n in range(6)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return {
        "name": "load",
        "model": {"source": {"kind": "directory", "path": "model"}},
        "learning_tasks": {f"learn{n}": {"preset": "chain_sum"} for n in range(side)},
        "forgetting_tasks": forgetting,
        "training": {"max_steps": 6},
    }


def definitions() -> dg.Definitions:
    """The code location, as Dagster loads it."""
    from dagster_project.definitions import build_definitions
    from lwf_assets.store.home import STUDY_VARIABLE, Home
    from lwf_assets.study.file import load_study

    found = build_definitions(load_study(os.environ[STUDY_VARIABLE]), Home.from_environment())
    found.get_repository_def()
    return found


def tick() -> None:
    """A tick of the sensor `run_builds` while a build is under way; prints its seconds, once all is loaded."""
    import dagster as dg

    from dagster_project.automation.build_driver import BuildCursor
    from dagster_project.resources import LwfHome
    from lwf_assets.store.home import Home

    found = definitions()
    with dg.instance_for_test() as instance:
        instance.get_runs_count()
        home = LwfHome(root=str(Home.from_environment().root))
        cursor = BuildCursor("build", 1).to_cursor()
        with dg.build_sensor_context(instance, cursor=cursor, definitions=found, resources={"home": home}) as context:
            began = time.perf_counter()
            found.resolve_sensor_def("run_builds").evaluate_tick(context)
            print(time.perf_counter() - began)


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        fill(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        {"definitions": definitions, "tick": tick}[sys.argv[1]]()
