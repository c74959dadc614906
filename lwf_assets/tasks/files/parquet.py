"""Rows of Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.tasks.files.streams import COMPRESSIONS, opened

if TYPE_CHECKING:
    from pathlib import Path


def read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows in order, batch by batch."""
    import pyarrow
    import pyarrow.parquet

    source: Any = str(path)
    if path.suffix.lower() in COMPRESSIONS:
        with opened(path) as packed:  # whole: the end of the file is read first
            source = pyarrow.BufferReader(packed.read())
    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise LwfError(f"{path}: not Parquet: {error}") from error
