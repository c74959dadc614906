"""Removal from a shared place, in two steps a day apart, so that no build of another machine loses what it needs.

First an artifact is marked as doomed and counts as removed. Its files go when the mark is older than `GRACE`, unless
some other artifact, or unfinished work, has them too. An upload that finds an old file writes it again (see
`SharedMirror.upload_file`), so that it is not old any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from lwf_assets.store.manifest import Manifest
from lwf_assets.store.shared.mirror import SharedMirror
from lwf_assets.store.shared.place import DOOMED, FILES, GRACE, SCRATCH, doomed_key, file_key, published_key
from lwf_assets.store.store import Store


def doom(mirror: SharedMirror, manifests: Iterable[Manifest]) -> None:
    """Mark artifacts as removed."""
    with mirror.index.changed() as tags:
        for manifest in manifests:
            mirror.bucket.write(doomed_key(manifest), b"")
            mirror.bucket.delete([published_key(manifest)])
            tags.pop(published_key(manifest), None)


def sweep(store: Store, mirror: SharedMirror, *, now: float | None = None) -> int:
    """Remove files that nothing needs, and has not for `GRACE` seconds; returns how many bytes they had."""
    now = time.time() if now is None else now
    doomed = mirror.bucket.list(DOOMED)
    old = {name for name, entry in doomed.items() if now - entry.modified.timestamp() > GRACE}
    live = set[str]()
    for manifest in store.manifests():
        mark = doomed_key(manifest)
        if mirror.has(manifest) or (mark in doomed and mark not in old):
            live |= {file_key(entry.sha256) for entry in manifest.files}
    for name in mirror.bucket.list(SCRATCH):
        found = mirror.bucket.read(name)
        live |= {file_key(sha256) for sha256 in json.loads(found.content).values()} if found is not None else set()
    dead = {
        name: entry.size
        for name, entry in mirror.bucket.list(FILES).items()
        if name not in live and now - entry.modified.timestamp() > GRACE
    }
    mirror.bucket.delete(dead)
    mirror.bucket.delete(old)
    return sum(dead.values())
