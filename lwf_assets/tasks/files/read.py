"""The rows of the files that a study names for one role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lwf_assets.errors import LwfError
from lwf_assets.tasks.files.formats import FORMATS, ending, read_as_named
from lwf_assets.tasks.rows import SourceRow

_WILD = frozenset("*?[")


def read_files(named: Sequence[Path], *, origin: str) -> Iterator[SourceRow]:
    """Rows of the files, in order. `named` may hold patterns and directories, see `files_of`.

    `origin` is the role of the files ("train", "prompts", ...) and begins the ids: "train-0" in a single file,
    "train-part-0.jsonl-0" in one of several, so that another file in the same directory renames no row. Raises LwfError
    that names the file, and the line or row, for what cannot be read.
    """
    files = files_of(named)
    for file, name in zip(files, short_names(files), strict=True):
        prefix = origin if len(files) == 1 else f"{origin}-{name}"
        index = -1
        for index, (place, columns) in enumerate(read_as_named(file)):
            yield SourceRow(place=place, id=f"{prefix}-{index}", columns=columns)
        if index < 0:
            raise LwfError(f"{file}: the file has no rows")


def files_of(named: Sequence[Path]) -> list[Path]:
    """The files that are meant: a file itself, those that a pattern such as `data/*.jsonl` fits, and those of a
    directory that are in a format that can be read; each once, patterns and directories sorted by name.

    Raises LwfError for a file that does not exist, and for a pattern or a directory without a file.
    """
    found: dict[Path, None] = {}
    for path in named:
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file() and ending(file) in FORMATS)
            if not files:
                raise LwfError(f"{path}: the directory has no file that ends in {', '.join(FORMATS)}")
        elif _WILD & set(str(path)):
            fixed = Path(*_before_pattern(path))
            files = sorted(file for file in fixed.glob(str(path.relative_to(fixed))) if file.is_file())
            if not files:
                raise LwfError(f"{path}: no file fits this pattern")
        else:
            raise LwfError(f"{path}: the file does not exist")
        found |= dict.fromkeys(files)
    return list(found)


def _before_pattern(path: Path) -> Iterator[str]:
    for part in path.parts:
        if _WILD & set(part):
            return
        yield part


def short_names(files: Sequence[Path]) -> list[str]:
    """Of each file the path below the directory that all share; "" for a single file."""
    if len(files) < 2:
        return ["" for _ in files]
    shared = Path(*_shared_parts([file.parent.parts for file in files]))
    return [str(file.relative_to(shared)) for file in files]


def _shared_parts(paths: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            return
        yield parts[0]
