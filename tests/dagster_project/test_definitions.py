"""The code location: loads fast and light, and says what the design says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from armed import ARMS, armed_values
from places import ROOT
from tiny import write_study
from world import World

from dagster_project.definitions import build_definitions
from dagster_project.ui.metadata import PLOT_BYTES
from lwf_assets.building.checks import CHECKS
from lwf_assets.graph.cells import Cell, asset_code_version, cells, inputs_of, specs_of, upstream_of
from lwf_assets.graph.table import ASSETS
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study

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


@pytest.fixture(scope="module")
def armed_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study with arms of every kind, not built, and with a second learning task."""
    folder = tmp_path_factory.mktemp("armed-study")
    values = armed_values(folder)
    values["learning_tasks"]["legs"] = {"preset": "leg_counting"}
    values["arms"] = {**ARMS, "bss": {"kind": "bss", "learning_tasks": ["legs"]}}
    return load_study(write_study(folder, values))


@pytest.fixture(params=["plain", "armed"])
def study(request: pytest.FixtureRequest, built: World, armed_study: Study) -> Study:
    """A study without arms, and one with."""
    return built.study if request.param == "plain" else armed_study


def test_every_asset_has_group_kinds_owner_description_partitions_and_code_version(study: Study, built: World) -> None:
    graph = build_definitions(study, built.home).resolve_asset_graph()
    assert {key.to_user_string() for key in graph.materializable_asset_keys} == {spec.name for spec in specs_of(study)}
    for spec in specs_of(study):
        node = graph.get(dg.AssetKey(spec.name))
        assert node.group_name
        assert node.kinds
        assert node.owners
        assert node.description
        assert node.code_version == asset_code_version(study, spec)
        assert {key.to_user_string() for key in node.parent_keys} == set(upstream_of(study, spec))
        names = set(spec.dimensions)
        if isinstance(node.partitions_def, dg.MultiPartitionsDefinition):
            assert {d.name for d in node.partitions_def.partitions_defs} == names
        else:
            assert (node.partitions_def is None) == (not names)
        keys = {c.partition.key for c in cells(study) if c.asset == spec.name}
        if names:
            assert node.partitions_def is not None
            assert keys <= set(node.partitions_def.get_partition_keys())


def test_every_check_blocks_and_knows_its_partitions_but_the_mark_of_what_is_stale(study: Study, built: World) -> None:
    definitions = build_definitions(study, built.home)
    graph = definitions.resolve_asset_graph()
    present = {spec.name for spec in specs_of(study)}
    marks = {key for key in graph.asset_check_keys if key.name == "up_to_date"}
    assert {key.asset_key.to_user_string() for key in marks} == present
    assert not any(graph.get(key).blocking for key in marks)
    blocking = graph.asset_check_keys - marks
    assert {key.name for key in blocking} == {c.name for c in CHECKS if c.asset in present}
    for key in blocking:
        node = graph.get(key)
        assert node.blocking
        assert node.partitions_def == graph.get(key.asset_key).partitions_def


PLAIN_JOBS = {"unpartitioned", "by_learning_task", "by_forgetting_task", "by_cell", "by_model"}


def test_one_job_per_partition_definition(study: Study, built: World) -> None:
    definitions = build_definitions(study, built.home)
    jobs = PLAIN_JOBS | ({"by_arm", "by_prior"} if study.arms else set())
    repository = definitions.get_repository_def()
    every = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert every == jobs | {"request_build"}
    names = {spec.name for spec in specs_of(study)}
    selected = [{node.name for node in definitions.resolve_job_def(name).nodes} & names for name in jobs]
    assert set().union(*selected) == names
    assert sum(map(len, selected)) == len(names)


def below(graph: dg.AssetGraph, asset: str, key: str) -> set[str]:
    """What Dagster holds to be made from one partition: cells of the assets right below it."""

    found = graph.get_children_partitions(dg.AssetKey(asset), key)
    return {f"{child.asset_key.to_user_string()}[{child.partition_key}]" for child in found}


def test_dagsters_edges_between_grids_are_those_of_the_graph(armed_study: Study, built: World) -> None:
    graph = build_definitions(armed_study, built.home).resolve_asset_graph()
    grids = {spec.name for spec in ASSETS if len(spec.dimensions) == 2}
    expected: dict[Cell, set[str]] = {cell: set() for cell in cells(armed_study) if cell.asset in grids}
    for cell in expected:
        for needed in inputs_of(armed_study, cell):
            if needed in expected:
                expected[needed].add(str(cell))
    there = {str(cell) for cell in cells(armed_study)}
    for cell, made in expected.items():
        children = below(graph, cell.asset, str(cell.partition.key))
        on_grids = {name for name in children if name.split("[")[0] in grids}
        assert on_grids & there == made, cell


def test_below_an_lwf_checkpoint_lie_its_evaluation_its_report_and_what_is_as_noisy(
    armed_study: Study, built: World
) -> None:
    graph = build_definitions(armed_study, built.home).resolve_asset_graph()
    assert below(graph, "lwf_checkpoint", "teeth|legs") == {
        "evaluation[legs|lwf.teeth]",
        "forgetting_probe[legs|lwf.teeth]",
        "eval_report[teeth|legs]",
        "arm_checkpoint[noise.teeth|legs]",
    }
    plain = build_definitions(built.study, built.home).resolve_asset_graph()
    assert below(plain, "lwf_checkpoint", "teeth|sums") == {"evaluation[sums|lwf.teeth]", "eval_report[teeth|sums]"}


def test_materializations_carry_figures_a_sample_and_a_small_plot(built: World) -> None:
    from dagster_project.runs.instance import open_instance

    instance = open_instance(built.home)
    plots = 0
    for spec in specs_of(built.study):
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
