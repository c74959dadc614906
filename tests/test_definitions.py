"""The code location: loads fast and light, and says what the design says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
from world import World

from dagster_project.definitions import build_definitions
from dagster_project.metadata import PLOT_BYTES
from lwf_assets.checks import CHECKS
from lwf_assets.graph import ASSETS, asset_code_version

ROOT = Path(__file__).resolve().parent.parent

LOAD = """
import json, sys, time
began = time.perf_counter()
from dagster_project.definitions import defs
defs().get_repository_def()
names = ("torch", "transformers", "datasets", "mlflow", "pandas", "matplotlib", "reasoning_gym")
heavy = [name for name in names if name in sys.modules]
print(json.dumps({"seconds": time.perf_counter() - began, "heavy": heavy}))
"""


def environment_of(world: World) -> dict[str, str]:
    return {**os.environ, "LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file)}


def test_loading_is_light(built: World) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD],
        env=environment_of(built),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stdout)
    assert loaded["heavy"] == []


def test_dg_check_defs_passes(built: World) -> None:
    dg_program = Path(sys.executable).parent / "dg"
    done = subprocess.run(
        [dg_program, "check", "defs"], cwd=ROOT, env=environment_of(built), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_asset_has_group_kinds_owner_description_partitions_and_code_version(built: World) -> None:
    graph = build_definitions(built.study, built.home).resolve_asset_graph()
    for spec in ASSETS:
        node = graph.get(dg.AssetKey(spec.name))
        assert node.group_name
        assert node.kinds
        assert node.owners
        assert node.description
        assert node.code_version == asset_code_version(built.study, spec)
        assert {key.to_user_string() for key in node.parent_keys} == set(spec.inputs)
        names = {
            0: set(),
            1: {*spec.dimensions},
            2: {"forgetting_task", "learning_task"},
        }[len(spec.dimensions)]
        if isinstance(node.partitions_def, dg.MultiPartitionsDefinition):
            assert {d.name for d in node.partitions_def.partitions_defs} == names
        else:
            assert (node.partitions_def is None) == (not names)


def test_every_check_blocks_and_knows_its_partitions(built: World) -> None:
    definitions = build_definitions(built.study, built.home)
    graph = definitions.resolve_asset_graph()
    assert {key.name for key in graph.asset_check_keys} == {check.name for check in CHECKS}
    for key in graph.asset_check_keys:
        node = graph.get(key)
        assert node.blocking
        assert node.partitions_def == graph.get(key.asset_key).partitions_def


def test_one_job_per_partition_definition(built: World) -> None:
    definitions = build_definitions(built.study, built.home)
    jobs = {"unpartitioned", "by_learning_task", "by_forgetting_task", "by_cell"}
    selected = [
        {node.name for node in definitions.resolve_job_def(name).nodes} & {spec.name for spec in ASSETS}
        for name in jobs
    ]
    assert set().union(*selected) == {spec.name for spec in ASSETS}
    assert sum(len(names) for names in selected) == len(ASSETS)


def test_materializations_carry_figures_a_sample_and_a_small_plot(built: World) -> None:
    from dagster_project.builder import open_instance

    instance = open_instance(built.home)
    plots = 0
    for spec in ASSETS:
        (record,) = instance.fetch_materializations(dg.AssetKey(spec.name), limit=1).records
        materialization = record.asset_materialization
        assert materialization is not None
        metadata = materialization.metadata
        assert metadata["version"].value == materialization.tags["dagster/data_version"]  # type: ignore[index]
        assert "mlflow_run" in metadata
        if "plot" in metadata:
            plots += 1
            assert len(str(metadata["plot"].value)) < 100_000 > PLOT_BYTES
        if "sample" in metadata:
            header, rule, *rows = str(metadata["sample"].value).splitlines()
            assert rows
            assert {line.count("|") for line in (header, rule, *rows)} == {header.count("|")}
    assert plots == 4
