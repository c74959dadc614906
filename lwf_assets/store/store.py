"""The content-addressed store: immutable artifacts, each with a manifest that says what it was made from.

    <root>/<asset>/<partition>/<version>/               the files and manifest.json; version: hash of their contents
    <root>/<asset>/<partition>/manifests/<seal>.json    every manifest there was, under the sha256 of its bytes
    <root>/<asset>/<partition>/recipes/<recipe>.json    the manifest of the artifact that this recipe last gave
    <root>/<asset>/<partition>/current                  the recipe that the study last asked for
    <root>/<asset>/<partition>/checks/<subject>.json    what the blocking checks said
    <root>/<asset>/<partition>/verified/<version>.json  what was hashed of the files, so that it is not hashed twice
    <root>/<asset>/<partition>/scratch/<recipe>/        unfinished work that a killed process can go on from
    <root>/studies/<sha256>.json                        the settings of every study that something was made for

A manifest names the artifacts that it was made from by version and by their manifests' seals: from one artifact on, all
that it was made from is chained by hashes (see `lineage/`). A manifest that is not as it was sealed is never believed,
and nothing is computed from an artifact whose files are not those of its manifest (see `verification.py`).

An artifact is written into a temporary sibling, fsynced and renamed into place, so a reader never sees half of one. Two
processes that make the same recipe take turns; the second finds the first one's artifact.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from lwf_assets.disk.hashes import hash_file, stamp_of
from lwf_assets.disk.sums import files_below
from lwf_assets.disk.writing import fsync, write_atomically, write_synced
from lwf_assets.errors import LwfError
from lwf_assets.store.manifest import (
    MANIFEST,
    FileEntry,
    InputVersion,
    Manifest,
    cell_name,
    contents_version,
    input_order,
)
from lwf_assets.store.mirror import ALONE, Mirror
from lwf_assets.store.partition import Partition, folder_name
from lwf_assets.store.records import (
    believed,
    current_manifest_in,
    current_recipe,
    manifest_of_recipe,
    merged_verdicts,
    read_verdicts,
    sealed_verdicts,
)
from lwf_assets.store.verification import Memory, Remembered, refuse_damaged, troubles

STUDIES = "studies"


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: the folder with its files, and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def version(self) -> str:
        """Content hash."""
        return self.manifest.version


class Draft:
    """An artifact in the making: write into `path`, then `commit`. `scratch` outlives a killed process."""

    def __init__(
        self, store: Store, asset: str, partition: Partition, recipe: str, path: Path, scratch: Path, *, instead: bool
    ) -> None:
        self._store, self._asset, self._partition, self._recipe = store, asset, partition, recipe
        self._instead = instead
        self.path = path
        self.scratch = scratch
        self.committed: Artifact | None = None

    def commit(
        self,
        *,
        code_version: str,
        settings: Mapping[str, Any],
        inputs: tuple[InputVersion, ...],
        summary: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> Artifact:
        """Hash, fsync and rename the draft into the store. An artifact of equal contents that is there already is
        kept."""
        files = tuple(
            FileEntry(path.relative_to(self.path).as_posix(), hash_file(path), path.stat().st_size)
            for path in files_below(self.path)
        )
        manifest = Manifest(
            asset=self._asset,
            partition=self._partition.key,
            version=contents_version(files),
            recipe=self._recipe,
            code_version=code_version,
            settings=dict(settings),
            inputs=tuple(sorted(inputs, key=input_order)),
            files=files,
            summary=dict(summary),
            provenance=dict(provenance),
        )
        self.committed = self._store._place(manifest, self._partition, self.path, instead=self._instead)
        return self.committed


class Store:
    """All artifacts below one folder, which may be a cache of a place that several machines share."""

    def __init__(self, root: Path, mirror: Mirror = ALONE) -> None:
        self.root = root
        self.mirror = mirror

    def refresh(self) -> None:
        """Get to know what other machines wrote into a shared store."""
        self.mirror.refresh()

    def folder(self, asset: str, partition: Partition) -> Path:
        """Where the versions of one asset's partition are."""
        return self.folder_of(asset, partition.key)

    def folder_of(self, asset: str, key: str | None) -> Path:
        """The same, of the partition that is written `key`."""
        return self.root / asset / folder_name(key)

    def by_recipe(self, asset: str, partition: Partition, recipe: str) -> Artifact | None:
        """The artifact that `recipe` gave, if it is in the store with all its files."""
        manifest = manifest_of_recipe(self.folder(asset, partition), recipe)
        if manifest is None:
            return None
        return self.artifact_of(manifest) if self.is_here(manifest) or self.mirror.has(manifest) else None

    def current(self, asset: str, partition: Partition) -> Artifact | None:
        """The artifact that the study last asked for, if it is in the store with all its files."""
        recipe = current_recipe(self.folder(asset, partition))
        return None if recipe is None else self.by_recipe(asset, partition, recipe)

    def built(self, asset: str, partition: Partition) -> Artifact:
        """The same, to be computed from: its files are those of its manifest.

        Raises:
            LwfError: there is none.
            DamagedArtifactError: a file was changed since.
        """
        artifact = self.current(asset, partition)
        if artifact is None:
            raise LwfError(f"{cell_name(asset, partition.key)} is not built; `lwf build` builds it")
        self.verify(artifact)
        return artifact

    def verify(self, artifact: Artifact, ending: str | tuple[str, ...] = "") -> None:
        """Hash the files, or those of that ending, that were not hashed since they were written or changed; those of a
        shared store that are not here yet are brought.

        Raises:
            DamagedArtifactError: one of them is not that of the manifest.
        """
        manifest = artifact.manifest
        self.bring(manifest, ending)
        refuse_damaged(artifact.path, manifest, self.memory_of(manifest), ending)
        with suppress(OSError):
            os.utime(self._verified(manifest))

    def bring(self, manifest: Manifest, ending: str | tuple[str, ...] = "") -> None:
        """Bring those files of an artifact, by the endings of their names, that only the shared store has."""
        folder, listed = self.artifact_folder(manifest), {entry.path: entry.sha256 for entry in manifest.files}
        brought = self.mirror.bring(manifest, folder, {name for name in listed if name.endswith(ending)})
        if brought:  # and hashed on the way
            memory = self.memory_of(manifest)
            with suppress(FileNotFoundError):
                fresh: Remembered = {name: (*stamp_of(folder / name), listed[name]) for name in brought}
                memory.keep({**memory.known(), **fresh})

    def is_here(self, manifest: Manifest) -> bool:
        """Whether all the artifact's files are in this store, as far as their names say."""
        folder = self.artifact_folder(manifest)
        return folder.is_dir() and all((folder / entry.path).is_file() for entry in manifest.files)

    def is_there(self, manifest: Manifest) -> bool:
        """Whether the artifact's files are here, or can be brought."""
        return self.artifact_folder(manifest).is_dir() or self.mirror.has(manifest)

    def troubles(
        self, manifest: Manifest, hashed: Callable[[Path], object] = lambda path: None
    ) -> list[tuple[Path, str]]:
        """Every file of an artifact that is not as the manifest lists it, here or in the shared store, and what is
        wrong with it: each byte that is here is hashed. What the shared store has need not be here."""
        folder, shared = self.artifact_folder(manifest), self.mirror.has(manifest)
        if not folder.is_dir() and not shared:
            return [(folder, "the artifact's files are missing")]
        found = troubles(folder, manifest, hashed=hashed) if folder.is_dir() else []
        found = [(path, what) for path, what in found if not shared or os.path.lexists(path)]

        def looked_at(entry: FileEntry) -> None:
            if not folder.is_dir():
                hashed(folder / entry.path)

        return [*found, *((folder / entry.path, what) for entry, what in self.mirror.troubles(manifest, looked_at))]

    def last_use(self, manifest: Manifest) -> float:
        """When the artifact was last verified, which comes before every use; seconds since the epoch."""
        path = self._verified(manifest)
        return path.stat().st_mtime if path.exists() else 0.0

    def memory_of(self, entry: InputVersion | Manifest) -> Memory:
        """What was hashed of an artifact."""
        return Memory(self._verified(entry))

    def _verified(self, entry: InputVersion | Manifest) -> Path:
        return self.folder_of(entry.asset, entry.partition) / "verified" / f"{entry.version}.json"

    def current_manifest(self, asset: str, key: str | None) -> Manifest | None:
        """The manifest of what the study last asked for, whether its files are still there or not."""
        return current_manifest_in(self.folder_of(asset, key))

    def is_current(self, manifest: Manifest) -> bool:
        """Whether the artifact is what its study last asked for."""
        current = self.current_manifest(manifest.asset, manifest.partition)
        return current is not None and (current.recipe, current.version) == (manifest.recipe, manifest.version)

    def manifests(self, asset: str = "*") -> Iterator[Manifest]:
        """Every manifest that there ever was, of one asset or of all, whether its artifact is still there or not;
        newest first. One that was changed since is passed over."""
        folders = [*self.root.glob(f"{asset}/*/manifests"), *self.root.glob(f"{asset}/*/recipes")]
        entries = [path for folder in folders for path in folder.glob("*.json")]
        seen = set[str]()
        for path in sorted(entries, key=lambda path: (-path.stat().st_mtime_ns, path)):
            # Each is there twice; of a recipe's entry the hash is the seal.
            seal = path.stem if path.parent.name == "manifests" else _hash_of(path)
            manifest = None if seal in seen else believed(path, path.parent.parent)
            if manifest is not None:
                seen.add(seal)
                yield manifest

    def current_manifests(self) -> Iterator[tuple[Path, Manifest | None]]:
        """Every pointer to what a study last asked for, with the manifest; None where it leads to none."""
        for pointer in sorted(self.root.glob("*/*/current")):
            yield pointer, current_manifest_in(pointer.parent)

    def artifact_folder(self, entry: InputVersion | Manifest) -> Path:
        """Where the files of an artifact are."""
        return self.folder_of(entry.asset, entry.partition) / entry.version

    def sealed_path(self, entry: InputVersion | Manifest, seal: str) -> Path:
        """Where the manifest of that seal is kept."""
        return self.folder_of(entry.asset, entry.partition) / "manifests" / f"{seal}.json"

    def set_current(self, artifact: Artifact, partition: Partition) -> None:
        """Make `artifact` the one that downstream assets, views and reports read. One that a killed process could not
        share any more is shared first."""
        if not self.mirror.has(artifact.manifest):
            artifact = self.artifact_of(self.mirror.publish(artifact.manifest, artifact.path, instead=False))
        folder = self.folder(artifact.manifest.asset, partition)
        write_atomically(folder / "current", artifact.manifest.recipe + "\n")
        self.mirror.share(folder / "current")

    @contextmanager
    def draft(self, asset: str, partition: Partition, recipe: str, *, instead: bool = False) -> Iterator[Draft]:
        """A draft of one recipe's artifact, for the process that holds its `lock`. What is not committed when the block
        ends is removed; scratch is kept after a failure and removed after a success. It takes the place of what another
        machine made by the recipe only where it is made `instead`."""
        folder = self.folder(asset, partition)
        scratch = folder / "scratch" / recipe
        scratch.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f".draft-{recipe}-", dir=folder))
        path.chmod(0o755)
        draft = Draft(self, asset, partition, recipe, path, scratch, instead=instead)
        try:
            yield draft
        finally:
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
        if draft.committed is not None:
            self._remember(draft.committed)  # now: what scratch has in common with it, by hard links, is gone

    @contextmanager
    def lock(self, asset: str, partition: Partition, recipe: str) -> Iterator[None]:
        """Held while a recipe is made. The operating system lets go of it when its process dies, however it dies."""
        folder = self.folder(asset, partition) / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{recipe}.lock"):
            for abandoned in folder.parent.glob(f".draft-{recipe}-*"):  # its writer held this lock, and died
                shutil.rmtree(abandoned, ignore_errors=True)
            yield

    def save_verdict(
        self, asset: str, partition: Partition, subject: str, name: str, verdict: Mapping[str, Any]
    ) -> None:
        """Keep what the check `name` said about `subject` (see `verdicts`)."""
        path = self.folder(asset, partition) / "checks" / f"{subject}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            write_atomically(path, sealed_verdicts({**(read_verdicts(path) or {}), name: dict(verdict)}))
            self.mirror.share_merged(path, merged_verdicts)

    def verdicts(self, asset: str, partition: Partition, subject: str) -> dict[str, dict[str, Any]]:
        """What the checks said about `subject`: a version, with the versions of whatever it was checked against."""
        return read_verdicts(self.folder(asset, partition) / "checks" / f"{subject}.json") or {}

    def all_verdicts(self, manifest: Manifest) -> dict[str, dict[str, Any]]:
        """What was said of an artifact, whatever it was checked against; by check."""
        said: dict[str, dict[str, Any]] = {}
        for path in self.verdict_files(manifest):
            said |= read_verdicts(path) or {}
        return said

    def verdict_files(self, manifest: Manifest) -> list[Path]:
        """The files of what was said of an artifact, oldest first."""
        folder = self.folder_of(manifest.asset, manifest.partition) / "checks"
        return sorted(folder.glob(f"{manifest.version}*.json"), key=lambda path: path.stat().st_mtime)

    def keep_study(self, settings: Mapping[str, Any]) -> str:
        """Keep the settings of a study; returns the sha256 that they are found by."""
        text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        digest = hashlib.sha256(text.encode()).hexdigest()
        path = self.study_path(digest)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)
            self.mirror.share(path)
        return digest

    def study_path(self, digest: str) -> Path:
        """Where the study of that sha256 is kept."""
        return self.root / STUDIES / f"{digest}.json"

    def artifact_of(self, manifest: Manifest) -> Artifact:
        """The artifact of a manifest, whether its files are there or not."""
        return Artifact(self.artifact_folder(manifest), manifest)

    def write_copy(self, manifest: Manifest, path: Path) -> None:
        """Write one of the copies of a manifest again."""
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, manifest.to_json())

    def replace_files(self, manifest: Manifest, files: Path) -> None:
        """Put the folder `files`, which has the files that the manifest lists, in place of the artifact's own.

        Raises:
            DamagedArtifactError: it has others.
        """
        refuse_damaged(files, manifest)
        write_synced(files / MANIFEST, manifest.to_json())
        target = self.artifact_folder(manifest)
        if target.exists():
            _replace_folder(target, files)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(files, target)
        self._remember(Artifact(target, manifest))

    def _remember(self, artifact: Artifact) -> None:
        """That the files of an artifact that was just written need not be hashed again."""
        listed = artifact.manifest.files
        there = [(entry, artifact.path / entry.path) for entry in listed if (artifact.path / entry.path).is_file()]
        known: Remembered = {entry.path: (*stamp_of(path), entry.sha256) for entry, path in there}
        self.memory_of(artifact.manifest).keep(known)

    def _place(self, manifest: Manifest, partition: Partition, draft: Path, *, instead: bool) -> Artifact:
        folder = self.folder(manifest.asset, partition)
        target = folder / manifest.version
        write_synced(draft / MANIFEST, manifest.to_json())
        for path in (*draft.rglob("*"), draft):
            fsync(path)
        try:
            os.rename(draft, target)
        except OSError:
            if not target.exists():
                raise
            # A folder of that name holds the same contents, unless somebody damaged it: then the draft replaces it.
            if not _matches(target, manifest):
                _replace_folder(target, draft)
        fsync(folder)
        for path in (self.sealed_path(manifest, manifest.seal), folder / "recipes" / f"{manifest.recipe}.json"):
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, manifest.to_json())
        return self.artifact_of(self.mirror.publish(manifest, target, instead=instead))


def _hash_of(path: Path) -> str:
    return hash_file(path) if path.is_file() else ""


def _replace_folder(target: Path, draft: Path) -> None:
    """Put `draft` where `target` is. What was there goes first below the draft's name, where cleaning up finds it."""
    damaged = Path(tempfile.mkdtemp(prefix=f"{draft.name}-damaged-", dir=target.parent))
    try:
        os.rename(target, damaged / "artifact")
        os.rename(draft, target)
    finally:
        shutil.rmtree(damaged, ignore_errors=True)


def _matches(folder: Path, manifest: Manifest) -> bool:
    paths = [(folder / entry.path, entry.sha256) for entry in manifest.files]
    return all(path.is_file() and hash_file(path) == sha256 for path, sha256 in paths)
