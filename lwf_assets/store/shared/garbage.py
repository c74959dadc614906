"""Removal from a shared place, in two steps a day apart, so that no build of another machine loses what it needs.

First an artifact is marked as doomed and counts as removed. Its files go when the mark is older than `GRACE`, unless
some other artifact, or unfinished work, has them too. An upload that finds an old file writes it again (see
`Files.upload_file`), so that it is not old any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from lwf_assets.object_storage.bucket import Bucket
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.shared.place import (
    DOOMED,
    FILES,
    GRACE,
    PUBLISHED,
    SCRATCH,
    doomed_key,
    file_key,
    published_key,
)


def doom(bucket: Bucket, name: str) -> None:
    """Mark the artifact `asset/partition/version` as removed."""
    bucket.write(f"{DOOMED}/{name}", b"")
    bucket.delete([f"{PUBLISHED}/{name}"])


def sweep(bucket: Bucket, manifests: Iterable[Manifest], *, now: float | None = None) -> int:
    """Remove files that nothing has needed for `GRACE` seconds; returns how many bytes they had.

    Args:
        bucket: the shared place.
        manifests: every manifest that there ever was in it.
        now: seconds since the epoch.
    """
    now = time.time() if now is None else now
    published, doomed = bucket.list(PUBLISHED), bucket.list(DOOMED)
    old = {name for name, entry in doomed.items() if now - entry.modified.timestamp() > GRACE}
    live = set[str]()
    for manifest in manifests:
        if published_key(manifest) in published or doomed_key(manifest) in doomed.keys() - old:
            live |= {file_key(entry.sha256) for entry in manifest.files}
    for name in bucket.list(SCRATCH):
        found = bucket.read(name)
        live |= {file_key(sha256) for sha256 in json.loads(found.content).values()} if found is not None else set()
    dead = {
        name: entry.size
        for name, entry in bucket.list(FILES).items()
        if name not in live and now - entry.modified.timestamp() > GRACE
    }
    bucket.delete(dead)
    bucket.delete(old)
    return sum(dead.values())
