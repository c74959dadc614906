"""Artifacts to put into a store."""

from __future__ import annotations

from typing import Any

from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact, Store

ASSET, PARTITION = "fisher_diagonal", Partition(learning_task="sums")


FILES = {"a.txt": b"one", "deep/b.bin": b"\x00two"}


def put(
    store: Store, recipe: str = "r1", files: dict[str, bytes] | None = None, *, current: bool = True, **parts: Any
) -> Artifact:
    """An artifact with these files, as `materialize` would put it there."""
    with store.lock(ASSET, PARTITION, recipe), store.draft(ASSET, PARTITION, recipe) as draft:
        for name, content in (FILES if files is None else files).items():
            (draft.path / name).parent.mkdir(exist_ok=True)
            (draft.path / name).write_bytes(content)
        given = {"code_version": "1", "settings": {}, "inputs": (), "summary": {}, "provenance": {}}
        artifact = draft.commit(**{**given, **parts})
        if current:
            store.set_current(artifact, PARTITION)
    return artifact
