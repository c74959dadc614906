"""Unfinished work that another machine can go on from: checkpoints of a training, shards of a generation.

What is complete in a scratch folder is shared every few seconds, by a thread, while the work goes on: folders with sums
(see `disk/sums.py`) and sealed shards. One object lists all of it and is replaced as a whole, so another machine finds
a state that there was, or none.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lwf_assets.disk.hashes import hash_file
from lwf_assets.disk.sums import SUMS, unsealed
from lwf_assets.errors import LwfError
from lwf_assets.object_storage.bucket import DamagedObjectError
from lwf_assets.store.shared.files import Files
from lwf_assets.store.shared.place import file_key

EVERY = 5.0
"""Seconds between two looks at what is new."""

_log = logging.getLogger("lwf.store")


@contextmanager
def shared_scratch(files: Files, key: str, scratch: Path) -> Iterator[None]:
    """Share what is complete in the folder `scratch` while the block works there; first, if it is empty, bring what
    another machine shared under `key`. What is shared is forgotten when the block ends well."""
    if not any(scratch.iterdir()):
        _bring(files, key, scratch)
    ended = threading.Event()
    thread = threading.Thread(target=_share_until, args=(files, key, scratch, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    files.bucket.delete([key])


def _share_until(files: Files, key: str, scratch: Path, ended: threading.Event) -> None:
    shared: dict[str, str] = {}
    while not ended.wait(EVERY):
        try:
            found = complete_files(scratch)
            if found and found != shared:
                for name, sha256 in found.items():
                    files.upload_file(sha256, scratch / name)
                files.bucket.write(key, json.dumps(found).encode())
                shared = found
        except FileNotFoundError:
            continue  # a checkpoint was removed meanwhile, as there is a newer one
        except (LwfError, OSError) as error:
            _log.warning("unfinished work is not shared: %s", error)


def complete_files(scratch: Path) -> dict[str, str]:
    """sha256 by path of what is complete: of each training its newest checkpoint, models that are finished, shards."""
    folders = [path.parent for path in scratch.rglob(SUMS)]
    newest: dict[Path, Path] = {}
    for folder in sorted(folders, key=_number):
        newest[folder.parent if folder.name.startswith("checkpoint-") else folder] = folder
    found = dict[str, str]()
    for folder in newest.values():
        place = folder.relative_to(scratch)
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        found |= {f"{place}/{name}": sha256 for sha256, _, name in (line.partition("  ") for line in lines)}
        found[f"{place}/{SUMS}"] = hash_file(folder / SUMS)
    for shard in scratch.glob("shard-*.json"):
        if unsealed(shard) is not None:
            found[shard.name] = hash_file(shard)
    return found


def _number(folder: Path) -> int:
    tail = folder.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def _bring(files: Files, key: str, scratch: Path) -> None:
    listed = files.bucket.read(key)
    if listed is None:
        return
    try:
        for name, sha256 in json.loads(listed.content).items():
            files.bucket.download(file_key(sha256), scratch / name, sha256)
    except (DamagedObjectError, ValueError, AttributeError) as error:
        _log.warning("unfinished work of another machine cannot be used, so it begins anew: %s", error)
