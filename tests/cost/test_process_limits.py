"""A build under `ulimit`: refused in one line where libraries would end it without a word."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_study_values, write_study

from lwf_assets.cost import process_limits
from lwf_assets.cost.free_memory import free_on_host


@pytest.mark.parametrize(
    ("limit", "value", "told"),
    [
        (resource.RLIMIT_NOFILE, 24, "`ulimit -n` allows 24 open files; a build needs at least 64"),
        (resource.RLIMIT_AS, 3 * 10**9, "`ulimit -v` allows 3.0 GB of memory; this build may map 4.5 GB"),
    ],
)
def test_a_limit_that_is_too_low_is_told_before_any_work(tmp_path: Path, limit: int, value: int, told: str) -> None:
    file = write_study(tmp_path, tiny_study_values(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project.cli", "build"],
        env={**os.environ, "LWF_HOME": str(tmp_path / "home"), "LWF_STUDY": str(file)},
        preexec_fn=lambda: resource.setrlimit(limit, (value, value)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith(f"Error: {told}")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home" / "dagster").exists()


def test_as_many_files_are_opened_as_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [16, 2048]

    def put(limit: int, values: tuple[int, int]) -> None:
        files[:] = values

    monkeypatch.setattr(resource, "getrlimit", lambda limit: tuple(files))
    monkeypatch.setattr(resource, "setrlimit", put)
    monkeypatch.setattr(process_limits, "MAPPED", 0)
    process_limits.refuse_tight_limits(None)
    assert files == [2048, 2048]


def test_free_memory_is_within_the_limit_of_the_process() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    used = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmData")
    )
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (used + 10**9, before[1]))
        free = free_on_host()
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    assert free is not None
    assert 0.5 * 10**9 < free <= 1.1 * 10**9
