"""Rows of local JSONL, CSV and Parquet files."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.tasks.rows import SourceRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_Located = tuple[str, dict[str, Any]]


def read_file(path: Path, *, origin: str) -> Iterator[SourceRow]:
    """Rows of one file, in order; the suffix says how to read it.

    `origin` is the role of the file ("train", "prompts", ...) and begins the id of a row that brings none: "train-0".
    Raises LwfError that names the file, and the line or row, for anything that is not a table of rows.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        known = ", ".join(_READERS)
        raise LwfError(f"{path}: files with the suffix {path.suffix!r} cannot be read; give one of {known}")
    if not path.is_file():
        raise LwfError(f"{path}: the file does not exist")
    index = -1
    for index, (place, columns) in enumerate(read(path)):
        yield SourceRow(place=place, id=row_id(columns, f"{origin}-{index}", place=place), columns=columns)
    if index < 0:
        raise LwfError(f"{path}: the file has no rows")


def row_id(columns: dict[str, Any], default: str, *, place: str) -> str:
    """What the column `id` says, or `default` where there is no such column."""
    if "id" not in columns:
        return default
    text = "" if columns["id"] is None else str(columns["id"]).strip()
    if not text:
        raise LwfError(f"{place}: column 'id' is empty; give every row its own id, or leave the column out")
    return text


def _read_jsonl(path: Path) -> Iterator[_Located]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise LwfError(f"{place}: not JSON: {error.msg} at character {error.colno}") from error
        if not isinstance(row, dict):
            raise LwfError(f'{place}: each line must be one object such as {{"prompt": "...", "answer": "..."}}')
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise LwfError(f"{place}: {half} is half of a surrogate pair, which is not valid text") from error
        yield place, row


def _read_csv(path: Path) -> Iterator[_Located]:
    reader = csv.reader(_lines(path), strict=True)
    header: list[str] | None = None
    while True:
        place = f"{path}, line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise LwfError(f"{place}: not CSV: {error}") from error
        if not cells:
            continue
        if header is None:
            header = cells
            doubled = sorted({name for name in header if header.count(name) > 1})
            if doubled:
                raise LwfError(
                    f"{place}: column {doubled[0]!r} appears twice; the names in the first line must be unique"
                )
        elif len(cells) != len(header):
            raise LwfError(
                f"{place}: {len(cells)} cells where the first line names {len(header)} columns; a text with a comma "
                'or a line break must be in "quotes"'
            )
        else:
            yield place, dict(zip(header, cells, strict=True))


def _read_parquet(path: Path) -> Iterator[_Located]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise LwfError(f"{path}: not Parquet: {error}") from error


def _lines(path: Path) -> Iterator[str]:
    offset = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                # Spreadsheets put a byte order mark before the first line.
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise LwfError(
                    f"{path}, line {number}: byte {offset + error.start} of the file "
                    f"(0x{error.object[error.start]:02x}) is not UTF-8; save the file as UTF-8"
                ) from error
            offset += len(raw)


_READERS: dict[str, Callable[[Path], Iterator[_Located]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
