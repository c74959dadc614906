"""Builds of different studies in one home take turns.

What a study asked for last is current, and a build goes on until all that it asks for is. Two builds of one study want
the same; builds of two would each take back what the other had just made current, for as long as both run.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lwf_assets.disk.hashes import canonical_hash
from lwf_assets.disk.locks import is_held
from lwf_assets.store.home import Home
from lwf_assets.study.study import Study

PAUSE = 1.0
"""Seconds between two looks at whether it is this study's turn."""

_log = logging.getLogger("lwf.build")


@contextmanager
def turn_of(study: Study, home: Home) -> Iterator[None]:
    """The block is the turn of `study`: no other process builds another study in this home meanwhile. A process that
    dies gives its turn back."""
    folder = home.root / "building"
    own = folder / f"{study.name}-{canonical_hash(study.model_dump(mode='json'))[:16]}"
    told = False
    while True:
        own.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "turns.lock"):
            others = _at_work(folder, own)
            if not others:
                mine = FileLock(own / f"{os.getpid()}-{time.monotonic_ns()}.lock")
                mine.acquire()
                break
        if not told:
            name = others[0].parent.name.rpartition("-")[0]
            words = "The study %s is being built in %s. This build begins when that one has ended."
            _log.warning(words, name, home.root)
            told = True
        time.sleep(PAUSE)
    try:
        yield
    finally:
        mine.release()
        Path(mine.lock_file).unlink(missing_ok=True)


def _at_work(folder: Path, own: Path) -> list[Path]:
    """The locks of builds of other studies, without those that dead processes left."""
    held = list[Path]()
    for path in folder.glob("*/*.lock"):
        if not is_held(path):
            path.unlink(missing_ok=True)
        elif path.parent != own:
            held.append(path)
    return held
