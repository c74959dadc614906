"""What a machine knows of the shared place: the tag of each object that it has read, written or hashed.

A file of lines beside its store: the address of the place, then `{name: tag}`, of which the last one counts; a tag of
null says that the object is gone. A change appends a line, so it costs the same however much is known.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lwf_assets.disk.writing import write_atomically

RECORDS_INDEX, FILES_INDEX = "shared.jsonl", "shared-files.jsonl"
"""Names of the two: of the records, and of the files whose bytes this machine knows to be right."""
_SLACK = 1000
"""Lines that the file may have beyond what it says, before it is written anew."""

Changes = dict[str, str | None]


class Index:
    """Tags by name; another process of this machine may change it meanwhile."""

    def __init__(self, root: Path, url: str, name: str = RECORDS_INDEX) -> None:
        self._path, self._url = root / name, url
        self._reading = threading.Lock()
        self._tags: dict[str, str] = {}
        self._file, self._end, self._lines = -1, 0, 0

    def tags(self) -> dict[str, str]:
        """What is known. Empty where the file is lost, damaged, or of another place: then everything is read again."""
        with self._reading:
            try:
                status = self._path.stat()
                if (status.st_ino, status.st_size) != (self._file, self._end):
                    self._read(status)
            except (OSError, ValueError, AttributeError):
                self._forget()
            return self._tags

    def _read(self, status: os.stat_result) -> None:
        if status.st_ino != self._file or status.st_size < self._end:
            self._forget()
        with self._path.open("rb") as file:
            file.seek(self._end)
            content = file.read()
        *lines, rest = content.split(b"\n")
        if self._end == 0 and (not lines or json.loads(lines.pop(0)) != self._url):
            raise ValueError("of another place")
        for line in lines:
            for name, tag in json.loads(line).items():
                if tag is None:
                    self._tags.pop(name, None)
                else:
                    self._tags[name] = tag
        self._lines += len(lines)
        self._file, self._end = status.st_ino, self._end + len(content) - len(rest)

    def _forget(self) -> None:
        self._tags, self._file, self._end, self._lines = {}, -1, 0, 0

    @contextmanager
    def changed(self) -> Iterator[Changes]:
        """The tags to be changed, to be filled within the block, which one process is in at a time."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            changes: Changes = {}
            yield changes
            known = self.tags()
            changes = {name: tag for name, tag in changes.items() if known.get(name) != tag}
            if self._end == 0 or self._is_torn() or self._lines > 2 * len(known) + _SLACK:
                self._write_anew({**known, **changes})
            elif changes:
                with self._path.open("ab") as file:
                    file.write(json.dumps(changes).encode() + b"\n")

    def _is_torn(self) -> bool:
        """Whether the process that wrote the last line died over it."""
        return self._path.stat().st_size != self._end

    def _write_anew(self, tags: Changes) -> None:
        kept = {name: tag for name, tag in tags.items() if tag is not None}
        write_atomically(self._path, f"{json.dumps(self._url)}\n{json.dumps(kept)}\n")
