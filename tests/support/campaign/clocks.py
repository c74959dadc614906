"""A machine whose clock is set while a build runs."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from world import new_world

from campaign.attack import Field, Trial
from campaign.builds import PATIENCE, start, troubles

SOURCE = Path(__file__).with_name("set_clock.c")
DAY = 24 * 3600
JUMPS = {"-1 hour": -3600, "+30 days": 30 * DAY, "-400 days": -400 * DAY}


def clocks(field: Field) -> Iterator[Trial]:
    """One jump a build, when its first artifact is there."""
    library = _library(field.folder)
    for number, (name, seconds) in enumerate(list(JUMPS.items())[: field.trials]):
        what = f"the clock is set by {name}"
        if library is None:
            yield Trial(what, "no C compiler: not tried")
            continue
        world, log = new_world(field.folder / str(number)), field.folder / f"{number}.log"
        clock = field.folder / f"{number}.clock"
        clock.write_text("0")
        process = start(world, "build", log=log, LD_PRELOAD=str(library), SET_CLOCK=str(clock))
        base = world.home.store.root / "base_model"
        while process.poll() is None and not base.exists():
            time.sleep(0.05)
        clock.write_text(str(seconds))
        code = process.wait(PATIENCE)
        yield Trial(what, troubles(world, field.whole) if code == 0 else f"exit code {code}; see {log}")


def _library(folder: Path) -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "set_clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    return library
