"""Of several processes that failed, one error: that of the one at fault."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from dagster_project.processes.failures import OutOfMemoryError, ProcessFailedError, failure_of
from dagster_project.processes.one_of_several import Told
from dagster_project.runs.failures import Kind, kind_of
from lwf_assets.errors import LwfError


def _said(folder: Path, rank: int, time: float, kind: str = "other", **values: Any) -> None:
    said = {"kind": kind, "type": "RuntimeError", "message": "the connection was closed", "time": time}
    said |= {"errno": None, "strerror": None, "filename": None}
    (folder / f"error-{rank}.json").write_text(json.dumps(said | values))


def _exited(folder: Path, **codes: int) -> None:
    (folder / "exit.json").write_text(json.dumps({name[1:]: code for name, code in codes.items()}))


def _printed(folder: Path, rank: int, text: str) -> None:
    place = folder / "output" / "abc" / "attempt_0" / str(rank)
    place.mkdir(parents=True)
    (place / "stderr.log").write_text(text)


def test_bad_input_is_told_as_in_one_process(tmp_path: Path) -> None:
    _said(tmp_path, 0, 1.0)
    _said(tmp_path, 1, 2.0, "input", message="row 3: is empty")
    _exited(tmp_path, _0=3, _1=3)
    error = failure_of(tmp_path, 2, "lwf")
    assert isinstance(error, LwfError)
    assert str(error) == "row 3: is empty"


def test_a_killed_process_is_named_and_not_the_one_that_missed_it(tmp_path: Path) -> None:
    _said(tmp_path, 0, 1.0)
    _exited(tmp_path, _0=3, _1=-9)
    _printed(tmp_path, 1, "".join(f"line {number}\n" for number in range(9)))
    error = failure_of(tmp_path, 2, "lwf_checkpoint[a|b]")
    assert isinstance(error, LwfError)
    assert "lwf_checkpoint[a|b]: process 1 of the 2 that share it was killed by SIGKILL" in str(error)
    assert "line 4" in str(error)
    assert "line 3" not in str(error)


def test_a_full_disk_stays_one(tmp_path: Path) -> None:
    _said(tmp_path, 0, 1.0, "system", errno=errno.ENOSPC, strerror="No space left on device", filename="/a/b")
    error = failure_of(tmp_path, 2, "lwf")
    assert isinstance(error, OSError)
    assert (error.errno, error.filename) == (errno.ENOSPC, "/a/b")
    assert kind_of(error) == Kind.PASSING


def test_the_first_of_other_failures_is_told(tmp_path: Path) -> None:
    _said(tmp_path, 0, 2.0)
    _said(tmp_path, 1, 1.0, type="OutOfMemoryError", message="CUDA out of memory")
    error = failure_of(tmp_path, 2, "lwf")
    assert type(error) is OutOfMemoryError
    assert "process 1" in str(error)
    assert "CUDA out of memory" in str(error)
    assert kind_of(error) == Kind.PASSING


@pytest.mark.parametrize("codes", [{"_1": 7}, {}])
def test_a_process_that_says_nothing(codes: dict[str, int], tmp_path: Path) -> None:
    if codes:
        _exited(tmp_path, **codes)
    error = failure_of(tmp_path, 2, "lwf")
    assert isinstance(error, ProcessFailedError if codes else LwfError)
    assert ("process 1 of the 2 that share it ended with code 7" if codes else "torchrun") in str(error)


def test_many_advances_are_few_messages_and_none_is_lost() -> None:
    messages: list[dict[str, Any]] = []
    told = Told(messages.append)
    told.begin("Fisher", 500)
    for _ in range(500):
        told.advance()
    told.metrics(3, {"loss": 1.0})
    told.flush()
    assert messages[0] == {"begin": ["Fisher", 500]}
    assert {"metrics": [3, {"loss": 1.0}]} in messages
    assert sum(message.get("advance", 0) for message in messages) == 500
    assert len(messages) < 50
