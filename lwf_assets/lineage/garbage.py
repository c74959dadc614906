"""Which versions are no longer needed, and their removal."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lwf_assets.disk.writing import write_atomically
from lwf_assets.errors import LwfError
from lwf_assets.lineage.chain import read_chain
from lwf_assets.store.manifest import MANIFEST, Manifest
from lwf_assets.store.store import Store

KEPT = "kept.json"
"""In the store's root: artifacts that are needed although no study asks for them."""


@dataclass(frozen=True)
class Kept:
    """An artifact that a person wants kept with all that it was made from."""

    artifact: str
    version: str
    why: str
    since: str


@dataclass(frozen=True)
class Unneeded:
    """A version that nothing needs: its files, in bytes."""

    artifact: str
    version: str
    folder: Path
    size: int


def keep(store: Store, manifest: Manifest, why: str) -> Kept:
    """Have `unneeded_versions` pass over this artifact and its chain, until it is released."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entry = Kept(manifest.name, manifest.version, why, since)
    _write_kept(store, [*_others(store, manifest), entry])
    return entry


def release(store: Store, manifest: Manifest) -> None:
    """Take `keep` back.

    Raises:
        LwfError: the artifact is not kept.
    """
    others = _others(store, manifest)
    if len(others) == len(kept_artifacts(store)):
        raise LwfError(f"{manifest.name} {manifest.version}: is not one of the kept artifacts")
    _write_kept(store, others)


def kept_artifacts(store: Store) -> list[Kept]:
    """What `keep` was called with and not taken back, oldest first."""
    path = store.root / KEPT
    return [Kept(**entry) for entry in json.loads(path.read_text())] if path.is_file() else []


def unneeded_versions(store: Store, needed: Iterable[str] = ()) -> list[Unneeded]:
    """Every version that is neither current, nor kept, nor needed by one that is.

    Args:
        store: where to look.
        needed: recipes of more artifacts that are needed with their chains, such as those of registered models.

    Raises:
        LwfError: what is needed is unknown, because a manifest in a needed chain is damaged.
    """
    for pointer, current in store.current_manifests():
        if current is None:
            raise LwfError(
                f"{pointer}: names no manifest that is as it was written; nothing was removed, because it is unknown "
                "what it needs. The next `lwf build` of its study sets it anew"
            )
    wanted, kept = set(needed), {(entry.artifact, entry.version) for entry in kept_artifacts(store)}
    live: set[Path] = set()
    for manifest in store.manifests():
        if manifest.recipe in wanted or (manifest.name, manifest.version) in kept or store.is_current(manifest):
            chain = read_chain(store, manifest)
            if chain.faults:
                raise LwfError(
                    f"{chain.faults[0]}; nothing was removed, because it is unknown what {manifest.name} needs"
                )
            live |= {link.folder for link in chain.links}
    return [
        Unneeded(folder.parent.relative_to(store.root).as_posix(), folder.name, folder, size)
        for folder, size in _version_folders(store).items()
        if folder not in live
    ]


def remove(store: Store, unneeded: Iterable[Unneeded], needed: Iterable[str] = ()) -> list[Unneeded]:
    """Remove their files, but of those that are needed by now. Manifests stay, as a record of what there was.

    Args:
        store: where they are.
        unneeded: as `unneeded_versions` listed them.
        needed: what it was given.

    Returns:
        Those that were removed.

    Raises:
        LwfError: a build is running, which may need what no study asks for any more; nothing was removed.
    """
    with ExitStack() as locks:
        for lock in store.root.glob("*/*/scratch/*.lock"):
            try:
                locks.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                raise LwfError(f"{lock.parent.parent}: a build is running; try again when it has finished") from None
        # A build may have ended since they were listed, and what it made or took up again is current now. While the
        # locks are held, none of them can become so.
        still = {version.folder for version in unneeded_versions(store, needed)}
        removed = [version for version in unneeded if version.folder in still]
        for version in removed:
            # Moved away first: a half removed artifact must not look like a whole one.
            doomed = version.folder.with_name(f".removed-{version.folder.name}")
            if version.folder.is_dir():
                version.folder.rename(doomed)
                shutil.rmtree(doomed)
            store.mirror.remove(version.folder)
        store.mirror.sweep()
        return removed


def _others(store: Store, manifest: Manifest) -> list[Kept]:
    this = manifest.name, manifest.version
    return [kept for kept in kept_artifacts(store) if (kept.artifact, kept.version) != this]


def _version_folders(store: Store) -> dict[Path, int]:
    """Every version that is here or in the shared store, with its size in bytes."""
    shared = (manifest for manifest in store.manifests() if store.mirror.has(manifest))
    found = {store.artifact_folder(m): sum(entry.size for entry in m.files) for m in shared}
    here = (path.parent for path in store.root.glob(f"*/*/[0-9a-f]*/{MANIFEST}"))
    return dict(sorted((found | {folder: _size(folder) for folder in here if folder not in found}).items()))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_kept(store: Store, kept: Iterable[Kept]) -> None:
    write_atomically(store.root / KEPT, json.dumps([asdict(entry) for entry in kept], indent=2) + "\n")
    store.mirror.share(store.root / KEPT)
