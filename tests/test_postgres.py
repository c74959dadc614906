"""Dagster and MLflow on a real PostgreSQL, by environment variables alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from world import World, new_world

from dagster_project.instance import existing_instance, open_instance
from dagster_project.mlflow_address import tracking_uri
from dagster_project.outside_records import outside_records
from lwf_assets.errors import LwfError
from lwf_assets.lineage.chain import read_chain
from lwf_assets.lineage.find import find_manifest

pytestmark = pytest.mark.slow

USER = "postgres"


def programs() -> Path:
    """Where PostgreSQL's own programs are: Debian keeps them out of the path."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    return places[-1]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own on the loopback address, with two databases; gives its address without a database."""
    folder = tmp_path_factory.mktemp("postgres")
    # It does not run as root.
    as_user = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    if as_user:
        for parent in (folder, *folder.parents[:2]):
            parent.chmod(0o755)
        shutil.chown(folder, USER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"

    def run(*words: str) -> None:
        subprocess.run([*as_user, *words], check=True, capture_output=True, cwd=folder)

    run(str(programs() / "initdb"), "-D", str(data), "-U", USER, "-A", "trust")
    options = f"-p {port} -h 127.0.0.1 -k {folder}"
    run(str(programs() / "pg_ctl"), "-D", str(data), "-w", "-o", options, "-l", str(folder / "log"), "start")
    try:
        for name in ("dagster", "mlflow"):
            run(str(programs() / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", USER, name)
        yield f"postgresql://{USER}@127.0.0.1:{port}"
    finally:
        run(str(programs() / "pg_ctl"), "-D", str(data), "-m", "fast", "stop")


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


def test_the_command_line_uses_it_too(world: World) -> None:
    environment = {**os.environ, "LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file), "OMP_NUM_THREADS": "1"}
    command = [str(Path(sys.executable).parent / "lwf"), "build", "--cell", "teeth|sums"]
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "verdict" in built.stdout.lower() or "teeth" in built.stdout
    assert not (world.home.root / "dagster" / "history").exists()


def test_an_instance_does_not_change_its_database_without_a_word(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    open_instance(world.home)
    monkeypatch.delenv("DAGSTER_POSTGRES_URL")
    with pytest.raises(LwfError, match=r"dagster\.yaml: keeps Dagster's runs in PostgreSQL, and .* is not set"):
        open_instance(world.home)
    assert existing_instance(world.home) is None
