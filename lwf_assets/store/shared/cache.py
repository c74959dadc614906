"""Keeps the local store, where it is a cache, below a size: what is published and was unused longest goes first."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lwf_assets.disk.locks import is_held
from lwf_assets.disk.writing import write_atomically
from lwf_assets.errors import LwfError
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.store import Store

VARIABLE = "LWF_CACHE_GB"
READS = ".reads"
"""Ending of the file, beside the lock of a recipe that is being made, with the folders that it reads."""


def cache_limit() -> int | None:
    """Bytes that the cache may have; None for no limit.

    Raises:
        LwfError: the variable is not a positive number.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    try:
        limit = float(value)
    except ValueError:
        limit = -1.0
    if not 0 < limit < float("inf"):
        raise LwfError(f"{VARIABLE}={value}: give a number of gigabytes above 0, such as 200")
    return int(limit * 1e9)


@contextmanager
def in_use(root: Path, lock: Path, inputs: Iterable[Path]) -> Iterator[None]:
    """No other process of this machine drops the inputs from the cache while the block is at work on them.

    Args:
        root: of the store.
        lock: of the recipe that is made from them, which this process holds.
        inputs: folders of artifacts.
    """
    reads = lock.with_suffix(READS)
    reads.parent.mkdir(parents=True, exist_ok=True)
    with _dropping(root):
        write_atomically(reads, json.dumps([str(path) for path in inputs]))
    try:
        yield
    finally:
        reads.unlink(missing_ok=True)


def drop_unused(store: Store, limit: int) -> int:
    """Remove files of published artifacts until the artifacts here have at most `limit` bytes; returns how many bytes
    were removed. What a build reads stays."""
    removed = 0
    with _dropping(store.root):
        needed = _being_read(store)
        held = [(manifest, size) for manifest in _published(store) if (size := _size(store, manifest))]
        held.sort(key=lambda found: store.last_use(found[0]))
        total = sum(size for _, size in held)
        for manifest, size in held:
            folder = store.artifact_folder(manifest)
            if total - removed <= limit:
                break
            if folder not in needed:
                doomed = folder.with_name(f".removed-{folder.name}")
                folder.rename(doomed)
                shutil.rmtree(doomed)
                removed += size
    return removed


@contextmanager
def _dropping(root: Path) -> Iterator[None]:
    with FileLock(root / "cache.lock"):
        yield


def _being_read(store: Store) -> set[Path]:
    """Folders that a living process reads: it holds the lock beside its list."""
    found = set[Path]()
    for reads in store.root.glob(f"*/*/scratch/*{READS}"):
        if is_held(reads.with_suffix(".lock")):
            found |= {Path(path) for path in json.loads(reads.read_text(encoding="utf-8"))}
        else:
            reads.unlink(missing_ok=True)  # its process died
    return found


def _published(store: Store) -> list[Manifest]:
    found = {store.artifact_folder(manifest): manifest for manifest in store.manifests()}
    return [manifest for folder, manifest in found.items() if folder.is_dir() and store.mirror.has(manifest)]


def _size(store: Store, manifest: Manifest) -> int:
    folder = store.artifact_folder(manifest)
    return sum(entry.size for entry in manifest.files if (folder / entry.path).is_file())
