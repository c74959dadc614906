"""The content-addressed store: immutable artifacts, each with a manifest that says what it was made from.

    <root>/<asset>/<partition>/<version>/               the files and manifest.json; version: hash of their contents
    <root>/<asset>/<partition>/manifests/<seal>.json    every manifest there was, under the sha256 of its bytes
    <root>/<asset>/<partition>/recipes/<recipe>.json    the manifest of the artifact that this recipe last gave
    <root>/<asset>/<partition>/current                  the recipe that the study last asked for
    <root>/<asset>/<partition>/checks/<subject>.json    what the blocking checks said
    <root>/<asset>/<partition>/scratch/<recipe>/        unfinished work that a killed process can go on from
    <root>/studies/<sha256>.json                        the settings of every study that something was made for

A manifest names the artifacts that it was made from by version and by their manifests' seals: from one artifact on, all
that it was made from is chained by hashes (see `lineage/`).

An artifact is written into a temporary sibling, fsynced and renamed into place, so a reader never sees half of one. Two
processes that make the same recipe take turns; the second finds the first one's artifact.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from lwf_assets.errors import LwfError
from lwf_assets.store.files import fsync, write_atomically, write_synced
from lwf_assets.store.hashes import hash_file
from lwf_assets.store.manifest import (
    MANIFEST,
    FileEntry,
    InputVersion,
    Manifest,
    cell_name,
    contents_version,
    input_order,
)
from lwf_assets.store.partition import Partition, folder_name

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

    def __init__(self, store: Store, asset: str, partition: Partition, recipe: str, path: Path, scratch: Path) -> None:
        self._store, self._asset, self._partition, self._recipe = store, asset, partition, recipe
        self.path = path
        self.scratch = scratch

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
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
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
        return self._store._place(manifest, self._partition, self.path)


class Store:
    """All artifacts below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, asset: str, partition: Partition) -> Path:
        """Where the versions of one asset's partition are."""
        return self.folder_of(asset, partition.key)

    def folder_of(self, asset: str, key: str | None) -> Path:
        """The same, of the partition that is written `key`."""
        return self.root / asset / folder_name(key)

    def by_recipe(self, asset: str, partition: Partition, recipe: str) -> Artifact | None:
        """The artifact that `recipe` gave, if it is in the store with all its files."""
        entry = self.folder(asset, partition) / "recipes" / f"{recipe}.json"
        if not entry.is_file():
            return None
        manifest = Manifest.read(entry)
        path = self.folder(asset, partition) / manifest.version
        whole = path.is_dir() and all((path / file.path).is_file() for file in manifest.files)
        return Artifact(path, manifest) if whole else None

    def current(self, asset: str, partition: Partition) -> Artifact | None:
        """The artifact that the study last asked for, if it is in the store with all its files."""
        recipe = self._current_recipe(asset, partition.key)
        return None if recipe is None else self.by_recipe(asset, partition, recipe)

    def built(self, asset: str, partition: Partition) -> Artifact:
        """The same.

        Raises:
            LwfError: there is none.
        """
        artifact = self.current(asset, partition)
        if artifact is None:
            raise LwfError(f"{cell_name(asset, partition.key)} is not built; `lwf build` builds it")
        return artifact

    def current_manifest(self, asset: str, key: str | None) -> Manifest | None:
        """The manifest of what the study last asked for, whether its files are still there or not."""
        entry = self.folder_of(asset, key) / "recipes" / f"{self._current_recipe(asset, key)}.json"
        return Manifest.read(entry) if entry.is_file() else None

    def is_current(self, manifest: Manifest) -> bool:
        """Whether the artifact is what its study last asked for."""
        current = self.current_manifest(manifest.asset, manifest.partition)
        return current is not None and (current.recipe, current.version) == (manifest.recipe, manifest.version)

    def manifests(self, asset: str = "*") -> Iterator[Manifest]:
        """Every manifest that there ever was, of one asset or of all, whether its artifact is still there or not;
        newest first. One that was changed since is passed over, unless it is what its recipe last gave."""
        folders = [*self.root.glob(f"{asset}/*/manifests"), *self.root.glob(f"{asset}/*/recipes")]
        entries = [path for folder in folders for path in folder.glob("*.json")]
        seen = set[str]()
        for path in sorted(entries, key=lambda path: (-path.stat().st_mtime_ns, path)):
            seal = hash_file(path)
            if seal not in seen and (path.parent.name == "recipes" or path.stem == seal):
                seen.add(seal)
                yield Manifest.read(path)

    def artifact_folder(self, entry: InputVersion | Manifest) -> Path:
        """Where the files of an artifact are."""
        return self.folder_of(entry.asset, entry.partition) / entry.version

    def sealed_path(self, entry: InputVersion | Manifest, seal: str) -> Path:
        """Where the manifest of that seal is kept."""
        return self.folder_of(entry.asset, entry.partition) / "manifests" / f"{seal}.json"

    def set_current(self, artifact: Artifact, partition: Partition) -> None:
        """Make `artifact` the one that downstream assets, views and reports read."""
        folder = self.folder(artifact.manifest.asset, partition)
        write_atomically(folder / "current", artifact.manifest.recipe + "\n")

    @contextmanager
    def draft(self, asset: str, partition: Partition, recipe: str) -> Iterator[Draft]:
        """A draft of one recipe's artifact, for the process that holds its `lock`. What is not committed when the block
        ends is removed; scratch is kept after a failure and removed after a success."""
        folder = self.folder(asset, partition)
        scratch = folder / "scratch" / recipe
        scratch.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f".draft-{recipe}-", dir=folder))
        path.chmod(0o755)
        try:
            yield Draft(self, asset, partition, recipe, path, scratch)
        finally:
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)

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
            verdicts = json.loads(path.read_text()) if path.is_file() else {}
            write_atomically(path, json.dumps({**verdicts, name: dict(verdict)}, indent=2, sort_keys=True) + "\n")

    def verdicts(self, asset: str, partition: Partition, subject: str) -> dict[str, dict[str, Any]]:
        """What the checks said about `subject`: a version, with the versions of whatever it was checked against."""
        path = self.folder(asset, partition) / "checks" / f"{subject}.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def all_verdicts(self, manifest: Manifest) -> dict[str, dict[str, Any]]:
        """What was said of an artifact, whatever it was checked against; by check."""
        folder = self.folder_of(manifest.asset, manifest.partition) / "checks"
        said: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob(f"{manifest.version}*.json"), key=lambda path: path.stat().st_mtime):
            said |= json.loads(path.read_text())
        return said

    def keep_study(self, settings: Mapping[str, Any]) -> str:
        """Keep the settings of a study; returns the sha256 that they are found by."""
        text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        digest = hashlib.sha256(text.encode()).hexdigest()
        path = self.study_path(digest)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)
        return digest

    def study_path(self, digest: str) -> Path:
        """Where the study of that sha256 is kept."""
        return self.root / STUDIES / f"{digest}.json"

    def _current_recipe(self, asset: str, key: str | None) -> str | None:
        pointer = self.folder_of(asset, key) / "current"
        return pointer.read_text().strip() if pointer.is_file() else None

    def _place(self, manifest: Manifest, partition: Partition, draft: Path) -> Artifact:
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
        return Artifact(target, manifest)


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
