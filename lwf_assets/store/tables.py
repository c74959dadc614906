"""Rows to Parquet and back. Equal rows give equal bytes, so that equal tables have equal versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_rows(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    """Write `rows` in their order; a `schema` is needed where there may be none to read the types from."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a Parquet file, in order."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
