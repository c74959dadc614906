"""What differs between what two artifacts were made from, first cause first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lwf_assets.graph.setting_changes import setting_changes
from lwf_assets.lineage.chain import Chain, Link
from lwf_assets.store.manifest import FileEntry
from lwf_assets.store.tables import read_rows


@dataclass(frozen=True)
class RowChange:
    """A row of a table that only one side has, or that differs: `before` or `after` is None where it is missing; of a
    row that both have, the columns that differ."""

    table: str
    id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True)
class Difference:
    """One artifact of the two chains that is not the same, and why.

    `causes` are its own: settings, code version; `follows` names the inputs that differ too. An artifact without either
    was made twice from the same with different bytes. Rows are listed where the artifact itself is a cause.
    """

    artifact: str
    before: str | None
    """Version; None where only the other chain has it."""
    after: str | None
    causes: tuple[str, ...]
    follows: tuple[str, ...]
    files: tuple[str, ...]
    rows: tuple[RowChange, ...]

    @property
    def is_first_cause(self) -> bool:
        """Whether it would differ even if nothing above it did."""
        return bool(self.causes) or not self.follows


def differences(before: Chain, after: Chain) -> list[Difference]:
    """Every artifact in which the two chains differ: first causes first, then what follows from them, inputs first."""
    pairs = _pairs(before, after)
    changed = {
        name for name, (old, new) in pairs.items() if old is None or new is None or _version(old) != _version(new)
    }
    found = [_difference(name, *pairs[name], changed, pairs) for name in pairs if name in changed]
    return sorted(found, key=lambda difference: not difference.is_first_cause)


Pair = tuple[Link | None, Link | None]


def _pairs(before: Chain, after: Chain) -> dict[str, Pair]:
    """Links of both chains that stand for the same, inputs first: of one cell, or the only one of an asset."""
    names_before, names_after = _names(before, after), _names(after, before)
    order = [*names_before, *(name for name in names_after if name not in names_before)]
    pairs = {name: (names_before.get(name), names_after.get(name)) for name in order}
    rank = {asset: number for number, asset in enumerate(dict.fromkeys(_assets(before, after)))}
    return dict(sorted(pairs.items(), key=lambda item: rank[_asset(item[1])]))


def _names(chain: Chain, other: Chain) -> dict[str, Link]:
    named = {}
    for link in chain.links:
        asset = link.manifest.asset
        alone = len(chain.of(asset)) == len(other.of(asset)) == 1
        named[asset if alone else link.name] = link
    return named


def _assets(before: Chain, after: Chain) -> Iterator[str]:
    """Assets in the order of the longer chain's, so that inputs come first whichever side has them."""
    longer, shorter = (before, after) if len(before.links) >= len(after.links) else (after, before)
    for link in (*longer.links, *shorter.links):
        yield link.manifest.asset


def _asset(pair: Pair) -> str:
    link = pair[0] or pair[1]
    assert link is not None
    return link.manifest.asset


def _difference(
    name: str, old: Link | None, new: Link | None, changed: set[str], pairs: Mapping[str, Pair]
) -> Difference:
    link = new or old
    assert link is not None
    made_from = {(entry.asset, entry.partition) for side in (old, new) if side for entry in side.manifest.inputs}
    follows = tuple(
        other
        for other in changed
        if any(side and (side.manifest.asset, side.manifest.partition) in made_from for side in pairs[other])
    )
    causes = _causes(old, new)
    if old and new and old.name != new.name and not follows:
        causes = (f"another cell: {old.manifest.partition} -> {new.manifest.partition}", *causes)
    files = _files(old, new)
    own = bool(causes) or not follows
    return Difference(
        link.name if old is None or new is None or old.name == new.name else f"{old.name} / {new.name}",
        _version(old),
        _version(new),
        causes,
        tuple(other for other in pairs if other in follows),
        files,
        tuple(_rows(old, new, files)) if own and old and new else (),
    )


def _version(link: Link | None) -> str | None:
    return None if link is None else link.manifest.version


def _causes(old: Link | None, new: Link | None) -> tuple[str, ...]:
    if old is None or new is None:
        return ("only the second has it",) if old is None else ("only the first has it",)
    causes = list(setting_changes(old.manifest.settings, new.manifest.settings))
    if old.manifest.code_version != new.manifest.code_version:
        causes.append(f"its code changed: {old.manifest.code_version} -> {new.manifest.code_version}")
    return tuple(causes)


def _files(old: Link | None, new: Link | None) -> tuple[str, ...]:
    """Paths of files that are not the same on both sides."""
    first, second = _hashes(old), _hashes(new)
    return tuple(path for path in sorted(first.keys() | second.keys()) if first.get(path) != second.get(path))


def _hashes(link: Link | None) -> dict[str, str]:
    files: tuple[FileEntry, ...] = () if link is None else link.manifest.files
    return {entry.path: entry.sha256 for entry in files}


def _rows(old: Link, new: Link, files: tuple[str, ...]) -> Iterator[RowChange]:
    """The rows of tables with an id that differ, in the order of the table."""
    for name in files:
        first, second = old.folder / name, new.folder / name
        if not all(path.is_file() and path.suffix == ".parquet" and _has_ids(path) for path in (first, second)):
            continue
        here, there = _by_id(first), _by_id(second)
        for key in [*here, *(key for key in there if key not in here)]:
            before, after = here.get(key), there.get(key)
            if before == after:
                continue
            if before is not None and after is not None:
                columns = [c for c in dict.fromkeys((*before, *after)) if before.get(c) != after.get(c)]
                before, after = ({c: row.get(c) for c in columns} for row in (before, after))
            yield RowChange(name, key, before, after)


def _has_ids(path: Path) -> bool:
    return "id" in pq.read_schema(path).names


def _by_id(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by id; of equal ids (the same item under several seeds) each with its number."""
    rows: dict[str, dict[str, Any]] = {}
    for row in read_rows(path):
        key, count = str(row["id"]), 1
        while key in rows:
            count += 1
            key = f"{row['id']} ({count})"
        rows[key] = row
    return rows
