"""What a failed step means: whether trying again can help, and how Dagster learns of it."""

from __future__ import annotations

import errno
import logging
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import dagster as dg

from dagster_project.runs.secrets import redact_error
from lwf_assets.disk.room import is_of_a_full_disk
from lwf_assets.errors import LwfError
from lwf_assets.object_storage.problems import AwayError

FAILURE_TAG = "lwf/failure"
"""Run tag of a failed run: one of `Kind`."""

RETRIES = 3
FIRST_WAIT = 15
"""Seconds before the first retry; each next one waits four times as long."""

_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EIO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_PASSING_STATUS = {429, 502, 503, 504}
"""What servers answer that are busy or starting."""


_log = logging.getLogger("lwf.build")


class Kind(StrEnum):
    """Why a step failed."""

    BAD_INPUT = "bad_input"
    """The user can fix it, and trying again cannot."""
    PASSING = "passing"
    """The network, a busy database, a full disk or device: tried again, and failed as often as it may."""
    UNEXPECTED = "unexpected"
    """A bug, or something unforeseen: trying again would fail in the same way."""


def kind_of(error: BaseException) -> Kind:
    """Of an error, or of what it was raised from."""
    if isinstance(error, AwayError):
        return Kind.PASSING
    if isinstance(error, LwfError) and not _is_passing(error.__cause__):
        return Kind.BAD_INPUT
    return Kind.PASSING if _is_passing(error) else Kind.UNEXPECTED


def _is_passing(error: BaseException | None) -> bool:
    if error is None:
        return False
    # torch's, httpx's, requests' and psycopg2's, which are not imported for this.
    names = ("OutOfMemoryError", "ConnectTimeout", "ReadTimeout", "ConnectError", "RemoteProtocolError")
    databases = ("OperationalError", "InterfaceError")
    own = (
        isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
        or _http_status(error) in _PASSING_STATUS
        or (type(error).__module__.startswith("requests") and type(error).__name__ == "ConnectionError")
        or (type(error).__module__.startswith("psycopg2") and type(error).__name__ in databases)
        or (isinstance(error, OSError) and error.errno in _PASSING)
        or (isinstance(error, sqlite3.OperationalError) and "locked" in str(error))
        or is_of_a_full_disk(error)
        or type(error).__name__ in names
    )
    return own or _is_passing(error.__cause__ or error.__context__)


def _http_status(error: BaseException) -> int | None:
    """What a server answered, of an error of requests, httpx or MLflow."""
    ask_mlflow = getattr(error, "get_http_status_code", None)
    status = ask_mlflow() if callable(ask_mlflow) else getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


@contextmanager
def told_to_dagster(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Iterator[None]:
    """Turns errors into what Dagster understands: what the user can fix into a failure that shows the message alone
    and is never retried, what passes into a retry after a longer wait each time. A failed run is tagged with why."""
    try:
        yield
    except Exception as error:
        redact_error(error)
        kind = kind_of(error)
        if kind == Kind.PASSING and context.retry_number < RETRIES:
            wait = FIRST_WAIT * 4**context.retry_number
            may_pass = f"{error} (this may pass: trying again in {wait} s)"
            context.log.warning(may_pass)
            _log.warning("%s", may_pass)  # for those who build by hand, who do not see Dagster's
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=wait) from error
        context.instance.add_run_tags(context.run_id, {FAILURE_TAG: kind.value})
        if isinstance(error, LwfError):
            raise dg.Failure(description=str(error), allow_retries=False) from error
        raise
