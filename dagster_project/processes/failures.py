"""Why the processes that shared a step did not finish it: one error."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from dagster_project.processes.torchrun import EXIT, OUTPUT
from lwf_assets.errors import LwfError

LAST_LINES = 5
"""Of a process's output that are shown."""


class ProcessFailedError(Exception):
    """A process met what nobody foresaw."""


class OutOfMemoryError(ProcessFailedError):
    """A process's device had no more memory; named as torch's own, which may pass."""


def failure_of(folder: Path, processes: int, what: str) -> Exception:
    """The error that ended the processes whose order was in `folder`; not one that came of another's end."""
    errors, exits = sorted(_read(folder), key=lambda error: float(error["time"])), _exits(folder)
    for error in errors:
        if error["kind"] == "input":
            return LwfError(error["message"])
    for rank, code in exits.items():
        if code < 0 and code != -signal.SIGTERM:
            return LwfError(
                f"{what}: process {rank} of the {processes} that share it was killed by {signal.Signals(-code).name}"
                f"{_last_lines(folder, rank)}\nThe next build goes on from the last checkpoint. If this machine ran "
                "out of memory, take fewer compute.processes"
            )
    for error in errors:
        if error["kind"] == "system" and error["errno"] is not None:
            return OSError(error["errno"], error["strerror"], error["filename"])
    if errors:
        first = errors[0]
        kind = OutOfMemoryError if first["type"] == "OutOfMemoryError" else ProcessFailedError
        return kind(
            f"{what}: process {first['rank']} of the {processes} that share it failed: {first['type']}: "
            f"{first['message']}{_last_lines(folder, first['rank'])}"
        )
    if not exits:
        return LwfError(f"{what}: torchrun, which runs the {processes} processes that share it, was killed")
    rank, code = next(iter(exits.items()))
    return ProcessFailedError(
        f"{what}: process {rank} of the {processes} that share it ended with code {code}{_last_lines(folder, rank)}"
    )


def _read(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(path.read_text(encoding="utf-8")) | {"rank": int(path.stem.rpartition("-")[2])}
        for path in folder.glob("error-*.json")
    ]


def _exits(folder: Path) -> dict[int, int]:
    path = folder / EXIT
    return {int(rank): code for rank, code in json.loads(path.read_text()).items()} if path.is_file() else {}


def _last_lines(folder: Path, rank: int) -> str:
    """The end of what a process printed, as the end of a sentence."""
    for name in ("stderr.log", "stdout.log"):
        for path in (folder / OUTPUT).glob(f"*/attempt_0/{rank}/{name}"):
            lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
            if lines:
                return ". It said last:\n" + "\n".join(f"    {line}" for line in lines[-LAST_LINES:])
    return ""
