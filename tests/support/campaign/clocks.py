"""A machine whose clock is set while a build runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from world import new_world

from campaign.attack import Field, Trial
from campaign.builds import PATIENCE, start, troubles

LIBRARY = "libfaketimeMT.so.1"
JUMPS = ("-1h", "+30d", "-400d")


def clocks(field: Field) -> Iterator[Trial]:
    """One jump a build, when its training has begun."""
    whole = field.whole
    library = next(Path("/usr/lib").rglob(LIBRARY), None)
    for jump in JUMPS[: field.trials]:
        what = f"the clock jumps by {jump}"
        if library is None:
            yield Trial(what, f"{LIBRARY} is not installed: not tried")
            continue
        world, log = new_world(field.folder / jump), field.folder / f"{jump}.log"
        clock = field.folder / f"{jump}.clock"
        clock.write_text("+0\n")
        faked = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        process = start(world, "build", log=log, **faked)
        base = world.home.store.root / "base_model"
        while process.poll() is None and not base.exists():
            pass
        clock.write_text(f"{jump}\n")
        code = process.wait(PATIENCE)
        yield Trial(what, troubles(world, whole) if code == 0 else f"exit code {code}; see {log}")
