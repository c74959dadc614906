"""Repair of a damaged store: what can be made again from its recipe is, and nothing else is believed in its place."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from lwf_assets.errors import LwfError
from lwf_assets.lineage.chain import read_chain
from lwf_assets.lineage.replay import cell_of, make_again
from lwf_assets.object_storage.bucket import DamagedObjectError
from lwf_assets.progress import SILENT, Progress
from lwf_assets.store.manifest import MANIFEST, Manifest
from lwf_assets.store.records import believed
from lwf_assets.store.store import Store
from lwf_assets.store.verification import DamagedArtifactError, troubles


@dataclass(frozen=True)
class Repair:
    """A damaged artifact, its first damaged file, and what became of it: `problem` says why it was not made again."""

    artifact: str
    version: str
    path: Path
    what: str
    problem: str | None = None


def damaged_artifacts(store: Store, *, progress: Progress = SILENT) -> list[tuple[Manifest, Path, str]]:
    """Every artifact in the store, or asked for last, whose files are not those of its manifest, inputs first; with its
    first damaged file and what is wrong with it. Every byte is hashed."""
    manifests = _artifacts(store)
    progress.begin("Hashing", sum(len(manifest.files) for manifest in manifests))
    found = []
    for manifest in manifests:
        wrong = store.troubles(manifest, hashed=lambda path: progress.advance())
        if wrong:
            found.append((manifest, *wrong[0]))
    return found


def repair(store: Store, *, progress: Progress = SILENT) -> Iterator[Repair]:
    """Make every damaged artifact again: from a shared store that has its files, or from its inputs by its recorded
    settings. What a shared store has lost, and is whole here, is published again.

    It takes the place of the damaged one if it came out with the same bytes. Copies of manifests are written again by
    those that are as they were sealed.

    Args:
        store: what is repaired.
        progress: notified of files that are hashed, and of the work.
    """
    for manifest, path, what in damaged_artifacts(store, progress=progress):
        problem = None
        try:
            if not _brought(store, manifest) and not _is_whole(store, manifest):
                _repair(store, manifest, progress)
            store.mirror.mend(manifest, store.artifact_folder(manifest))
        except LwfError as error:
            problem = str(error)
        yield Repair(manifest.name, manifest.version, path, what, problem)
    yield from _repair_copies(store)


def _brought(store: Store, manifest: Manifest) -> bool:
    """Whether the shared store had the files."""
    if not store.mirror.has(manifest):
        return False
    with tempfile.TemporaryDirectory(
        prefix=".repair-", dir=store.folder_of(manifest.asset, manifest.partition)
    ) as place:
        files = Path(place) / "files"
        try:
            store.mirror.bring(manifest, files, {entry.path for entry in manifest.files})
        except DamagedObjectError:
            return False
        (files / MANIFEST).unlink()
        store.replace_files(manifest, files)
    return True


def _is_whole(store: Store, manifest: Manifest) -> bool:
    """Whether all files are here, and it is the shared store that is damaged."""
    folder = store.artifact_folder(manifest)
    return folder.is_dir() and not troubles(folder, manifest)


def _repair(store: Store, manifest: Manifest, progress: Progress) -> None:
    chain = read_chain(store, manifest)
    for link in chain.inputs(chain.end):
        store.verify(store.artifact_of(link.manifest))
    folder = store.folder_of(manifest.asset, manifest.partition)
    partition = cell_of(chain.end).partition
    with (
        store.lock(manifest.asset, partition, manifest.recipe),
        tempfile.TemporaryDirectory(prefix=".repair-", dir=folder) as place,
    ):
        made = make_again(store, chain, chain.end, Path(place), progress=progress)
        try:
            store.replace_files(manifest, made)
        except DamagedArtifactError:
            raise LwfError(
                f"{manifest.name} {manifest.version}: was made again and came out with other contents, so it was left "
                f"as it is; restore it from a backup, or make it anew with `lwf build --force {manifest.asset}`"
            ) from None


def _repair_copies(store: Store) -> Iterator[Repair]:
    """Of each manifest there are up to three copies; those that were changed are written again."""
    for manifest in list(store.manifests()):
        folder = store.folder_of(manifest.asset, manifest.partition)
        sealed = store.sealed_path(manifest, manifest.seal)
        places = [sealed] if sealed.parent.is_dir() else []
        entry = folder / "recipes" / f"{manifest.recipe}.json"
        if believed(entry, folder) is None:
            places.append(entry)
        beside = store.artifact_folder(manifest) / MANIFEST
        if beside.parent.is_dir() and not _is_sealed(store, beside):
            places.append(beside)
        for path in places:
            if path.is_symlink() or not path.is_file() or path.read_bytes() != manifest.to_json().encode():
                store.write_copy(manifest, path)
                yield Repair(manifest.name, manifest.version, path, "the manifest is not as it was written")


def _is_sealed(store: Store, path: Path) -> bool:
    try:
        manifest = Manifest.read(path)
    except (OSError, LwfError):
        return False
    sealed = store.sealed_path(manifest, manifest.seal)
    return not path.is_symlink() and believed(sealed, path.parent.parent) is not None


def _artifacts(store: Store) -> list[Manifest]:
    """Every artifact that has a folder, or is asked for, each after its inputs."""
    wanted = [manifest for manifest in store.manifests() if store.is_there(manifest) or store.is_current(manifest)]
    by_folder = {store.artifact_folder(manifest): manifest for manifest in reversed(wanted)}  # the newest is kept
    order = TopologicalSorter(
        {folder: [store.artifact_folder(entry) for entry in m.inputs] for folder, m in by_folder.items()}
    )
    return [by_folder[folder] for folder in order.static_order() if folder in by_folder]
