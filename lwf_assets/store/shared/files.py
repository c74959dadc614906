"""The files of artifacts in a shared place: each once, by its sha256."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lwf_assets.disk.sums import each_in_threads
from lwf_assets.disk.writing import write_atomically
from lwf_assets.object_storage.bucket import Bucket, DamagedObjectError
from lwf_assets.store.manifest import MANIFEST, FileEntry, Manifest
from lwf_assets.store.shared.place import GRACE, file_key


class Files:
    """Those in one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def upload(self, manifest: Manifest, folder: Path) -> None:
        """Upload those files of an artifact that are not there, several at once."""
        by_hash = {entry.sha256: entry for entry in manifest.files}
        each_in_threads(lambda sha256: self.upload_file(sha256, folder / by_hash[sha256].path), by_hash)

    def upload_file(self, sha256: str, path: Path) -> None:
        """Upload a file, unless it is there."""
        there = self.bucket.look(file_key(sha256))
        # An old one may be about to be removed by another machine that saw nothing in need of it.
        if there is None or time.time() - there.modified.timestamp() > GRACE / 2:
            self.bucket.upload(file_key(sha256), path)

    def bring(self, manifest: Manifest, folder: Path, entries: Sequence[FileEntry]) -> None:
        """Download files of an artifact into its folder, several at once, and put the manifest beside them.

        Raises:
            DamagedObjectError: one is missing, or has other bytes.
        """

        def bring(entry: FileEntry) -> None:
            try:
                self.bucket.download(file_key(entry.sha256), folder / entry.path, entry.sha256)
            except DamagedObjectError as error:
                raise DamagedObjectError(
                    f"{manifest.name} {manifest.version}: {entry.path}: {error}. Nothing was computed from it. "
                    "`lwf sync` on a machine that has it publishes it again; or make it anew with "
                    f"`lwf build --force {manifest.asset}`"
                ) from None

        folder.mkdir(parents=True, exist_ok=True)
        each_in_threads(bring, entries)
        if not (folder / MANIFEST).exists():
            write_atomically(folder / MANIFEST, manifest.to_json())
