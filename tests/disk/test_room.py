"""What the operating system refuses, told in one line; and what is something else."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
from collections import namedtuple
from pathlib import Path

import pytest
from safetensors import SafetensorError

from lwf_assets.disk.room import refusal


def oserror(number: int, path: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([str(path)] if path else []))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (oserror(errno.ENOSPC), "the disk is full. It has "),
        (oserror(errno.EDQUOT), "the disk is full. It has "),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full. It has "),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full. It has "),
        (caused(RuntimeError("the run failed"), oserror(errno.ENOSPC)), "the disk is full. It has "),
        (oserror(errno.EROFS), "cannot be written. Mount it for writing"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "cannot be written. Mount it for writing"),
        (oserror(errno.EMFILE), "`ulimit -n` allows "),
        (oserror(errno.EFBIG), "`ulimit -f` allows"),
        (MemoryError(), "there is no more memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried .."), "there is no more memory"),
        (oserror(errno.ENOENT), None),
        (oserror(errno.EACCES, Path("/data/rows.jsonl")), None),
        (sqlite3.OperationalError("no such table"), None),
        (sqlite3.OperationalError("disk I/O error"), None),
        (ZeroDivisionError(), None),
    ],
)
def test_what_is_told(error: Exception, told: str | None, tmp_path: Path) -> None:
    said = refusal(error, tmp_path / "home")
    assert (said is None) == (told is None)
    if told is not None:
        assert told in said
        assert "\n" not in said


def test_the_path_of_the_error_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert refusal(oserror(errno.EACCES, home / "store" / "x"), home).startswith(f"{home}/store/x: cannot be written")
    assert refusal(oserror(errno.ENOSPC, home / "y"), home).startswith(f"{home}/y: the disk is full")


def test_what_a_database_says_vaguely_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vague = sqlite3.OperationalError("disk I/O error")
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(2 * 10**9, 2 * 10**9 - 4096, 4096))
        assert refusal(vague, tmp_path) == f"{tmp_path}: the disk is full. It has 2.0 GB, and 4 kB are free now"
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        assert "cannot be written" in str(refusal(vague, tmp_path))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        while len(opened) < 64:
            try:
                opened.append(os.dup(0))
            except OSError:
                break
        said = refusal(sqlite3.OperationalError("unable to open database file"), tmp_path)
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert said == "`ulimit -n` allows 64 open files, which is too few; 1024 are enough"
