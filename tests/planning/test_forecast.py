"""What `lwf plan` foresees: seconds and memory of the steps that do work, and of no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from command_line import json_of, lwf
from header_models import write_header_model
from world import World

from lwf_assets.cost import devices
from lwf_assets.cost import free_memory as free_memory_module
from lwf_assets.graph.cells import Cell
from lwf_assets.planning.forecast import Foresight, foresee
from lwf_assets.planning.plan import Action
from lwf_assets.store.partition import Partition

PLAN = """
import json, sys
sys.argv = ["lwf", "plan"]
from dagster_project.cli.main import app
app(standalone_mode=False)
names = ("torch", "transformers", "datasets", "mlflow", "dagster", "pandas", "tokenizers")
print(json.dumps([name for name in names if name in sys.modules]))
"""


def foresight_of(world: World) -> Foresight:
    return foresee(world.study, world.home.store, world.plan())


def test_a_build_leaves_in_its_manifests_what_the_next_plan_reckons_with(built: World) -> None:
    for step in built.plan().steps:
        artifact = built.home.store.current(step.cell.asset, step.cell.partition)
        assert artifact is not None
        provenance = artifact.manifest.provenance
        # A file without a limit says its rows only when it is read.
        assert (provenance["work"] is None) == (step.cell.asset == "forgetting_prompts"), step.cell
        assert provenance["resumed"] is False
        assert provenance["device"]
        assert provenance["wall_seconds"] > 0


def test_only_steps_that_do_work_have_a_cost(built: World) -> None:
    assert foresight_of(built).steps == {}
    assert foresight_of(built).seconds is None
    built.values["confidence"] = {"alpha": 0.5}
    foresight = foresight_of(built)
    assert {str(cell) for cell in foresight.steps} == built.stale()
    assert foresight.untimed == 0
    assert foresight.seconds == pytest.approx(sum(step.seconds or 0 for step in foresight.steps.values()))
    assert foresight.memory == max(step.memory or 0 for step in foresight.steps.values())
    built.build(only=[Cell("scored_forget_set", Partition("teeth", "sums"))])
    del built.values["confidence"]
    actions = {step.cell: step.action for step in built.plan().stale}
    assert Action.TAKE in actions.values()
    assert set(foresight_of(built).steps) == {cell for cell, action in actions.items() if action == Action.MAKE}


def test_twice_the_training_takes_about_twice_the_time(built: World) -> None:
    reference = Cell("reference_checkpoint", Partition(learning_task="sums"))
    artifact = built.home.store.current(reference.asset, reference.partition)
    assert artifact is not None
    built.values["seeds"] = [0, 1]
    foreseen = foresight_of(built).steps[reference]
    assert foreseen.seconds == pytest.approx(2 * artifact.manifest.provenance["wall_seconds"])
    assert not foreseen.guessed


def test_a_missing_artifact_costs_what_it_cost(built: World) -> None:
    terms = Cell("confidence_terms", Partition("teeth", "sums"))
    artifact = built.home.store.current(terms.asset, terms.partition)
    assert artifact is not None
    (artifact.path / "confidence_terms.parquet").unlink()
    assert foresight_of(built).steps[terms].seconds == artifact.manifest.provenance["wall_seconds"]


def test_the_plan_as_json_has_seconds_and_bytes(built: World) -> None:
    built.values["fisher"] = {"samples": 4}
    plan = json_of(lwf(built, "plan", "--json", "--cell", "teeth|sums"))
    fisher = plan["stale"][0]
    assert (fisher["asset"], fisher["action"]) == ("fisher_diagonal", "make")
    assert fisher["reasons"] == ["fisher.samples: 8 -> 4"]
    assert fisher["seconds"] > 0
    assert 500_000_000 < fisher["memory_bytes"] < 600_000_000
    assert (fisher["guessed"], fisher["cannot_fit"]) == (False, False)
    scored = next(entry for entry in plan["stale"] if entry["asset"] == "scored_forget_set")
    assert scored["memory_bytes"] is None
    assert plan["memory_bytes"] == max(entry["memory_bytes"] or 0 for entry in plan["stale"])
    assert plan["seconds"] > 0
    assert plan["steps_without_seconds"] == 0


def test_the_plan_in_words_shows_them_behind_the_action(built: World) -> None:
    built.values["fisher"] = {"samples": 4}
    words = lwf(built, "plan").stdout
    assert "sums  make  " in words
    assert ", 0.5 GB" in words
    assert words.splitlines()[-1].startswith("12 to build: ~")
    assert words.splitlines()[-1].endswith(", at most 0.5 GB of memory, at least 2.9 MB of disk")


def test_in_an_empty_home_no_time_is_made_up(built: World) -> None:
    empty = World(built.folder, type(built.home)(built.folder / "empty"), built.values)
    plan = json_of(lwf(empty, "plan", "--json"))
    assert {entry["seconds"] for entry in plan["stale"]} == {None}
    assert (plan["seconds"], plan["steps_without_seconds"]) == (None, 22)
    # The model is a directory, so that its size is known before it is imported.
    assert next(entry for entry in plan["stale"] if entry["asset"] == "fisher_diagonal")["memory_bytes"] > 0
    planned = lwf(empty, "plan").stdout
    assert planned.splitlines()[-1].startswith("22 to build, at most ")
    assert "?" not in planned


def test_the_plan_marks_what_cannot_fit_and_the_build_refuses_it(built: World) -> None:
    write_header_model(built.folder / "large", [10**7, 10**6])
    built.values["model"]["source"]["path"] = "large"
    assert "would not fit: needs 40000 GB, " in lwf(built, "plan").stdout
    stale = json_of(lwf(built, "plan", "--json"))["stale"]
    assert {entry["asset"] for entry in stale if entry.get("cannot_fit")} == {
        "base_model",
        "self_generated_corpus",
        "reference_checkpoint",
        "fisher_diagonal",
        "confidence_terms",
        "lwf_checkpoint",
        "evaluation",
    }
    done = lwf(built, "build")
    assert done.returncode == 1
    assert "base_model would not fit into memory and was not started: it needs at least 40000 GB" in done.stderr
    assert "Traceback" not in done.stderr


def test_where_an_accelerator_may_be_the_plan_does_not_judge(built: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory_module, "free_on_host", lambda: 0)
    monkeypatch.setattr(devices, "DEVICES", built.folder)
    monkeypatch.delitem(sys.modules, "torch")
    (built.folder / "nvidiactl").touch()
    built.values["fisher"] = {"samples": 4}
    assert not any(step.cannot_fit for step in foresight_of(built).steps.values())
    (built.folder / "nvidiactl").unlink()
    assert any(step.cannot_fit for step in foresight_of(built).steps.values())


def test_planning_is_light(built: World) -> None:
    built.values["fisher"] = {"samples": 4}
    environment = {**os.environ, "LWF_HOME": str(built.home.root), "LWF_STUDY": str(built.file)}
    command = [sys.executable, "-W", "ignore", "-c", PLAN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
