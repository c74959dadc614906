"""No password and no token of the environment is written anywhere: a build with canaries in every variable."""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

import logging
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import requests
from command_line import lwf
from mlflow.exceptions import MlflowException
from servers_at_work import LOOPBACK, free_port, mlflow_server
from world import World, new_world

from dagster_project.automation.webhook import failure_sensors
from dagster_project.runs.failures import told_to_dagster
from dagster_project.runs.secrets import keep_secrets_out_of_logs, redact_error, redacted, secrets
from dagster_project.tracking.address import shown, tracking_uri, web_address
from lwf_assets.errors import LwfError
from lwf_assets.store.home import Home

CANARY = "c4n4ry"


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LWF_WEBHOOK": f"http://{LOOPBACK}:{free_port()}/services/{CANARY}-hook?key={CANARY}-key",
        "DAGSTER_POSTGRES_URL": f"postgresql://dagster:{CANARY}-p%40stgres@{LOOPBACK}:{free_port()}/dagster",
        "HF_TOKEN": f"hf_{CANARY}",
        "HUGGING_FACE_HUB_TOKEN": f"hf_{CANARY}_old",
        "AWS_SECRET_ACCESS_KEY": f"{CANARY}/aws",
        "AWS_SESSION_TOKEN": f"{CANARY}-session",
        "PGPASSWORD": f"{CANARY}-pg",
        "OPENAI_API_KEY": f"sk-{CANARY}",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("canaries")
def test_whatever_is_secret_is_taken_out_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{CANARY}-mlflow@tracking.example:5000/path")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA1")
    known = [secret for secret in secrets() if CANARY in secret]
    assert len(known) >= 11
    for secret in known:
        assert redacted(f"failed with {secret}, really") == "failed with ***, really"
    text = f"GET http://me:{CANARY}-mlflow@tracking.example:5000/path?x=1 and s3://a:b@c/d, false, AKIA1"
    assert redacted(text) == "GET http://tracking.example:5000/path?x=1 and s3://c/d, false, AKIA1"
    assert redacted("mail me@example.org about https://x.y/@z") == "mail me@example.org about https://x.y/@z"
    assert redacted("postgresql+psycopg2://dagster:p@stgres@host/db") == "postgresql+psycopg2://host/db"


@pytest.mark.usefixtures("canaries")
def test_the_address_of_the_server_keeps_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mlflow.utils.credentials import get_default_host_creds

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://me:{CANARY}%2Fmlflow@tracking.example/base")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "else")
    for _ in range(2):
        assert tracking_uri(Home(tmp_path)) == "https://tracking.example/base"
    credentials = get_default_host_creds("https://tracking.example/base")
    assert (credentials.username, credentials.password) == ("me", f"{CANARY}/mlflow")
    assert web_address(tracking_uri(Home(tmp_path))) == "https://tracking.example/base"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://{CANARY}@tracking.example")
    with pytest.raises(LwfError, match="a user without a password") as raised:
        tracking_uri(Home(tmp_path))
    assert CANARY not in str(raised.value)
    assert shown(f"postgresql://me:{CANARY}@host/db") == "postgresql://host/db"


@pytest.mark.usefixtures("canaries")
def test_an_error_loses_its_secrets_and_keeps_its_kind() -> None:
    error = MlflowException(f"API request to http://me:{CANARY}-b@host failed")
    error.__cause__ = requests.ConnectionError(f"cannot reach http://me:{CANARY}-a@host")
    redact_error(error)
    assert isinstance(error.__cause__, requests.ConnectionError)
    assert CANARY not in f"{error} {error.message} {error.__cause__} {error!r} {error.serialize_as_json()}"
    assert "http://host failed" in str(error)
    group = ExceptionGroup(f"{CANARY}/aws", [ValueError(f"{CANARY}/aws")])
    redact_error(group)
    assert CANARY not in str(group.exceptions[0])


@pytest.mark.usefixtures("canaries")
def test_no_log_record_has_a_secret() -> None:
    code = (
        "import logging; from dagster_project.runs.secrets import keep_secrets_out_of_logs as keep; keep(); keep()\n"
        "logging.basicConfig(); log = logging.getLogger('somebody.else')\n"
        "log.error('went to %s with %s', 'http://u:c4n4ry@h', 'hf_c4n4ry')\n"
        "log.error('100 %', ); log.error({'a': 'hf_c4n4ry'})\n"
        "try: raise ValueError('hf_c4n4ry')\n"
        "except ValueError: log.exception('failed')\n"
        "raise RuntimeError('sk-c4n4ry at the end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert CANARY not in done.stdout + done.stderr
    assert "went to http://h with ***" in done.stderr
    assert "RuntimeError: *** at the end" in done.stderr


@pytest.mark.usefixtures("canaries")
def test_a_step_and_a_webhook_that_fail_tell_dagster_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @dg.op
    def fails(context: dg.OpExecutionContext) -> None:
        with told_to_dagster(context):
            raise ValueError(f"no access with {CANARY}/aws") from OSError(f"hf_{CANARY}")

    @dg.job
    def job() -> None:
        fails()

    monkeypatch.delenv("DAGSTER_POSTGRES_URL")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        events = [str(record) for record in instance.all_logs(result.run_id)]
        assert any("no access with ***" in event for event in events)
        assert CANARY not in "".join(events)
        (sensor,) = failure_sensors(new_world(tmp_path).study)
        context = dg.build_run_status_sensor_context(
            "tell_of_failures",
            dagster_event=next(
                r
                for r in instance.all_logs(result.run_id)
                if r.is_dagster_event and r.get_dagster_event().event_type_value == "PIPELINE_FAILURE"
            ).get_dagster_event(),
            dagster_instance=instance,
            dagster_run=instance.get_runs()[0],
        ).for_run_failure()
        with pytest.raises(Exception, match=r"Max retries|refused") as raised:
            sensor(context)
    parts = [raised.value, raised.value.__cause__, raised.value.__context__]
    assert CANARY not in " ".join(map(str, parts))


def _everything_written_in(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.usefixtures("canaries")
@pytest.mark.parametrize("there", [True, False])
def test_a_build_writes_no_secret_anywhere(
    built: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool
) -> None:
    monkeypatch.delenv("DAGSTER_POSTGRES_URL")
    built.values["confidence"] = {**built.values.get("confidence", {}), "alpha": 0.25}
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://canary:{CANARY}-tracking@{LOOPBACK}:{port}")
    if there:
        with mlflow_server(tmp_path / "server", port):
            done = lwf(built, "build", "--json")
            rolled_back = lwf(built, "promote", "teeth|sums", "--rollback")
        assert done.returncode == 0, done.stderr
    else:
        done = lwf(built, "build", "--json")
        rolled_back = lwf(built, "audit", "models:/x/1")
    assert CANARY not in done.stdout + done.stderr + rolled_back.stdout + rolled_back.stderr
    assert _everything_written_in(built.home.root) == []
    assert _everything_written_in(tmp_path) == []


def test_the_filter_is_on_in_the_code_location() -> None:
    keep_secrets_out_of_logs()
    assert getattr(logging.getLogRecordFactory(), "redacts", False)
