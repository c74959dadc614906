"""Builds of the tiny study in processes of their own, and what must be true of a home whatever was done to it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from world import World, new_world

from lwf_assets.disk.locks import is_held
from lwf_assets.graph.cells import cells
from lwf_assets.store.store import Artifact

LWF = (sys.executable, "-m", "dagster_project.cli")
DAGSTERS = (".logs_queue", ".telemetry", ".db")
"""Names of Dagster's own, the last of its events that belong to no run; every other name with a dot before it is
unfinished work of ours."""
PATIENCE = 900.0
"""Seconds that a build of the tiny study may take on a machine with other work."""


def environment_of(world: World, **more: str) -> dict[str, str]:
    """What `lwf` reads."""
    own = {"LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, **more}


def start(world: World, *words: str, log: Path, **more: str) -> subprocess.Popen[bytes]:
    """`lwf` with these words, its output appended to `log`."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [*LWF, *words],
            env=environment_of(world, **more),
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
            preexec_fn=_as_in_the_foreground,
        )


def _as_in_the_foreground() -> None:
    """A job in the background has Ctrl-C ignored, and with Dagster termination too; and so have its children."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def run(world: World, *words: str, log: Path, **more: str) -> int:
    """The same, to its end."""
    process = start(world, *words, log=log, **more)
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def undisturbed(folder: Path) -> World:
    """The tiny study, built once without any harm; what all others are compared with."""
    world = new_world(folder)
    world.build()
    return world


def artifacts(world: World) -> dict[str, Artifact]:
    """The current artifact of every cell that has one."""
    found = {str(cell): world.home.store.current(cell.asset, cell.partition) for cell in cells(world.study)}
    return {name: artifact for name, artifact in found.items() if artifact is not None}


def versions(world: World) -> dict[str, str]:
    """Their versions, which are hashes of their bytes."""
    return {name: artifact.version for name, artifact in artifacts(world).items()}


def made_at(world: World) -> dict[str, tuple[str, str]]:
    """Version of every artifact, and when the work on it began: another where it was made twice."""
    return {name: (a.version, str(a.manifest.provenance["began"])) for name, a in artifacts(world).items()}


def troubles(world: World, whole: Mapping[str, str], finished: Mapping[str, tuple[str, str]] | None = None) -> str:
    """What is not as it should be when a build has come to its end.

    Args:
        world: what was built.
        whole: the versions of an undisturbed build.
        finished: what was finished before the last build began, which must be there unchanged.
    """
    return "; ".join(_troubles(world, whole, finished or {}))


def _troubles(world: World, whole: Mapping[str, str], finished: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    found, made = versions(world), made_at(world)
    other = sorted(name for name in whole if found.get(name) != whole[name])
    if other:
        yield f"other bytes than those of an undisturbed build: {', '.join(other)}"
    twice = sorted(name for name, when in finished.items() if made.get(name) != when)
    if twice:
        yield f"was finished, and made again: {', '.join(twice)}"
    drafts = [path for path in world.home.root.rglob(".*") if path.name not in DAGSTERS]
    if drafts:
        yield f"left behind: {drafts[0].relative_to(world.home.root)}"
    left = processes_of(world)
    if left:
        yield f"processes left: {left}"
    yield from _locks_held(world)
    yield from _databases(world)


def processes_of(world: World) -> list[int]:
    """Processes that work on this home, but not this one."""
    mark, found = f"LWF_HOME={world.home.root}\0".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                ended = "Z" in (entry / "stat").read_text().rpartition(")")[2]
                if not ended and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def end_all(world: World) -> None:
    """As a power cut does: every process that works on this home, at once."""
    deadline = time.monotonic() + 30
    while (left := processes_of(world)) and time.monotonic() < deadline:
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.1)


def _locks_held(world: World) -> Iterator[str]:
    for path in world.home.root.rglob("*.lock"):
        if is_held(path):
            yield f"still locked: {path.relative_to(world.home.root)}"


def _databases(world: World) -> Iterator[str]:
    for path in (*world.home.root.glob("*.db"), *(world.home.root / "dagster").rglob("*.db")):
        with closing(sqlite3.connect(path, timeout=60)) as database:
            found = database.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            yield f"{path.relative_to(world.home.root)}: {found}"
