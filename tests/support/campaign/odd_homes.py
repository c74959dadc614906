"""Homes with odd names, read-only homes, and builds that may open few files or map little memory."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator

from world import World, new_world

from campaign.attack import Field, Trial
from campaign.builds import LWF, PATIENCE, environment_of, run, troubles
from lwf_assets.store.home import Home

NAMES = ("a home with spaces", "Größe 日本語", 'quote\'d "home"', "-dash", "100% #1 & more;", "new\nline")
MEMORY = (500, 1_000, 2_000, 3_500)
"""MB that a process may map; less than the libraries do."""


def odd_homes(field: Field) -> Iterator[Trial]:
    """Each once."""
    whole = field.whole
    for number, name in enumerate(NAMES[: field.trials]):
        world = new_world(field.folder / str(number) / name)
        log = field.folder / f"{number}.log"
        code = run(world, "build", log=log)
        yield Trial(f"a home called {name!r}", troubles(world, whole) if code == 0 else f"exit code {code}; see {log}")
    for files in (64, 32):
        yield from _limited(field, resource.RLIMIT_NOFILE, files, f"{files} open files", files >= 64)
    for size in MEMORY:
        yield from _limited(field, resource.RLIMIT_AS, size * 1_000_000, f"{size} MB of addresses", False)
    yield _read_only(field)


def _limited(field: Field, limit: int, value: int, what: str, enough: bool) -> Iterator[Trial]:
    world = new_world(field.folder / what.replace(" ", "-"))
    done = subprocess.run(
        [*LWF, "build"],
        env=environment_of(world),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(limit, (value, value)),
        timeout=PATIENCE,
        check=False,
    )
    last = (done.stderr.decode(errors="replace").rstrip().splitlines() or [""])[-1]
    if enough:
        whole = field.whole
        yield Trial(what, troubles(world, whole) if done.returncode == 0 else last)
    elif done.returncode == 1 and last.startswith("Error: `ulimit ") and not (world.home.root / "dagster").exists():
        yield Trial(what)
    else:
        yield Trial(what, f"exit code {done.returncode}, last line {last!r}")


def _read_only(field: Field) -> Trial:
    place = field.folder / "read-only"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], check=False).returncode != 0:
        return Trial("a read-only home", "this process may mount nothing: not tried")
    try:
        world = new_world(field.folder / "read-only-study")
        world = World(world.folder, Home(place / "home"), world.values)
        done = subprocess.run(
            [*LWF, "build"], env=environment_of(world), capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)
    lines = done.stderr.rstrip().splitlines()
    good = done.returncode == 1 and "cannot be written" in lines[-1] and "Traceback" not in done.stderr
    return Trial("a read-only home", "" if good else f"exit code {done.returncode}, last line {lines[-1:]}")
