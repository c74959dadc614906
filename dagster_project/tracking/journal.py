"""What is to be recorded of a run in MLflow, on disk: written down first, and sent when MLflow takes it.

    <home>/tracking/<id>.jsonl    a line per entry: begin, points, made, end
    <home>/tracking/<id>.sent     how far it was sent, and to which MLflow run
    <home>/tracking/<id>.lock     held by the process that writes or sends it

A journal is removed when all of it was sent. One whose process died is sent by the next.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

FOLDER = "tracking"
BEGIN, POINTS, MADE, END = "begin", "points", "made", "end"


@dataclass
class Sent:
    """How far a journal was sent: entries, and the MLflow run, its parent and experiment."""

    entries: int = 0
    run: str | None = None
    parent: str | None = None
    experiment: str | None = None


class Journal:
    """The entries of one run. An entry that cannot be written to the disk, as when it is full, stays in memory."""

    def __init__(self, path: Path, entries: list[dict[str, Any]] | None = None) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = entries or []
        self.sent = self._read_sent()
        self._written = len(self.entries)
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """A tag of the MLflow run, by which it is found again."""
        return self.path.stem

    @property
    def is_sent(self) -> bool:
        """Whether it has come to its end, and MLflow has all of it."""
        return bool(self.entries) and self.entries[-1]["entry"] == END and self.sent.entries == len(self.entries)

    def add(self, entry: str, **values: Any) -> None:
        """Write an entry down, with the time."""
        with self._lock:
            self.entries.append({"entry": entry, "time": int(time.time() * 1000), **values})
            with suppress(OSError):
                lines = "".join(json.dumps(one) + "\n" for one in self.entries[self._written :])
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(lines)
                self._written = len(self.entries)

    def mark(self, **changes: Any) -> None:
        """Remember how far it was sent."""
        for name, value in changes.items():
            setattr(self.sent, name, value)
        with suppress(OSError):
            unfinished = self.path.with_suffix(".sent-new")
            unfinished.write_text(json.dumps(asdict(self.sent)), encoding="utf-8")
            os.replace(unfinished, self.path.with_suffix(".sent"))

    def remove(self) -> None:
        """Nothing is left to send."""
        for path in (self.path, self.path.with_suffix(".sent"), self.path.with_suffix(".sent-new")):
            path.unlink(missing_ok=True)

    def _read_sent(self) -> Sent:
        try:
            return Sent(**json.loads(self.path.with_suffix(".sent").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Sent()


@contextmanager
def new_journal(home: Path, begin: Mapping[str, Any]) -> Iterator[Journal]:
    """A journal that begins with these values, for the process that writes it."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}.jsonl"
    with _lock(path):
        journal = Journal(path)
        journal.add(BEGIN, **begin)
        try:
            yield journal
        finally:
            if journal.is_sent:
                journal.remove()
                path.with_suffix(".lock").unlink(missing_ok=True)


def waiting_journals(home: Path) -> list[Path]:
    """The journals that are not sent yet, oldest first."""
    return sorted((home / FOLDER).glob("*.jsonl"), key=lambda path: (path.stat().st_mtime_ns, path))


@contextmanager
def left_journal(path: Path) -> Iterator[Journal | None]:
    """A journal that a process left behind, to be sent; None where one is at it. What was cut short at its end is left
    out, and where the process died, the run is said to be killed."""
    try:
        with _lock(path):
            journal = read_journal(path)
            if journal.entries and journal.entries[-1]["entry"] != END:
                # In memory alone: the last line may be cut short, and nothing may be written behind half a line.
                end = {"entry": END, "time": int(time.time() * 1000), "status": "KILLED", "error": "its process died"}
                journal.entries.append(end)
            yield journal if journal.entries else None
            if journal.is_sent or not journal.entries:
                journal.remove()
                path.with_suffix(".lock").unlink(missing_ok=True)
    except Timeout:
        yield None


def read_journal(path: Path) -> Journal:
    """The journal in a file, up to the first line that is none."""
    entries = []
    with suppress(OSError, UnicodeDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not isinstance(entry, dict) or "entry" not in entry:
                break
            entries.append(entry)
    return Journal(path, entries)


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"), timeout=0, thread_local=False)
