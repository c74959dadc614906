"""What a machine knows of the shared place: the tag of each record that it has, in one file beside its store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lwf_assets.disk.hashes import stamp_of
from lwf_assets.disk.writing import write_atomically

NAME = "shared.json"


class Index:
    """Tags by name; another process of this machine may change it meanwhile."""

    def __init__(self, root: Path, url: str) -> None:
        self._path, self._url = root / NAME, url
        self._read: tuple[tuple[int, int, int, int], dict[str, str]] | None = None

    def tags(self) -> dict[str, str]:
        """What is known. Empty where the file is lost, or is of another place: then everything is read again."""
        try:
            stamp = stamp_of(self._path)
            if self._read is None or self._read[0] != stamp:
                values = json.loads(self._path.read_text(encoding="utf-8"))
                self._read = stamp, dict(values["tags"]) if values["url"] == self._url else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return self._read[1]

    @contextmanager
    def changed(self) -> Iterator[dict[str, str]]:
        """The tags, to be changed within the block, which one process is in at a time."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            before = self.tags()
            tags = dict(before)
            yield tags
            if tags != before or not self._path.exists():
                write_atomically(self._path, json.dumps({"url": self._url, "tags": tags}))
