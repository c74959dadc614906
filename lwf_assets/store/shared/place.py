"""The shared place itself: that it is one of ours, and the names in it."""

from __future__ import annotations

import json

from lwf_assets.errors import LwfError
from lwf_assets.object_storage.bucket import Bucket
from lwf_assets.object_storage.problems import VARIABLE
from lwf_assets.store.manifest import InputVersion, Manifest
from lwf_assets.store.partition import folder_name

MARK = "lwf-store.json"
_LAYOUT = {"store": "lwf-assets", "layout": 1}
RECORDS, PUBLISHED, DOOMED, FILES, SCRATCH = "records", "published", "doomed", "files", "scratch"
GRACE = 24 * 3600.0
"""Seconds that what nothing needs is kept before it is removed: another machine may be about to need it."""


def check_place(bucket: Bucket) -> None:
    """Make sure that the place is a shared store; an empty one becomes one.

    Raises:
        LwfError: it holds other things, or is of a newer layout.
    """
    found = bucket.read(MARK)
    if found is None:
        if bucket.is_empty():
            bucket.create(MARK, json.dumps(_LAYOUT).encode())
            return
        raise LwfError(
            f"{VARIABLE}={bucket.url}: holds objects, and none of them is {MARK}: it is not a shared store. Give an "
            "empty prefix, such as one more folder behind it"
        )
    try:
        layout = json.loads(found.content)
    except ValueError:
        layout = None
    if layout != _LAYOUT:
        raise LwfError(
            f"{VARIABLE}={bucket.url}: its {MARK} is not one that this version of the code wrote; it was written by "
            "another version, or changed. Give another prefix, or use that version"
        )


def file_key(sha256: str) -> str:
    """Where a file is."""
    return f"{FILES}/{sha256[:2]}/{sha256}"


def published_key(entry: Manifest | InputVersion) -> str:
    """The mark that all files of an artifact are there."""
    return f"{PUBLISHED}/{_place_of(entry)}"


def doomed_key(entry: Manifest | InputVersion) -> str:
    """The mark that nothing needs an artifact any more, since it was written."""
    return f"{DOOMED}/{_place_of(entry)}"


def scratch_key(asset: str, key: str | None, recipe: str) -> str:
    """What is unfinished of a recipe."""
    return f"{SCRATCH}/{asset}/{folder_name(key)}/{recipe}.json"


def _place_of(entry: Manifest | InputVersion) -> str:
    return f"{entry.asset}/{folder_name(entry.partition)}/{entry.version}"
