"""The files of artifacts in a shared place: each once, by its sha256."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lwf_assets.disk.sums import trouble_with
from lwf_assets.disk.writing import write_atomically
from lwf_assets.object_storage.at_once import each_at_once
from lwf_assets.object_storage.bucket import Bucket, DamagedObjectError
from lwf_assets.store.manifest import MANIFEST, FileEntry, Manifest
from lwf_assets.store.shared.index import Index
from lwf_assets.store.shared.place import GRACE, file_key


class Files:
    """Those in one bucket. `right` has the tags of objects whose bytes this machine has hashed, or sent."""

    def __init__(self, bucket: Bucket, right: Index) -> None:
        self.bucket, self._right = bucket, right

    def upload(self, manifest: Manifest, folder: Path, *, anew: bool = False) -> None:
        """Upload those files of an artifact that are not there, several at once; `anew`: all of them."""
        by_hash = {entry.sha256: entry for entry in manifest.files}
        sent = each_at_once(lambda sha256: self.upload_file(sha256, folder / by_hash[sha256].path, anew=anew), by_hash)
        self._know({sha256: tag for sha256, tag in zip(by_hash, sent, strict=True) if tag is not None})

    def upload_file(self, sha256: str, path: Path, *, anew: bool = False) -> str | None:
        """Upload a file, unless it is there, or in any case if it is to be `anew`; returns its tag if it was sent."""
        there = None if anew else self.bucket.look(file_key(sha256))
        # An old one may be about to be removed by another machine that saw nothing in need of it.
        if there is None or time.time() - there.modified.timestamp() > GRACE / 2:
            return self.bucket.upload(file_key(sha256), path)
        return None

    def bring(self, manifest: Manifest, folder: Path, entries: Sequence[FileEntry]) -> None:
        """Download files of an artifact into its folder, several at once, and put the manifest beside them.

        Raises:
            DamagedObjectError: one is missing, or has other bytes.
        """

        def bring(entry: FileEntry) -> None:
            try:
                self.bucket.download(file_key(entry.sha256), folder / entry.path, entry.sha256, entry.size)
            except DamagedObjectError as error:
                raise DamagedObjectError(
                    f"{manifest.name} {manifest.version}: {entry.path}: {error}. Nothing was computed from it. "
                    "`lwf repair` on a machine that has the file publishes it again; or make it anew with "
                    f"`lwf build --force {manifest.asset}`"
                ) from None

        folder.mkdir(parents=True, exist_ok=True)
        each_at_once(bring, entries)
        if not (folder / MANIFEST).exists():
            write_atomically(folder / MANIFEST, manifest.to_json())

    def troubles(self, manifest: Manifest, hashed: Callable[[FileEntry], object]) -> list[tuple[FileEntry, str]]:
        """Files of an artifact that are missing, or have other bytes. What a service verifies itself, and has by the
        tag that it had when its bytes were last hashed, is not read again; anything else is read and hashed."""

        right: dict[str, str] = {}

        def look(entry: FileEntry) -> str | None:
            what = self._trouble_with(entry, right)
            hashed(entry)
            return what

        found = zip(manifest.files, each_at_once(look, manifest.files), strict=True)
        self._know(right)
        return [(entry, what) for entry, what in found if what is not None]

    def mend(self, entry: FileEntry, folder: Path) -> bool:
        """Upload a file again, if it is whole in `folder`."""
        if trouble_with(folder / entry.path, entry.sha256) is not None:
            return False
        self.upload_file(entry.sha256, folder / entry.path, anew=True)
        return True

    def _trouble_with(self, entry: FileEntry, right: dict[str, str]) -> str | None:
        """What is wrong with a file; the tag of one that was read and is right goes to `right`."""
        key = file_key(entry.sha256)
        there = self.bucket.look(key)
        if there is None:
            return f"the shared store has lost it ({key})"
        if self.bucket.verifies_itself and self._right.tags().get(entry.sha256) == there.tag:
            return None
        found = self.bucket.hash_of(key)
        if found != entry.sha256:
            return f"the shared store has other bytes ({key}): their sha256 is {found[:16]}.."
        right[entry.sha256] = there.tag
        return None

    def _know(self, right: dict[str, str]) -> None:
        if right and self.bucket.verifies_itself:
            with self._right.changed() as changes:
                changes.update(right)
