"""Publishes an artifact, and kills itself before its nth request to the object store.

    python killed_publisher.py URL ROOT LAST

Prints how many requests it made, if it was not killed before.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
from stored import put

from lwf_assets.object_storage.bucket import Bucket
from lwf_assets.store.shared.mirror import SharedMirror
from lwf_assets.store.store import Store

FILES = {"a.txt": b"one", "deep/b.bin": bytes(range(256)) * 1000, "c": b"three"}


def main(url: str, root: Path, last: int) -> None:
    """Publish, and make current."""
    made = 0

    def counted(request: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any, **named: Any) -> Any:
            nonlocal made
            made += 1
            if made == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return request(*arguments, **named)

        return ask

    for name in ("put", "get", "head", "list", "delete"):
        setattr(obstore, name, counted(getattr(obstore, name)))
    vars(os)["fsync"] = lambda descriptor: None
    store = Store(root, SharedMirror(root, Bucket(url, patience=5)))
    store.refresh()
    put(store, files=FILES)
    print(made)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
