"""The rows of a split, for every kind of source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from lwf_assets.errors import LwfError
from lwf_assets.tasks.columns import plain_numbers
from lwf_assets.tasks.files.read import read_files
from lwf_assets.tasks.generator_source import draw
from lwf_assets.tasks.hash_split import keep_first, split_of
from lwf_assets.tasks.hub_source import read_hub
from lwf_assets.tasks.rows import SourceRow
from lwf_assets.tasks.settings import FileSource, GeneratorSource, HubSource, PackagedSource, Rows, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from lwf_assets.tasks.rows import Split


def split_rows(source: Source, split: Split, rows: Rows, prompt_of: Callable[[SourceRow], str]) -> list[SourceRow]:
    """Rows of one split, at most `rows.<split>` of them.

    A split that has no rows of its own is taken out of `train` by a hash of the prompt that `prompt_of` makes, so the
    same prompt is never on both sides. Raises LwfError when the split comes out empty, and whatever the source finds.
    """
    limit: int | None = getattr(rows, split)
    if isinstance(source, GeneratorSource):
        if limit is None:
            raise LwfError(f"rows.{split}: a generator has no end, so give the number of rows to generate")
        return draw(source, split, limit)
    if isinstance(source, PackagedSource):
        return _packaged(source, split, limit)
    carved = carved_splits(source)
    if isinstance(source, HubSource) and source.streaming:
        return _streamed(source, split, limit, carved, prompt_of)
    found = _read(source, "train" if split in carved else split)
    count = len(found)
    if split in carved:
        found = [row for row in found if split_of(prompt_of(row)) == split]
    elif split == "train" and carved:
        found = [row for row in found if split_of(prompt_of(row)) not in carved]
    if not found:
        base = "source" if isinstance(source, FileSource) else "source.splits"
        missing = " or ".join(f"{base}.{name}" for name in ([split] if split in carved else carved))
        raise LwfError(
            f"{split}: no row is left for it when the {count} rows of train are split by hash; add rows, or give "
            f"{missing}"
        )
    return keep_first(found, limit, seed=source.seed)


def _streamed(
    source: HubSource,
    split: Split,
    limit: int | None,
    carved: Sequence[Split],
    prompt_of: Callable[[SourceRow], str],
) -> list[SourceRow]:
    """As many rows of a stream as are asked for; the splits are the same parts of it as without streaming."""
    named = own_rows(source, "train" if split in carved else split)
    if limit is None or named is None:
        raise LwfError(f"rows.{split}: a stream is read until it is full, so give the number of rows to read")
    rows = read_hub(source, str(named))
    if split in carved:
        rows = (row for row in rows if split_of(prompt_of(row)) == split)
    elif split == "train" and carved:
        rows = (row for row in rows if split_of(prompt_of(row)) not in carved)
    found = _finished(islice(rows, limit))
    if not found:
        raise LwfError(f"{split}: the stream has no row for it")
    return found


def file_rows(named: Sequence[Path], *, origin: str) -> list[SourceRow]:
    """All rows of files, patterns and directories; `origin` begins the ids of those that bring none."""
    return _finished(read_files(named, origin=origin))


def prompt_file_rows(source: FileSource, prompts: Sequence[Path], rows: Rows) -> list[SourceRow]:
    """Rows of files that hold nothing but forgetting prompts, at most `rows.train` of them."""
    return keep_first(file_rows(prompts, origin="prompts"), rows.train, seed=source.seed)


def carved_splits(source: Source) -> list[Split]:
    """The splits that have no rows of their own and so are taken out of `train`."""
    names: list[Split] = ["validation", "test"]
    return (
        []
        if isinstance(source, GeneratorSource | PackagedSource)
        else [name for name in names if own_rows(source, name) is None]
    )


def own_rows(source: HubSource | FileSource, split: Split) -> tuple[Path, ...] | str | None:
    """The files, or the name of the hub's split, that were given for `split`; None when there are none."""
    if isinstance(source, FileSource):
        return source.named(split)
    named: str | None = getattr(source.splits, split)
    return named


def check_ids(rows: Iterable[SourceRow]) -> None:
    """Raise LwfError, naming both rows, when two have the same id."""
    first: dict[str, str] = {}
    for row in rows:
        if row.id in first:
            raise LwfError(f"{row.place}: id {row.id!r} was used before, at {first[row.id]}; every id must be unique")
        first[row.id] = row.place


def _read(source: HubSource | FileSource, split: Split) -> list[SourceRow]:
    named = own_rows(source, split)
    if named is None:
        key = "source.splits.train" if isinstance(source, HubSource) else "source.train"
        raise LwfError(f"{key}: missing, and {split} rows are asked for; give it")
    if isinstance(source, HubSource):
        return _finished(read_hub(source, str(named)))
    assert not isinstance(named, str)
    return file_rows(named, origin=split)


def _packaged(source: PackagedSource, split: Split, limit: int | None) -> list[SourceRow]:
    found = []
    for number, columns in enumerate(islice(source.rows(split), limit), start=1):
        if not isinstance(columns, Mapping):
            raise LwfError(f"{source.kind}, {split} row {number}: a row must be a mapping of columns, got {columns!r}")
        place = f"{source.kind}, {split} row {number}"
        found.append(SourceRow(place=place, id=f"{split}-{number}", columns=columns))
    if not found:
        raise LwfError(f"{split}: the source {source.kind!r} has no rows for it")
    return _finished(found)


def _finished(rows: Iterable[SourceRow]) -> list[SourceRow]:
    """With numbers as a person would write them, and with the id of a row's own column `id` where it has one."""
    named = [replace(row, id=_own_id(row)) if "id" in row.columns else row for row in plain_numbers(list(rows))]
    check_ids(named)
    return named


def _own_id(row: SourceRow) -> str:
    text = "" if row.columns["id"] is None else str(row.columns["id"]).strip()
    if not text:
        raise LwfError(f"{row.place}: column 'id' is empty; give every row its own id, or leave the column out")
    return text
