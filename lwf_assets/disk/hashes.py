"""sha256 of values and of files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def canonical_hash(value: Any) -> str:
    """sha256, in hex, of `value` as canonical JSON: equal values give equal hashes, whatever the order of their
    keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def stamp_of(path: Path) -> tuple[int, int, int, int]:
    """What a file's sha256 is remembered by: size, inode, and the times of the last change of its bytes and of anything
    else about it. A tool may set the first of the times back, as one that restores files does, but not the second."""
    status = path.stat()
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def hash_file(path: Path) -> str:
    """sha256, in hex, of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
