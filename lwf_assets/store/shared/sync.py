"""Brings a whole store into a shared place, or the other way: to begin with one, to move, or to work without a line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lwf_assets.object_storage.at_once import each_at_once
from lwf_assets.progress import SILENT, Progress
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.records import merged_verdicts
from lwf_assets.store.shared.mirror import SharedMirror
from lwf_assets.store.store import STUDIES, Store


@dataclass(frozen=True)
class Moved:
    """How many artifacts were moved, and how many bytes they have."""

    artifacts: int
    size: int


def unshared(store: Store) -> list[Manifest]:
    """The artifacts that are here with all their files and not in the shared place, each once, oldest first."""
    found: dict[Path, Manifest] = {}
    for manifest in store.manifests():
        if store.is_here(manifest) and not store.mirror.has(manifest):
            found.setdefault(store.artifact_folder(manifest), manifest)
    return list(reversed(found.values()))


def push(store: Store, *, progress: Progress = SILENT) -> Moved:
    """Share everything that the shared place lacks: artifacts, verdicts, settings of studies, pointers.

    Raises:
        DamagedArtifactError: an artifact here is not as it was written; those before it are shared.
    """
    mirror = store.mirror
    assert isinstance(mirror, SharedMirror)
    missing = unshared(store)
    progress.begin("Publishing", sum(entry.size for manifest in missing for entry in manifest.files))

    def publish(manifest: Manifest) -> None:
        artifact = store.artifact_of(manifest)
        store.verify(artifact)
        mirror.publish(manifest, artifact.path, instead=False)
        progress.advance(sum(entry.size for entry in manifest.files))

    mirror.share_all(path for path in (store.root / STUDIES).glob("*.json") if not mirror.knows(path))
    each_at_once(publish, missing)
    # The manifests of what was removed, too: they are the record of it.
    mirror.share_all(path for path in store.root.glob("*/*/manifests/*.json") if not mirror.knows(path))
    for path in sorted(store.root.glob("*/*/checks/*.json")):
        mirror.share_merged(path, merged_verdicts)
    mirror.share_all(pointer for pointer, current in store.current_manifests() if current is not None)
    return Moved(len(missing), sum(entry.size for manifest in missing for entry in manifest.files))


def pull(store: Store, *, progress: Progress = SILENT) -> Moved:
    """Bring every file of what studies last asked for."""
    current = [manifest for _, manifest in store.current_manifests() if manifest is not None]
    wanted = [manifest for manifest in current if not store.is_here(manifest)]
    size = sum(entry.size for manifest in wanted for entry in manifest.files)
    progress.begin("Fetching", size)
    for manifest in wanted:
        store.verify(store.artifact_of(manifest))
        progress.advance(sum(entry.size for entry in manifest.files))
    return Moved(len(wanted), size)
