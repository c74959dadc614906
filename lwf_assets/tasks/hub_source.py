"""Rows of data sets on the Hugging Face hub, or of a local directory laid out like one."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lwf_assets.errors import LwfError
from lwf_assets.tasks.rows import SourceRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import Dataset

    from lwf_assets.tasks.source_settings import HubSource


def read_hub(source: HubSource, split: str) -> Iterator[SourceRow]:
    """Rows of one split, in order, of every configuration in turn, less those that `source.where` drops.

    Raises LwfError when the data set, the configuration or the split cannot be had, or when no row is left.
    """
    for config in source.configs:
        place = _place(source, config, split)
        dataset = _load(source, config, split)
        # Two configurations both count from 0.
        prefix = f"{config}-{split}" if len(source.configs) > 1 else split
        for index in _matching(source, dataset, place):
            yield SourceRow(place=f"{place}, row {index + 1}", id=f"{prefix}-{index}", columns=dict(dataset[index]))


def hub_files(source: HubSource, split: str) -> list[Path]:
    """The files that one split of a local directory is read from, configuration by configuration."""
    from datasets import load_dataset_builder

    files: list[Path] = []
    for config in source.configs:
        with _explained(source, _place(source, config, split)):
            found = load_dataset_builder(_location(source), name=config).config.data_files or {}
            if split not in found:
                raise ValueError(f"unknown split {split!r}; the splits are: {', '.join(map(str, found))}")
            files += [Path(str(file)) for file in found[split]]
    return files


def _load(source: HubSource, config: str | None, split: str) -> Dataset:
    from datasets import load_dataset

    with _explained(source, _place(source, config, split)):
        return load_dataset(_location(source), name=config, split=split, revision=source.revision)


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
