"""`deploy/`: the unit's own command with the variables of its environment file, on a real PostgreSQL."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster_graphql import DagsterGraphQLClient
from mlflow import MlflowClient
from places import ROOT
from postgres import postgres_server
from servers_at_work import LOOPBACK, free_port, lwf_ui
from world import World, copied

from dagster_project.automation.tags import BUILD_TAG, CELL_TAG
from dagster_project.runs.instance import open_instance

pytestmark = pytest.mark.slow

DEPLOY = ROOT / "deploy"


@dataclass
class Service:
    """The running service."""

    process: int
    dagster_port: int
    mlflow_port: int


def variables() -> dict[str, str]:
    """What the environment file sets."""
    lines = (DEPLOY / "environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def command() -> list[str]:
    """What the unit starts."""
    (line,) = re.findall(r"^ExecStart=(.*)$", (DEPLOY / "lwf.service").read_text(), re.MULTILINE)
    return shlex.split(line)


@pytest.fixture
def world(built_once: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A study of which only a report is stale, without databases, and a PostgreSQL with empty ones."""
    world = copied(built_once, tmp_path)
    shutil.rmtree(world.home.root / "dagster")
    (world.home.root / "mlflow.db").unlink()
    world.values["evaluation"]["known_conflicts"] = ["minds"]
    assert {name.partition("[")[0] for name in world.stale()} == {"eval_report", "leaderboard"}
    with postgres_server() as address:
        filled = {
            "LWF_HOME": str(world.home.root),
            "LWF_STUDY": str(world.file),
            "DAGSTER_POSTGRES_URL": f"{address}/dagster",
            "MLFLOW_TRACKING_URI": f"{address}/mlflow",
        }
        assert variables().keys() == filled.keys()
        for name, value in filled.items():
            monkeypatch.setenv(name, value)
        yield world


@pytest.fixture
def service(world: World) -> Iterator[Service]:
    ports = {"3000": free_port(), "5000": free_port()}
    program, name, *words = command()
    assert (Path(program).name, name) == ("lwf", "ui")
    here = [str(ports.get(word, word)) for word in words]
    with lwf_ui(here, {}, signal.SIGTERM) as process:  # as systemd stops it
        yield Service(process, ports["3000"], ports["5000"])


def test_the_service_builds_what_it_is_asked_to_and_keeps_everything_in_postgres(
    world: World, service: Service
) -> None:
    client = DagsterGraphQLClient(LOOPBACK, port_number=service.dagster_port)
    client.submit_job_execution("request_build")
    deadline = time.monotonic() + 300
    while world.stale():
        assert time.monotonic() < deadline, (world.home.root / "dagster.log").read_text()[-4000:]
        time.sleep(1)
    runs = [run for run in open_instance(world.home).get_runs() if BUILD_TAG in run.tags]
    made = {name.partition("[")[0] for name in (run.tags[CELL_TAG] for run in runs)}
    assert made == {"eval_report", "leaderboard"}
    while not all(run.is_finished for run in runs):
        time.sleep(1)
        runs = [run for run in open_instance(world.home).get_runs() if BUILD_TAG in run.tags]
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    mlflow = MlflowClient(tracking_uri=f"http://{LOOPBACK}:{service.mlflow_port}")
    (experiment,) = [e for e in mlflow.search_experiments() if e.name == "tiny"]
    names = [run.info.run_name for run in mlflow.search_runs([experiment.experiment_id])]
    assert "eval_report[teeth|sums]" in names
    assert not (world.home.root / "mlflow.db").exists()
    assert not (world.home.root / "dagster" / "history").exists()

    processes = [psutil.Process(service.process), *psutil.Process(service.process).children(recursive=True)]
    listening = {c.laddr for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert {service.dagster_port, service.mlflow_port} <= {address.port for address in listening}
    assert {address.ip for address in listening} <= {LOOPBACK, "::1"}
