"""A build that is killed and started again ends where one that was never killed ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from armed import Armed
from places import SUPPORT
from tiny import save_tiny_model, tiny_llama
from world import World, copied

pytestmark = pytest.mark.slow

# Dies without a word after so many learning steps of the asset, as if the machine had gone away.
BUILD_AND_DIE = """
import os, signal, sys
from lwf_assets.engine.training import fine_tune as training

asset, steps = sys.argv[1], int(sys.argv[2])
plain_step_end = training._Watch.on_step_end

def on_step_end(self, args, state, control, **kwargs):
    plain_step_end(self, args, state, control, **kwargs)
    if asset in args.output_dir and state.global_step == steps:
        os.kill(os.getpid(), signal.SIGKILL)

training._Watch.on_step_end = on_step_end
sys.argv = ["lwf", "build"]
from dagster_project.cli.main import main
main()
"""


def run(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file)}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)


# Makes one cell of the armed study from what is there, without Dagster.
MAKE_ARM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from armed import Armed
from lwf_assets.building.materialize import materialize
from lwf_assets.store.store import Store
from lwf_assets.study.file import load_study

folder = Path(sys.argv[4])
armed = Armed(folder, load_study(folder / "study.yaml"), Store(folder / "store"))
made = materialize(armed.study, armed.store, armed.cell("arm_checkpoint", sys.argv[5]))
print(made.artifact.version, made.artifact.manifest.provenance["resumed"])
"""


@pytest.mark.parametrize("name", ["npo.teeth", "noise.teeth"])
def test_an_arm_that_is_killed_ends_where_it_would_have_ended(armed: Armed, tmp_path: Path, name: str) -> None:
    before = armed.artifact("arm_checkpoint", f"{name}|sums")
    shutil.copytree(armed.folder, tmp_path / "killed")
    folder = tmp_path / "killed"
    shutil.rmtree(folder / "store" / "arm_checkpoint" / f"{name}+sums")
    values = yaml.safe_load((folder / "study.yaml").read_text())
    values["training"]["checkpoint_every"] = 2
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    die, make = BUILD_AND_DIE.split("sys.argv = ")[0], MAKE_ARM
    words = ("arm_checkpoint", "5", str(SUPPORT), str(folder), f"{name}|sums")
    killed = python(die + make, *words)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    checkpoints = sorted(path.name for path in folder.glob("store/arm_checkpoint/*/scratch/*/*/checkpoint-*"))
    assert checkpoints == ["checkpoint-2", "checkpoint-4"]
    again = python(make, *words)
    assert again.returncode == 0, again.stderr
    assert again.stdout.split() == [before.version, "True"]


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("asset", ["reference_checkpoint", "lwf_checkpoint"])
def test_killed_in_the_middle_of_training(built: World, tmp_path: Path, asset: str) -> None:
    built.values["training"]["checkpoint_every"] = 2  # changes nothing but what a killed run can go on from
    assert built.stale() == set()
    world = copied(built, tmp_path / "killed")
    world.values["training"]["checkpoint_every"] = 2
    for name in (asset, "eval_report", "leaderboard"):
        shutil.rmtree(world.home.root / "store" / name)
    killed = run(world, "-c", BUILD_AND_DIE, asset, "5")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    checkpoints = sorted(path.name for path in world.home.root.glob(f"store/{asset}/*/scratch/*/*/checkpoint-*"))
    assert checkpoints == ["checkpoint-2", "checkpoint-4"]
    # A recipe's scratch is dropped once it is made, so only a run that resumed leaves the same versions and no scratch.
    again = run(world, "-m", "dagster_project.cli", "build")
    assert again.returncode == 0, again.stderr
    for name in ("reference_checkpoint", "lwf_checkpoint", "eval_report", "leaderboard"):
        versions = {path.parent.name for path in world.home.root.glob(f"store/{name}/*/*/manifest.json")}
        expected = {path.parent.name for path in built.home.root.glob(f"store/{name}/*/*/manifest.json")}
        assert versions == expected
    assert not list(world.home.root.glob("store/*/*/.draft-*"))
    assert not list(world.home.root.glob("store/*/*/scratch/*/*"))


def test_a_changed_model_directory_is_seen(built: World) -> None:
    save_tiny_model(built.folder / "model", model=tiny_llama(seed=5))
    assert "base_model" in built.stale()
