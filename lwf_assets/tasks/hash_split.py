"""Which split a row belongs to, and which rows are kept: decided by hashes, so that no row moves when others are
added."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lwf_assets.tasks.rows import SourceRow, Split


def split_of(text: str) -> Split:
    """The split that a prompt belongs to for good: 80 % train, 10 % validation, 10 % test, by sha256 of `text`."""
    tenth = _hash(text) % 10
    return "train" if tenth < 8 else "validation" if tenth == 8 else "test"


def keep_first(rows: Sequence[SourceRow], count: int | None, *, seed: int) -> list[SourceRow]:
    """The first `count` rows of a seeded shuffle; all rows, in their own order, when `count` is None.

    The shuffle sorts by a hash of seed and id: fewer rows are always a part of more rows, and a row that is added to
    the source takes at most one place.
    """
    if count is None:
        return list(rows)
    return sorted(rows, key=lambda row: _hash(f"{seed}/{row.id}"))[:count]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
