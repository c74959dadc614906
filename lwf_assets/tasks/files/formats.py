"""The formats that can be read, by the ending of a file's name, and what a file that is none of them looks like."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.tasks.files.delimited import read_delimited
from lwf_assets.tasks.files.json_rows import read_json, read_json_lines
from lwf_assets.tasks.files.parquet import read_parquet
from lwf_assets.tasks.files.plain_text import read_text
from lwf_assets.tasks.files.streams import COMPRESSIONS, opened

if TYPE_CHECKING:
    from pathlib import Path

Reader = Callable[["Path"], Iterator[tuple[str, dict[str, Any]]]]
"""Gives the place of each row, as the beginning of an error message, and its columns."""

FORMATS: dict[str, Reader] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".parquet": read_parquet,
    ".txt": read_text,
}

_JSON = (read_json, read_json_lines)
_HEAD = 4096
_MAGIC = {
    b"PAR1": ("Parquet", ".parquet"),
    b"\x1f\x8b": ("compressed with gzip", ".gz"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", ".zst"),
}


def ending(path: Path) -> str:
    """What the name says of the format: `.jsonl` of `a.jsonl` and of `a.jsonl.gz`."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return inner.suffix.lower()


def read_as_named(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of one file, read as its ending says.

    Raises LwfError that names the file, and the line or row, for anything that is not a table of rows; where the
    content is that of another format, it says what to name the file.
    """
    reader = FORMATS.get(ending(path))
    if reader is None:
        known = ", ".join(FORMATS)
        raise LwfError(
            f"{path}: files with the ending {path.suffix!r} cannot be read; give one of {known}, each also as "
            f"{' or '.join(COMPRESSIONS)}{_hint(path)}"
        )
    if reader in (read_delimited, read_text) and FORMATS.get((looks_like(path) or ("", ""))[1]) in _JSON:
        raise LwfError(
            f"{path}: not {'text' if reader is read_text else 'CSV'}{_hint(path)}"
        )  # though it could be read
    try:
        yield from reader(path)
    except LwfError as error:
        raise LwfError(f"{error}{_hint(path)}") from error


def _hint(path: Path) -> str:
    what, name = looks_like(path) or ("", "")
    if not what or (name in FORMATS and FORMATS[name] is FORMATS.get(ending(path))):
        return ""
    if name in COMPRESSIONS:
        return f"; this is {what}: let its name end in {ending(path)}{name}"
    return f"; this is {what}: name it {name}" if name else f"; this is {what}"


def looks_like(path: Path) -> tuple[str, str] | None:
    """What the file is by its first bytes, and the ending that it should have ("" if none can be read); None where
    they do not tell."""
    try:
        with path.open("rb") as file:
            raw = file.read(_HEAD)
        for magic, found in _MAGIC.items():
            if raw.startswith(magic) and path.suffix.lower() != found[1]:
                return found
        if raw.startswith(b"PK\x03\x04"):
            return "a zip archive, as spreadsheets are: save it as CSV", ""
        with opened(path) as unpacked:
            text = unpacked.read(_HEAD).decode("utf-8-sig", errors="ignore").lstrip()
    except (OSError, LwfError):
        return None
    return _json_kind(text)


def _json_kind(text: str) -> tuple[str, str] | None:
    if text.startswith("[") and text[1:].lstrip().startswith("{"):
        return "a JSON array", ".json"
    if not text.startswith("{"):
        return None
    first, _, rest = text.partition("\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return ("a JSON object over several lines", ".json") if rest else None
    return ("JSON Lines, one object a line", ".jsonl") if rest.lstrip().startswith("{") else None
