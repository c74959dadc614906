"""Homes that run out of room: a small disk, a limit on the size of files; and then there is room again."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from world import World, new_world

from campaign.attack import Field, Trial
from campaign.builds import LWF, PATIENCE, environment_of, made_at, run, troubles
from lwf_assets.store.home import Home

SIZES = (300, 1_000, 2_500, 4_000, 6_000)
"""kB of a disk; the tiny study takes 8,300 with all its records."""
LIMITS = (20, 60, 120, 250, 400)
"""kB of the largest file that a process may write."""
ROOM = "100m"


def small_disks(field: Field) -> Iterator[Trial]:
    """A disk of each size. Needs the right to mount."""
    whole = field.whole
    for size in _some(SIZES, field.trials):
        place = field.folder / f"disk-{size}"
        world = new_world(field.folder / f"study-{size}")
        world = World(world.folder, Home(place / "home"), world.values)
        place.mkdir(parents=True)
        what = f"a disk of {size} kB"
        if _mount(place, f"size={size}k") != 0:
            yield Trial(what, "this process may mount nothing: not tried")
            continue
        try:
            log = field.folder / f"disk-{size}.log"
            trouble = _refused(world, log, ("the disk is full", "would not fit on the disk"))
            _mount(place, f"remount,size={ROOM}")
            yield Trial(what, trouble or _goes_on(world, whole, log))
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False)


def small_files(field: Field) -> Iterator[Trial]:
    """A limit on the size of files (`ulimit -f`) of each size."""
    whole = field.whole
    for limit in _some(LIMITS, field.trials):
        world, log = new_world(field.folder / f"limit-{limit}"), field.folder / f"limit-{limit}.log"
        trouble = _refused(world, log, ("`ulimit -f` allows",), limit=limit * 1000)
        yield Trial(f"no file larger than {limit} kB", trouble or _goes_on(world, whole, log))


def _some(values: tuple[int, ...], count: int) -> tuple[int, ...]:
    return values[len(values) // 2 :][:1] if count == 1 else values[:count]


def _mount(place: Path, options: str) -> int:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=False).returncode


def _refused(world: World, log: Path, said: tuple[str, ...], limit: int | None = None) -> str:
    """A build that must end with one line which says what is full and how much is needed."""

    def lowered() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [*LWF, "build"],
        env=environment_of(world),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lowered,
        timeout=PATIENCE,
        check=False,
    )
    text = done.stderr.decode(errors="replace")
    log.write_text(text)
    last = text.rstrip().splitlines()[-1:] or [""]
    if done.returncode != 1:
        return f"exit code {done.returncode} instead of 1; see {log}"
    if not (last[0].startswith("Error: ") and any(words in last[0] for words in said)):
        return f"the last line is {last[0]!r}; see {log}"
    if "at least" not in last[0]:
        return f"it does not say how much is needed: {last[0]!r}"
    return f"a traceback was shown; see {log}" if "Traceback" in text else ""


def _goes_on(world: World, whole: Mapping[str, str], log: Path) -> str:
    finished = made_at(world)
    code = run(world, "build", log=log)
    return troubles(world, whole, finished) if code == 0 else f"with room again, it ended with {code}; see {log}"
