"""Dagster and MLflow on a real PostgreSQL, by environment variables alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from postgres import postgres_server
from world import World, new_world

from dagster_project.runs.instance import existing_instance, open_instance
from dagster_project.tracking.address import tracking_uri
from dagster_project.tracking.lineage_records import outside_records
from lwf_assets.errors import LwfError
from lwf_assets.lineage.chain import read_chain
from lwf_assets.lineage.find import find_manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as address:
        yield address


@pytest.fixture
def world(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", f"{postgres}/dagster")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{postgres}/mlflow")
    return new_world(tmp_path)


def test_a_study_is_built_and_its_runs_are_in_postgres(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.build()
    assert not world.stale()
    assert not (world.home.root / "mlflow.db").exists()
    assert not (world.home.root / "dagster" / "history").exists()
    store = world.home.store
    chain = read_chain(store, find_manifest(store, "teeth|sums"))
    records = outside_records(world.home, chain)
    assert {record.system for record in records} == {"Dagster", "MLflow"}
    assert len(records) == 2 * len(chain.links)
    assert all(record.agrees for record in records)
    client = MlflowClient(tracking_uri=tracking_uri(world.home))
    assert str(client.get_model_version_by_alias("tiny.sums.forgetting.teeth", "challenger").version) == "1"
    # Another home by the same address sees the same runs, and a lost database is told as none.
    assert open_instance(world.home).get_runs_count() > 0
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert existing_instance(world.home) is None


def test_an_instance_does_not_change_its_database_without_a_word(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    open_instance(world.home)
    monkeypatch.delenv("DAGSTER_POSTGRES_URL")
    with pytest.raises(LwfError, match=r"dagster\.yaml: keeps Dagster's runs in PostgreSQL, and .* is not set"):
        open_instance(world.home)
    assert existing_instance(world.home) is None
