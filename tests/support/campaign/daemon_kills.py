"""An unattended build under Dagster's daemon, of which now a run, now the daemon, now everything is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from servers_at_work import PROGRAMS
from world import World, new_world

from campaign.attack import Field, Trial
from campaign.builds import end_all, environment_of, made_at, processes_of, troubles
from dagster_project.automation.tags import BUILD_TAG, REQUEST_JOB
from dagster_project.runs.instance import open_instance
from dagster_project.ui.servers import workspace_file

VICTIMS = ("a run", "the daemon", "everything")
LONGEST = 20.0
"""Seconds between two kills, at most."""
NOTICED_SOON = "poll_interval_seconds: 2\n  start_timeout_seconds: 60"
PATIENCE = 900.0
"""Seconds until a build that nobody disturbs any more must have come to its end."""


def daemon_kills(field: Field) -> Iterator[Trial]:
    """One kill a trial; when a home is built, the next one begins."""
    whole = field.whole
    done, home = 0, 0
    while done < field.trials:
        home += 1
        unattended = _Unattended(new_world(field.folder / str(home)))
        said = list[Trial]()
        try:
            unattended.begin()
            while done < field.trials and not unattended.is_built:
                time.sleep(field.draws.uniform(1.0, LONGEST))
                if unattended.is_idle():  # it gave up on a cell that was killed too often; nothing is there to kill
                    unattended.request()
                    continue
                finished, victim = made_at(unattended.world), field.draws.choice(VICTIMS)
                what = f"{victim} killed, {len(finished)} artifacts finished"
                unattended.kill(victim)
                done += 1
                again = [name for name, when in finished.items() if made_at(unattended.world).get(name) != when]
                said.append(Trial(what, f"was finished, and made again: {again}" if again else ""))
            finished = made_at(unattended.world)
            trouble = "" if unattended.ends_well() else "the build did not come to its end"
        finally:
            unattended.end()
        trouble = trouble or troubles(unattended.world, whole, finished)
        for number, trial in enumerate(said):
            last = number == len(said) - 1
            yield Trial(trial.what, trial.trouble or (trouble if last else ""))


class _Unattended:
    """A daemon with one world, and the request for a build."""

    def __init__(self, world: World) -> None:
        self.world = world
        open_instance(world.home)
        settings = world.home.root / "dagster" / "dagster.yaml"
        # A run whose process died is noticed soon, or a trial takes half a minute.
        settings.write_text(settings.read_text().replace("poll_interval_seconds: 30", NOTICED_SOON))
        more = {"LWF_SENSOR_SECONDS": "2", "DAGSTER_HOME": str(settings.parent)}
        self.environment = environment_of(world, **more)
        self.daemon: subprocess.Popen[bytes] | None = None

    @property
    def is_built(self) -> bool:
        return not self.world.stale()

    def begin(self) -> None:
        """Start the daemon, and request a build."""
        self.start()
        self.request()

    def request(self) -> None:
        """As the next tick of a schedule does."""
        command = [str(PROGRAMS / "dagster"), "job", "launch", "-j", REQUEST_JOB, "-w", str(workspace_file())]
        subprocess.run(command, env=self.environment, check=False, capture_output=True, cwd=self.world.folder)

    def start(self) -> None:
        """The daemon, with its code location."""
        command = [str(PROGRAMS / "dagster-daemon"), "run", "-w", str(workspace_file())]
        with (self.world.home.root / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True, cwd=self.world.folder
            )

    def kill(self, victim: str) -> None:
        """One run, the daemon alone, or every process; the daemon comes back, as a service does."""
        assert self.daemon is not None
        if victim == "a run":
            for process in self._runs()[:1]:
                os.kill(process, signal.SIGKILL)
            return
        if victim == "the daemon":
            self.daemon.kill()
        else:
            end_all(self.world)
        self.daemon.wait()
        self.start()

    def _runs(self) -> list[int]:
        found = []
        for process in processes_of(self.world):
            try:
                words = Path(f"/proc/{process}/cmdline").read_bytes()
            except OSError:
                continue
            if b"execute_run" in words or b"execute_step" in words or b"resume_run" in words:
                found.append(process)
        return found

    def ends_well(self) -> bool:
        """Whether the build ends, undisturbed from now on. A request that was lost with its run is made again."""
        deadline, asked = time.monotonic() + PATIENCE, time.monotonic()
        while time.monotonic() < deadline:
            if self.is_built and self.is_idle():
                return True
            if time.monotonic() - asked > 60 and self.is_idle():
                self.request()
                asked = time.monotonic()
            time.sleep(1)
        return False

    def is_idle(self) -> bool:
        """Whether no run of a build is queued or at work."""
        with dg.DagsterInstance.from_config(str(self.world.home.root / "dagster")) as instance:
            return all(run.is_finished for run in instance.get_runs() if BUILD_TAG in run.tags)

    def end(self) -> None:
        """As a machine that is shut down."""
        end_all(self.world)
        if self.daemon is not None:
            self.daemon.wait()
