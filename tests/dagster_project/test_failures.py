"""Which failed steps are tried again: those whose cause may pass, and no others."""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

import errno
import socket
import sqlite3

import dagster as dg
import psycopg2
import pytest
import requests
import sqlalchemy.exc
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE

from dagster_project.runs.failures import FAILURE_TAG, RETRIES, Kind, kind_of, told_to_dagster
from lwf_assets.errors import LwfError
from lwf_assets.object_storage.problems import AwayError, ObjectStorageError


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def answered(status: int) -> requests.HTTPError:
    """What a server said, as requests raises it."""
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(str(status), response=response)


class OutOfMemoryError(RuntimeError):
    """Called as torch's."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LwfError("prompts.jsonl, line 3: no prompt"), Kind.BAD_INPUT),
        (caused(LwfError("x.jsonl: not JSON"), ValueError("bad")), Kind.BAD_INPUT),
        (caused(LwfError("hub: cannot be read"), ConnectionError("refused")), Kind.PASSING),
        (AwayError("LWF_REMOTE=s3://b: does not answer"), Kind.PASSING),
        (ObjectStorageError("LWF_REMOTE=s3://b: there is no such bucket"), Kind.BAD_INPUT),
        (ConnectionResetError("reset"), Kind.PASSING),
        (caused(RuntimeError("API request failed"), ConnectionError("refused")), Kind.PASSING),
        (TimeoutError(), Kind.PASSING),
        (OSError(errno.ENOSPC, "no space left"), Kind.PASSING),
        (OSError(errno.ENOENT, "no such file"), Kind.UNEXPECTED),
        (sqlite3.OperationalError("database is locked"), Kind.PASSING),
        (sqlite3.OperationalError("no such table"), Kind.UNEXPECTED),
        (OutOfMemoryError("CUDA out of memory"), Kind.PASSING),
        (psycopg2.OperationalError("server closed the connection unexpectedly"), Kind.PASSING),
        (caused(sqlalchemy.exc.DBAPIError("SELECT 1", None, ValueError()), psycopg2.InterfaceError()), Kind.PASSING),
        (psycopg2.ProgrammingError("no such table"), Kind.UNEXPECTED),
        (requests.exceptions.ConnectionError("name or service not known"), Kind.PASSING),
        (socket.gaierror(socket.EAI_AGAIN, "temporary failure in name resolution"), Kind.PASSING),
        (answered(503), Kind.PASSING),
        (answered(404), Kind.UNEXPECTED),
        (MlflowException("unavailable", error_code=TEMPORARILY_UNAVAILABLE), Kind.PASSING),
        (MlflowException("no such run", error_code=RESOURCE_DOES_NOT_EXIST), Kind.UNEXPECTED),
        (ZeroDivisionError(), Kind.UNEXPECTED),
        (AssertionError(), Kind.UNEXPECTED),
    ],
)
def test_kinds(error: Exception, kind: Kind) -> None:
    assert kind_of(error) == kind


def run_failing(monkeypatch: pytest.MonkeyPatch, errors: list[Exception]) -> tuple[dg.ExecuteInProcessResult, int]:
    """A job whose op meets one error after another, and how often it was tried."""
    monkeypatch.setattr("dagster_project.runs.failures.FIRST_WAIT", 0)
    tries = 0

    @dg.op
    def work(context: dg.OpExecutionContext) -> None:
        nonlocal tries
        tries += 1
        with told_to_dagster(context):
            if errors:
                raise errors.pop(0)

    @dg.job
    def job() -> None:
        work()

    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        assert (FAILURE_TAG in run.tags) == (not result.success)
        if not result.success:
            assert run.tags[FAILURE_TAG] in list(Kind)
    return result, tries


def test_what_passes_is_tried_again_until_it_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    result, tries = run_failing(monkeypatch, [ConnectionError(), ConnectionError()])
    assert result.success
    assert tries == 3


def test_what_does_not_pass_fails_after_so_many_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    result, tries = run_failing(monkeypatch, [ConnectionError() for _ in range(9)])
    assert not result.success
    assert tries == 1 + RETRIES


@pytest.mark.parametrize("error", [LwfError("line 3: no prompt"), ZeroDivisionError("a mistake")])
def test_what_cannot_pass_is_tried_once(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    result, tries = run_failing(monkeypatch, [error])
    assert not result.success
    assert tries == 1
    failure = next(event for event in result.all_events if event.is_step_failure).step_failure_data
    described = failure.user_failure_data.description if failure.user_failure_data else failure.error.cause
    assert str(error) in str(described)
