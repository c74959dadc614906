"""Whether a living process holds a lock."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout


def is_held(path: Path) -> bool:
    """Whether some process has the lock at `path`. The operating system lets go of it when that process dies."""
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
