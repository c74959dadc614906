"""What MLflow holds after a build."""

from __future__ import annotations

import os
from collections import Counter

import dagster as dg
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from world import World

from dagster_project.runs.instance import open_instance


@pytest.fixture
def client(built: World) -> MlflowClient:
    uri = f"sqlite:///{built.home.root / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri)


def all_runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def test_one_parent_per_dagster_run_and_one_nested_run_per_cell(built: World, client: MlflowClient) -> None:
    runs = all_runs(client)
    parents = {run.info.run_id: run for run in runs if "mlflow.parentRunId" not in run.data.tags}
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    dagster_runs = {record.run_id for record in open_instance(built.home).get_runs()}
    assert {run.data.tags["dagster.run_id"] for run in parents.values()} == dagster_runs
    assert len(parents) == len(dagster_runs)
    cells = Counter((run.data.tags["lwf.asset"], run.data.tags["lwf.partition"]) for run in children)
    assert set(cells.values()) == {1}
    assert len(cells) == 22
    for child in children:
        parent = parents[child.data.tags["mlflow.parentRunId"]]
        assert parent.data.tags["dagster.run_id"] == child.data.tags["dagster.run_id"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_the_tags_of_a_nested_run_are_those_of_the_manifest(built: World, client: MlflowClient) -> None:
    for run in all_runs(client):
        if "mlflow.parentRunId" not in run.data.tags:
            continue
        tags = run.data.tags
        (step,) = [
            step
            for step in built.plan().steps
            if (step.cell.asset, step.cell.partition.key or "") == (tags["lwf.asset"], tags["lwf.partition"])
        ]
        artifact = built.home.store.current(step.cell.asset, step.cell.partition)
        assert artifact is not None
        manifest = artifact.manifest
        assert tags["lwf.data_version"] == manifest.version
        assert tags["lwf.recipe"] == manifest.recipe
        assert tags["lwf.code_version"] == manifest.code_version
        assert manifest.provenance["mlflow_run"] == run.info.run_id
        assert manifest.provenance["dagster_run"] == tags["dagster.run_id"]


def test_curves_of_learning_and_unlearning(client: MlflowClient) -> None:
    runs = [run for run in all_runs(client) if run.data.tags.get("lwf.asset") == "lwf_checkpoint"]
    assert len(runs) == 2
    for run in runs:
        learning = client.get_metric_history(run.info.run_id, "learning/loss")
        assert [point.step for point in learning] == [1, 2, 3, 4, 5, 6]
        unlearning = client.get_metric_history(run.info.run_id, "unlearning/nll_before")
        assert [point.step for point in unlearning] == [2, 4, 6]


def test_data_is_logged_as_input_by_version(built: World, client: MlflowClient) -> None:
    (run,) = [run for run in all_runs(client) if run.data.tags.get("lwf.asset") == "learning_data"]
    (logged,) = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert logged.dataset.digest == built.artifact("learning_data").name


@pytest.mark.slow
def test_the_registered_model_answers_and_is_registered_once(
    built: World, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.transformers

    name = "tiny.sums.forgetting.teeth"
    version = client.get_model_version_by_alias(name, "challenger")
    assert version.tags["lwf.data_version"] == built.artifact("lwf_checkpoint").name
    # Another setting registers a second version; going back only moves the alias.
    built.values["unlearning"]["forgetting_rate"] = 0.001
    built.build()
    assert int(client.get_model_version_by_alias(name, "challenger").version) == 2
    built.values["unlearning"]["forgetting_rate"] = 0.0001
    built.build()
    assert client.get_model_version_by_alias(name, "challenger").version == version.version
    assert len(client.search_model_versions(f"name = '{name}'")) == 2
    assert "MLFLOW_TRACKING_URI" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{built.home.root / 'mlflow.db'}")
    pipeline = mlflow.transformers.load_model(f"models:/{name}@challenger")
    assert pipeline("1 + 1 =", max_new_tokens=2)[0]["generated_text"].startswith("1 + 1 =")


def test_a_failed_step_fails_its_run_and_the_parent(built: World, client: MlflowClient) -> None:
    path = built.folder / "teeth.jsonl"
    path.write_text(path.read_text() + '{"id": "x"}\n')
    with pytest.raises(Exception, match="prompt"):
        built.build()
    failed = [run for run in all_runs(client) if run.info.status == "FAILED"]
    assert sorted("mlflow.parentRunId" in run.data.tags for run in failed) == [False, True]
    (child,) = [run for run in failed if "mlflow.parentRunId" in run.data.tags]
    assert "teeth.jsonl" in child.data.tags["lwf.error"]


def test_dagsters_data_version_is_the_content_hash(built: World) -> None:
    instance = open_instance(built.home)
    for step in built.plan().steps:
        artifact = built.home.store.current(step.cell.asset, step.cell.partition)
        assert artifact is not None
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(step.cell.asset), asset_partitions=[step.cell.partition.key])
            if step.cell.partition.key
            else dg.AssetKey(step.cell.asset),
            limit=1,
        ).records
        materialization = records[0].asset_materialization
        assert materialization is not None
        assert materialization.tags is not None
        assert materialization.tags["dagster/data_version"] == artifact.version
