"""MLflow may be away at any time: no training waits for it or fails by it, and nothing that it should know is lost."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import json_of, lwf
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from servers_at_work import LOOPBACK, free_port, mlflow_server
from world import World

from dagster_project.tracking import send as sending
from dagster_project.tracking.cell_runs import OUTAGE
from dagster_project.tracking.client import open_client
from dagster_project.tracking.journal import (
    END,
    POINTS,
    Journal,
    left_journal,
    new_journal,
    read_journal,
    waiting_journals,
)
from dagster_project.tracking.send import NotSentError, resend, send
from lwf_assets.store.home import Home
from lwf_assets.store.layout import read_ledger

BEGIN = {
    "study": "s",
    "asset": "reference_checkpoint",
    "partition": "sums",
    "dagster_run": "d1",
    "dagster_partition": "sums",
    "job": "by_learning_task",
}


def filled(home: Home, points: int = 5, *, ended: bool = True) -> Path:
    with new_journal(home.root, BEGIN) as journal:
        for step in range(points):
            journal.add(POINTS, step=step, values={"learning/loss": 1.0 / (step + 1), "learning/rate": 0.1})
        if ended:
            journal.add(END, status="FINISHED", error="")
        return journal.path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


@pytest.fixture
def uri(home: Home) -> str:
    return f"sqlite:///{home.root / 'mlflow.db'}"


def runs_in(uri: str, study: str = "s") -> dict[str, Any]:
    """Every nested run of the study's experiment, by name."""
    client = open_client(uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        return {}
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len({run.data.tags["lwf.journal"] for run in nested}) == len(nested)
    return {f"{run.info.run_name} {run.data.tags['lwf.journal']}": run for run in nested}


def curve(uri: str, run: Any, name: str = "learning/loss") -> list[tuple[int, float]]:
    history = open_client(uri).get_metric_history(run.info.run_id, name)
    return sorted((point.step, point.value) for point in history)


def test_all_of_a_journal_arrives_and_the_journal_is_gone(home: Home, uri: str) -> None:
    filled(home, 2500)
    assert resend(uri, home) == []
    assert list((home.root / "tracking").iterdir()) == []
    (run,) = runs_in(uri).values()
    assert run.info.status == "FINISHED"
    assert curve(uri, run) == [(step, 1.0 / (step + 1)) for step in range(2500)]


@pytest.mark.parametrize("request_number", range(1, 9))
def test_a_failure_or_a_kill_at_any_request_changes_nothing(
    home: Home, uri: str, request_number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request in turn is answered, but the answer does not arrive; nor is it noted what was sent."""
    path = filled(home, 4)
    left = [request_number]

    def lost(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            answer = original(*args, **kwargs)
            left[0] -= 1
            if left[0] == 0:
                raise MlflowException("the connection was lost")
            return answer

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("create_run", "search_runs", "log_batch", "set_terminated", "get_run", "update_run"):
            patch.setattr(MlflowClient, name, lost(getattr(MlflowClient, name)))
        kept = path.read_bytes()
        failed = resend(uri, home)
    assert left[0] == 0
    assert [why for _, why in failed] == ["MlflowException: the connection was lost"]
    assert path.read_bytes() == kept
    path.with_suffix(".sent").unlink(missing_ok=True)  # a kill before it was written
    assert resend(uri, home) == []
    (run,) = runs_in(uri).values()
    assert curve(uri, run) == [(step, 1.0 / (step + 1)) for step in range(4)]
    assert run.info.status == "FINISHED"


def test_a_database_that_was_lost_is_sent_everything_again(home: Home, uri: str) -> None:
    with new_journal(home.root, BEGIN) as journal:
        journal.add(POINTS, step=0, values={"learning/loss": 3.0})
        send(journal, uri, home, whole=False)
        other = f"sqlite:///{home.root / 'new.db'}"
        journal.add(POINTS, step=1, values={"learning/loss": 2.0})
        send(journal, other, home, whole=False)
    (run,) = runs_in(other).values()
    assert curve(other, run) == [(0, 3.0), (1, 2.0)]


def test_a_run_whose_process_died_is_told_as_killed(home: Home, uri: str) -> None:
    path = filled(home, 3, ended=False)
    with path.open("a") as file:
        file.write('{"entry": "poi')  # cut short
    assert resend(uri, home) == []
    (run,) = runs_in(uri).values()
    assert run.info.status == "KILLED"
    assert len(curve(uri, run)) == 3


def test_a_journal_that_somebody_writes_is_left_to_them(home: Home, uri: str) -> None:
    with new_journal(home.root, BEGIN) as journal:
        assert resend(uri, home) == []
        assert not journal.is_sent
        with left_journal(journal.path) as mine:
            assert mine is None
    assert waiting_journals(home.root) == [journal.path]


def test_what_cannot_be_written_to_the_disk_is_kept_in_memory(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_journal(home.root, BEGIN) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(28, "full")))
            journal.add(POINTS, step=0, values={"a": 1.0})
        assert len(read_journal(journal.path).entries) == 1
        journal.add(POINTS, step=1, values={"a": 2.0})
        assert read_journal(journal.path).entries == journal.entries


def test_rubbish_is_no_journal(home: Home, uri: str) -> None:
    folder = home.root / "tracking"
    folder.mkdir()
    for number, rubbish in enumerate((b"", b"[]\n", b"\xff\xfe", b"{}\n")):
        (folder / f"{number}.jsonl").write_bytes(rubbish)
    assert resend(uri, home) == []
    assert list(folder.iterdir()) == []


def test_a_server_that_is_away_or_refuses_is_told_in_one_line(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(home)
    filled(home)
    away = f"http://{LOOPBACK}:{free_port()}"
    began = time.monotonic()
    failed = resend(away, home)
    assert time.monotonic() - began < 5
    assert [why for _, why in failed] == ["it takes no connection"]  # and the second is not tried
    monkeypatch.setattr(sending, "open_client", lambda uri: (_ for _ in ()).throw(MlflowException("401\nmore")))
    with pytest.raises(NotSentError, match=r"^MlflowException: 401$"):
        send(Journal(home.root / "x.jsonl", [{"entry": "begin"}]), "sqlite:///x", home, whole=True)


def test_an_outage_is_told_once_and_its_end_too(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    try:
        for _ in range(3):
            OUTAGE.began("http://me:secret@host", home, "it takes no connection")
        OUTAGE.ended("http://me:secret@host")
        OUTAGE.ended("http://me:secret@host")
    finally:
        OUTAGE.since = None
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert re.match(r"MLflow at http://host has been away since \d\d:\d\d:\d\d \(it takes no connection\)", told[0])
    assert "is back" in told[1]


@pytest.mark.slow
def test_a_build_without_mlflow_ends_well_and_everything_is_sent_when_it_is_back(
    built: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built.values["training"]["learning_rate"] = 2e-3
    built.values["promotion"] = {"margin": 1.0}
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{LOOPBACK}:{port}")
    done = lwf(built, "build")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("has been away since") == 1
    away = f"MLflow at http://{LOOPBACK}:{port} is away, so"
    waits = f"{away} no model was promoted. `lwf promote` does it when it is back"
    assert {f"{cell}: {waits}" for cell in ("teeth|sums", "minds|sums")} <= set(done.stderr.splitlines())
    assert lwf(built, "promote", "teeth|sums").stderr == f"Error: {waits}\n"
    left = waiting_journals(built.home.root)
    assert f"{len(left)} runs are not recorded in MLflow at http://{LOOPBACK}:{port} yet" in done.stderr
    listed = json_of(lwf(built, "track", "--json"))["waiting"]
    assert "lwf_checkpoint[teeth|sums]" in {entry["cell"] for entry in listed}
    refused = lwf(built, "track", "--resend", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["waiting"][0]["why"] == "it takes no connection"
    with mlflow_server(tmp_path / "server", port) as address:
        sent = lwf(built, "track", "--resend")
        assert sent.returncode == 0, sent.stderr
        assert f"{len(left)} sent, 0 waiting" in sent.stderr
        runs = runs_in(address, built.study.name)
        assert len(runs) == len(left) == len(listed)
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        (trained,) = [run for name, run in runs.items() if name.startswith("lwf_checkpoint[teeth|sums]")]
        checkpoint = built.artifact("lwf_checkpoint")
        assert trained.data.tags["lwf.data_version"] == checkpoint.name
        ledger = [row for row in read_ledger(checkpoint, built.study.seeds) if row["pushed"]]
        assert {step for step, _ in curve(address, trained, "unlearning/nll_before")} >= {row["step"] for row in ledger}
        client = open_client(address)
        assert client.search_model_versions("name LIKE '%forgetting.teeth'")
        assert lwf(built, "build").returncode == 0  # nothing to do, and nothing to send
        promoted = lwf(built, "promote", "teeth|sums")
        assert promoted.returncode == 0, promoted.stderr
        assert client.get_model_version_by_alias("tiny.sums.forgetting.teeth", "champion").version == "1"
    assert waiting_journals(built.home.root) == []
