"""Several commands on one home at once: builds of one study and of two, and everything else beside a build."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from servers_at_work import free_port, lwf_ui
from tiny import tiny_study_values
from world import World, new_world

from campaign.attack import Field, Trial
from campaign.builds import LWF, PATIENCE, environment_of, start, troubles

BESIDE = (
    ("gc", "--yes"),
    ("sql", "SELECT count(*) FROM lwf_manifests"),
    ("audit", "--verify"),
    ("plan",),
    ("report",),
    ("track", "--resend"),
    ("repair", "--yes"),
)
SAID = (0, 1)
"""Exit codes of a command that did what it could."""


def together(field: Field) -> Iterator[Trial]:
    """Each once, or as many as there are to be."""
    whole = field.whole
    trials: list[Callable[[], Trial]] = [
        partial(_builds, field, whole, 2),
        partial(_builds, field, whole, 4),
        partial(_two_studies, field, whole),
        *(partial(_beside, field, whole, words) for words in BESIDE),
        partial(_beside_ui, field, whole),
    ]
    for trial in trials[: field.trials]:
        yield trial()


def _builds(field: Field, whole: Mapping[str, str], count: int) -> Trial:
    world = new_world(field.folder / f"{count}-builds")
    logs = [field.folder / f"{count}-builds-{number}.log" for number in range(count)]
    running = [start(world, "build", log=log) for log in logs]
    trouble = _ends(running, logs) or troubles(world, whole) or _more_than_one_version(world)
    return Trial(f"{count} builds of one study at once", trouble)


def _two_studies(field: Field, whole: Mapping[str, str]) -> Trial:
    world = new_world(field.folder / "two-studies")
    other = World(field.folder / "other-study", world.home, tiny_study_values(field.folder / "other-study"))
    other.values |= {"name": "other", "training": {**other.values["training"], "learning_rate": 0.02}}
    logs = [field.folder / f"two-studies-{number}.log" for number in range(2)]
    running = [start(place, "build", log=log) for place, log in zip((world, other), logs, strict=True)]
    trouble = _ends(running, logs)
    if not trouble:
        # Of what both have, the one that was last is current: a build of each finds all of its own in the store.
        logs = [field.folder / f"two-studies-again-{number}.log" for number in range(2)]
        for place, log in zip((other, world), logs, strict=True):
            trouble = trouble or _ends([start(place, "build", log=log)], [log])
    return Trial("builds of two studies in one home at once", trouble or troubles(world, whole))


def _beside(field: Field, whole: Mapping[str, str], words: tuple[str, ...]) -> Trial:
    name = " ".join(words[:2]) if words[0] != "sql" else "sql"
    world, log = new_world(field.folder / words[0]), field.folder / f"beside-{words[0]}.log"
    running, times, trouble = start(world, "build", log=log), 0, ""
    while running.poll() is None and not trouble:
        done = subprocess.run(
            [*LWF, *words], env=environment_of(world), capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        times += 1
        if done.returncode not in SAID or "Traceback" in done.stderr:
            trouble = f"`lwf {name}` ended with {done.returncode}: {done.stderr[-300:]}"
    trouble = trouble or _ends([running], [log]) or troubles(world, whole)
    return Trial(f"`lwf {name}` {times} times beside a build", trouble)


def _beside_ui(field: Field, whole: Mapping[str, str]) -> Trial:
    world, log = new_world(field.folder / "ui"), field.folder / "beside-ui.log"
    ports = ["--dagster-port", str(free_port()), "--mlflow-port", str(free_port())]
    environment = {"LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file)}
    with lwf_ui(ports, environment, signal.SIGTERM):
        trouble = _ends([start(world, "build", log=log)], [log])
    time.sleep(1)
    return Trial("a build beside `lwf ui`", trouble or troubles(world, whole))


def _ends(running: list[subprocess.Popen[bytes]], logs: list[Path]) -> str:
    for process, log in zip(running, logs, strict=True):
        code = process.wait(PATIENCE)
        if code != 0 or b"Traceback" in log.read_bytes():
            return f"a build ended with {code}; see {log}"
    return ""


def _more_than_one_version(world: World) -> str:
    """With the same recipe there must be one."""
    for folder in world.home.store.root.glob("*/*"):
        made = [path.name for path in folder.glob("[0-9a-f]" * 16) if path.is_dir()]
        if len(made) > 1:
            return f"{folder} has {len(made)} versions"
    return ""
