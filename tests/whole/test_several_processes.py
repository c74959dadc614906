"""Two processes build what one builds; a process that dies, or that nobody waits for any more, leaves none behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from by_hand import distance
from safetensors.torch import load_file
from world import World, copied

from dagster_project.resources import LwfHome
from dagster_project.tracking.client import open_client
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, cells
from lwf_assets.progress import Silent
from lwf_assets.store.layout import CONFIDENCE_TERMS, FISHER_DIAGONAL, UNLEARNING_LEDGER, seed_folder
from lwf_assets.store.tables import read_rows

pytestmark = pytest.mark.slow

TERMS = ("constant", "linear", "quadratic", "gradient_norm", "nll")


def _cell(world: World, asset: str) -> Cell:
    return next(cell for cell in cells(world.study) if cell.asset == asset)


def workers(home: Path) -> dict[int, int]:
    """Ids of the processes that share a step of this home, by rank; torchrun is -1."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            if not any(str(home) in word for word in words) or "lwf" in words:
                continue
            environment = (folder / "environ").read_bytes().decode().split("\0")
        except OSError:
            continue
        ranks = [line.removeprefix("RANK=") for line in environment if line.startswith("RANK=")]
        if "dagster_project.processes.one_of_several" in words and ranks:
            found[int(ranks[0])] = int(folder.name)
        elif "dagster_project.processes.torchrun" in words:
            found[-1] = int(folder.name)
    return found


def _wait_until_gone(home: Path) -> None:
    end = time.monotonic() + 30
    while workers(home):
        assert time.monotonic() < end, f"left: {workers(home)}"
        time.sleep(0.1)


class _Watch(Silent):
    """Counts what each phase has done."""

    def __init__(self) -> None:
        self.phases: dict[str, list[int]] = {}
        self._now: list[int] = [0, 0]

    def begin(self, label: str, total: int) -> None:
        self._now = self.phases.setdefault(label, [0, total])

    def advance(self, amount: int = 1) -> None:
        self._now[0] += amount


KILLS_ITSELF_ONCE = """
import os, signal, sys
from pathlib import Path

def hook(event, arguments):
    if event == "os.mkdir" and str(arguments[0]).endswith("checkpoint-4") and os.environ.get("RANK") == "1":
        flag = Path(__file__).with_name("flag")
        if flag.exists():
            flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""
"""A sitecustomize: the second process dies as it puts its random state into the second checkpoint."""


def _curves(world: World) -> dict[str, dict[int, float]]:
    """The curves of the first fine-tune that forgets, as MLflow has them; of its last finished run."""
    client = open_client(f"sqlite:///{world.home.root / 'mlflow.db'}")
    key = _cell(world, "lwf_checkpoint").partition.key
    found = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        filter_string="tags.`lwf.asset` = 'lwf_checkpoint'",
    )
    runs = [run for run in found if run.info.status == "FINISHED" and key in run.data.tags.values()]
    names = ("learning/loss", "unlearning/nll_before")
    return {
        name: {point.step: point.value for point in client.get_metric_history(runs[0].info.run_id, name)}
        for name in names
    }


def test_two_processes_build_what_one_builds_and_go_on_after_a_kill(
    built_once: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same inputs: those that one process made."""
    world = copied(built_once, tmp_path)
    lwf, fisher, terms = (_cell(world, name) for name in ("lwf_checkpoint", "fisher_diagonal", "confidence_terms"))
    alone = {
        "fisher": load_file(world.artifact("fisher_diagonal") / FISHER_DIAGONAL),
        "terms": read_rows(world.artifact("confidence_terms") / CONFIDENCE_TERMS),
        "lwf": load_file(seed_folder(world.artifact("lwf_checkpoint"), 0) / "model.safetensors"),
        "ledger": read_rows(seed_folder(world.artifact("lwf_checkpoint"), 0) / UNLEARNING_LEDGER),
        "curves": _curves(world),
    }
    base = load_file(world.artifact("base_model") / "model.safetensors")

    world.values["compute"] = {"processes": 2}
    world.values["training"]["checkpoint_every"] = 2
    assert not world.stale()  # neither is part of a recipe
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(KILLS_ITSELF_ONCE)
    (hook / "flag").touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])]))
    with pytest.raises(LwfError, match=r"process 1 of the 2 that share it was killed by SIGKILL") as failure:
        world.build(only=[lwf], force=[lwf])
    assert str(failure.value).count(f"{lwf}: process") == 1
    assert not (hook / "flag").exists()
    _wait_until_gone(world.home.root)

    watch = _Watch()
    monkeypatch.setattr(LwfHome, "watch", staticmethod(lambda label: watch))
    assert world.build(only=[lwf], force=[lwf]) == [lwf]
    _wait_until_gone(world.home.root)
    assert watch.phases["Learning with forgetting"] == [6, 6]
    manifest = json.loads((world.artifact("lwf_checkpoint") / "manifest.json").read_text())
    assert manifest["provenance"]["resumed"]
    found = load_file(seed_folder(world.artifact("lwf_checkpoint"), 0) / "model.safetensors")
    assert 0 < distance(found, alone["lwf"]) <= 1e-4 * distance(alone["lwf"], base)
    ledger = read_rows(seed_folder(world.artifact("lwf_checkpoint"), 0) / UNLEARNING_LEDGER)
    assert [(row["step"], row["sample_id"]) for row in ledger] == [
        (row["step"], row["sample_id"]) for row in alone["ledger"]
    ]
    for name, points in _curves(world).items():
        assert points, name
        for step, value in points.items():
            assert value == pytest.approx(alone["curves"][name][step], rel=1e-3), name

    assert world.build(only=[fisher], force=[fisher]) == [fisher]
    assert watch.phases["Fisher information"] == [8, 8]
    found = load_file(world.artifact("fisher_diagonal") / FISHER_DIAGONAL)
    nothing = {name: torch.zeros_like(value) for name, value in found.items()}
    assert 0 < distance(found, alone["fisher"]) <= 1e-6 * distance(alone["fisher"], nothing)
    world.build(only=[terms])
    rows = read_rows(world.artifact("confidence_terms") / CONFIDENCE_TERMS)
    assert [row["id"] for row in rows] == [row["id"] for row in alone["terms"]]
    for name in TERMS:
        values = np.array([row[name] for row in alone["terms"]])
        assert np.abs(np.array([row[name] for row in rows]) - values).max() <= 2e-6 * np.abs(values).max(), name


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_no_process_is_left_when_the_build_ends(built_once: World, name: str, tmp_path: Path) -> None:
    world = copied(built_once, tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster_project.cli", "build", "--processes", "2", "--force", "fisher_diagonal"],
        env={**os.environ, "LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not {0, 1} <= workers(world.home.root).keys():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        process.send_signal(signal.Signals[name])
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -signal.SIGKILL}[name]
    _wait_until_gone(world.home.root)
