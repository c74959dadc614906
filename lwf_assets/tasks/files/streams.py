"""The bytes of a file, unpacked where its name ends in .gz or .zst, and its lines as text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from pathlib import Path

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""By ending, in Arrow's names."""
LONGEST_LINE = 16_000_000
"""Bytes; a context of a million tokens is about a quarter of it."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file for reading, unpacked. Raises LwfError for a file that is damaged or not packed as its name says."""
    import pyarrow

    compression = COMPRESSIONS.get(path.suffix.lower())
    if compression is None:
        try:
            file = path.open("rb")
        except OSError as error:
            raise LwfError(f"{path}: cannot be read: {error.strerror}") from error
        with file:
            yield file
        return
    try:
        with pyarrow.input_stream(str(path), compression=compression) as stream:
            yield cast("BinaryIO", io.BufferedReader(stream))
    except (OSError, pyarrow.ArrowException) as error:
        raise LwfError(f"{path}: cannot be unpacked as {compression}: {error}") from error


def text_lines(path: Path, *, longest: int | None = None) -> Iterator[str]:
    """The lines with their ends.

    Raises:
        LwfError: names the line that has more than `longest` bytes, or the line and the byte where the text is not
            UTF-8.
    """
    offset = 0
    limit = -1 if longest is None else longest + 1
    with opened(path) as file:
        for number, raw in enumerate(iter(lambda: file.readline(limit), b""), start=1):
            if longest is not None and len(raw) > longest:
                raise LwfError(
                    f"{path}, line {number}: has more than {longest:,} bytes, which no model reads as one row; are "
                    "there line breaks between the rows?"
                )
            try:
                # Spreadsheets put a byte order mark before the first line.
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise LwfError(
                    f"{path}, line {number}: byte {offset + error.start} of the file "
                    f"(0x{error.object[error.start]:02x}) is not UTF-8; save the file as UTF-8"
                ) from error
            offset += len(raw)
