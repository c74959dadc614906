"""Rows of data sets on the Hugging Face hub, or of a local directory laid out like one.

A private data set is read with the token of the environment ($HF_TOKEN), which is neither in a study nor in a manifest.
"""

from __future__ import annotations

import random
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.tasks.rows import SourceRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datasets import Dataset

    from lwf_assets.tasks.source_settings import HubSource


def read_hub(source: HubSource, split: str) -> Iterator[SourceRow]:
    """Rows of one split, in order, of every configuration in turn, less those that `source.where` drops.

    Raises LwfError when the data set, the configuration or the split cannot be had, or when no row is left.
    """
    if source.streaming:
        yield from _stream(source, split)
        return
    for config in source.configs:
        place = _place(source, config, split)
        dataset = _load(source, config, split)
        # Two configurations both count from 0.
        prefix = f"{config}-{split}" if len(source.configs) > 1 else split
        for index in _matching(source, dataset, place):
            yield SourceRow(place=f"{place}, row {index + 1}", id=f"{prefix}-{index}", columns=dict(dataset[index]))


_BUFFER = 10_000
"""Rows of a stream that are shuffled at once."""


def _stream(source: HubSource, split: str) -> Iterator[SourceRow]:
    """The rows out of a shuffled buffer, one configuration after the other; no more are read than are asked for."""
    for config in source.configs:
        place = _place(source, config, split)
        prefix = f"{config}-{split}" if len(source.configs) > 1 else split
        with _explained(source, place):
            dataset = _load(source, config, split, streaming=True)
            for index, columns in _shuffled(enumerate(dataset), source.seed):
                if unknown := [column for column in source.where if column not in columns]:
                    raise LwfError(
                        f"{place}: source.where: unknown column {unknown[0]!r}; the columns are: {', '.join(columns)}"
                    )
                if all(str(columns[column]) == wanted for column, wanted in source.where.items()):
                    yield SourceRow(place=f"{place}, row {index + 1}", id=f"{prefix}-{index}", columns=columns)


def _shuffled(rows: Iterable[tuple[int, Any]], seed: int) -> Iterator[tuple[int, Any]]:
    """As `datasets` does it, but after counting: its own shuffle also mixes files, so that a row has no number."""
    draw, buffer = random.Random(seed), list[tuple[int, Any]]()
    for row in rows:
        if len(buffer) < _BUFFER:
            buffer.append(row)
            continue
        place = draw.randrange(_BUFFER)
        yield buffer[place]
        buffer[place] = row
    draw.shuffle(buffer)
    yield from buffer


def hub_files(source: HubSource, split: str) -> list[Path]:
    """The files that one split of a local directory is read from, configuration by configuration."""
    from datasets import load_dataset_builder

    files: list[Path] = []
    for config in source.configs:
        with _explained(source, _place(source, config, split)):
            builder = load_dataset_builder(_location(source), name=config, **_selection(source))
            found = builder.config.data_files or {}
            for name in _SPLIT_NAME.findall(split):
                if name not in found:
                    raise ValueError(f"unknown split {name!r}; the splits are: {', '.join(map(str, found))}")
                files += [Path(str(file)) for file in found[name]]
    return files


_SPLIT_NAME = re.compile(r"(?:^|\+)\s*([\w.-]+)")
"""The names in "train", "train[:1000]" and "train[:10%]+validation"."""


def _load(source: HubSource, config: str | None, split: str, *, streaming: bool = False) -> Any:
    from datasets import load_dataset

    options = {**_selection(source), "revision": source.revision}
    with _explained(source, _place(source, config, split)):
        return load_dataset(_location(source), name=config, split=split, streaming=streaming, **options)


def _selection(source: HubSource) -> dict[str, Any]:
    given = {"data_dir": source.data_dir, "data_files": source.data_files}
    return {key: value for key, value in given.items() if value is not None}


def _location(source: HubSource) -> str:
    path = Path(source.id).expanduser()
    if source.is_local and not path.is_dir():
        raise LwfError(f"{path}: the directory does not exist; a hub id has the form owner/name")
    if not source.is_local and path.is_dir():
        # `datasets` would read the directory and say nothing, and the revision would mean nothing.
        raise LwfError(
            f"{source.id}: a directory of this name lies in {Path.cwd()} and would be read in place of the hub's data "
            f"set; write ./{source.id} if that is meant, or run from elsewhere"
        )
    return str(path) if source.is_local else source.id


def _matching(source: HubSource, dataset: Dataset, place: str) -> list[int]:
    indices = list(range(len(dataset)))
    for column, wanted in source.where.items():
        if column not in dataset.column_names:
            known = ", ".join(dataset.column_names)
            raise LwfError(f"{place}: source.where: unknown column {column!r}; the columns are: {known}")
        values = [str(value) for value in dataset[column]]
        indices = [index for index in indices if values[index] == wanted]
        if not indices:
            seen = ", ".join(sorted(set(values))[:30])
            raise LwfError(
                f"{place}: source.where: no row has {wanted!r} in column {column!r}; the column contains: {seen}"
            )
    if not indices:
        raise LwfError(f"{place}: the split has no rows")
    return indices


def _place(source: HubSource, config: str | None, split: str) -> str:
    revision = "" if source.is_local or source.revision is None else f" at {source.revision[:12]}"
    return f"{source.id}{revision}{f', {config}' if config else ''}, split {split!r}"


@contextmanager
def _explained(source: HubSource, place: str) -> Iterator[None]:
    # What `datasets` raises for wrong settings, a missing network or a broken file is for the user to fix.
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, DatasetsError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        hint = (
            ""
            if source.is_local
            else "; check id, config, revision and split, and that the hub can be reached (or mirror the data set in a "
            "directory and give its path as the id)"
        )
        raise LwfError(f"{place}: cannot be read: {error}{cause}{hint}") from error
