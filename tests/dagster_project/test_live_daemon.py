"""Under a live Dagster daemon: whoever asks, and however often, a change leads to the right materializations, once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import pytest
from servers_at_work import PROGRAMS
from world import World, copied

from dagster_project.automation.tags import ASKED_BY_TAG, BUILD_TAG, CELL_TAG, REQUEST_JOB
from dagster_project.runs.failures import FAILURE_TAG
from dagster_project.runs.instance import open_instance
from dagster_project.ui.servers import workspace_file
from lwf_assets.lineage.audit import audit
from lwf_assets.lineage.find import find_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # on a machine with other work

SENSOR_SECONDS = 6


class Daemon:
    """A daemon with the code location of one world."""

    def __init__(self, world: World, **environment: str) -> None:
        self.world = world
        self.environment = {
            **os.environ,
            "LWF_HOME": str(world.home.root),
            "LWF_STUDY": str(world.file),
            "LWF_SENSOR_SECONDS": str(SENSOR_SECONDS),
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self.instance = open_instance(world.home)
        self.environment["DAGSTER_HOME"] = os.environ["DAGSTER_HOME"]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ends it as a machine that is shut down does: every process of it at once."""
        command = [str(PROGRAMS / "dagster-daemon"), "run", "-w", str(workspace_file())]
        with (self.world.home.root / "daemon.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True, cwd=self.world.folder
            )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def turn_on(self, sensor: str) -> None:
        """As the switch in the UI does."""
        command = [str(PROGRAMS / "dagster"), "sensor", "start", sensor, "-w", str(workspace_file())]
        subprocess.run(command, env=self.environment, check=True, capture_output=True, cwd=self.world.folder)

    def runs(self, **filters: Any) -> list[dg.DagsterRun]:
        """Oldest first."""
        return list(reversed(self.instance.get_runs(dg.RunsFilter(**filters))))

    def cell_runs(self) -> list[dg.DagsterRun]:
        """Those that builds launched."""
        return [run for run in self.runs() if BUILD_TAG in run.tags]

    def wait(self, until: Callable[[], bool], *, seconds: float = 1000) -> None:
        """Until it holds."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                tail = (self.world.home.root / "daemon.log").read_text()[-4000:]
                told = "\n".join(f"{run.job_name} {run.tags.get(CELL_TAG)} {run.status}" for run in self.runs())
                pytest.fail(f"it did not come to pass in {seconds} s\n{told}\n{tail}")
            time.sleep(3)  # to look takes some time of a processor, and all of them have work

    def has_looked_at_the_data(self) -> None:
        """Wait until the sensor of changed data knows what is there."""
        self.wait(lambda: "watch_data" in (self.world.home.root / "daemon.log").read_text())
        time.sleep(SENSOR_SECONDS)

    def is_idle(self) -> bool:
        """Nothing is queued or running."""
        return all(run.is_finished for run in self.runs())

    def failures(self) -> list[str]:
        """Every run of a cell that did not succeed, with what Dagster says went wrong."""
        found = list[str]()
        for run in self.cell_runs():
            if not run.is_success:
                events = [entry.dagster_event for entry in self.instance.all_logs(run.run_id) if entry.dagster_event]
                causes = [str(event) for event in events if event.is_failure]
                found.append(f"{run.tags[CELL_TAG]}: {run.status}: {causes}")
        return found

    def materialized(self) -> Counter[str]:
        """How often builds materialized each cell."""
        made: Counter[str] = Counter()
        for run in self.cell_runs():
            events = self.instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
            for record in events.records:
                event = record.asset_materialization
                assert event is not None
                name = event.asset_key.to_user_string()
                made[f"{name}[{event.partition}]" if event.partition else name] += 1
        return made


def test_schedule_data_sensor_and_planner_sensor_together_make_each_stale_cell_once(
    built_once: World, tmp_path: Path
) -> None:
    world = copied(built_once, tmp_path / "here")
    twin = copied(built_once, tmp_path / "twin")
    world.values["automation"] = {"cron": "* * * * *", "watch_data": True}
    daemon = Daemon(world)

    def asked_by(who: str) -> list[dg.DagsterRun]:
        return [run for run in daemon.runs(job_name=REQUEST_JOB) if run.tags.get(ASKED_BY_TAG) == who]

    with daemon.running():
        daemon.turn_on("build_when_stale")
        daemon.has_looked_at_the_data()
        for place in (world, twin):
            prompts = place.folder / "teeth.jsonl"
            prompts.write_text(prompts.read_text().replace("teeth 4?", "gums 4?"))
        daemon.wait(lambda: bool(asked_by("changed data")) and bool(asked_by("stale cells")))
        daemon.wait(lambda: not world.stale() and daemon.is_idle())
        seen = len(asked_by("schedule"))
        daemon.wait(lambda: len(asked_by("schedule")) > seen and daemon.is_idle(), seconds=120)
        made = daemon.materialized()  # nothing twice: what the schedule last asked for was up to date
    assert set(made) == {str(cell) for cell in twin.build()}
    assert set(made.values()) == {1}
    assert daemon.failures() == []
    order = [run.tags[CELL_TAG] for run in daemon.cell_runs()]
    assert order.index("self_generated_corpus[teeth]") < order.index("lwf_checkpoint[teeth|sums]")
    assert order.index("lwf_checkpoint[teeth|sums]") < order.index("eval_report[teeth|sums]")


def test_after_a_crash_in_the_middle_the_build_goes_on_where_it_was(built_once: World, tmp_path: Path) -> None:
    """The daemon, the code location and the running steps die at once, and come back."""
    world = copied(built_once, tmp_path / "here")
    world.values["automation"] = {"cron": "* * * * *"}
    world.values["unlearning"]["interval"] = 1
    daemon = Daemon(world)
    with daemon.running():
        daemon.wait(lambda: any(run.status == dg.DagsterRunStatus.STARTED for run in daemon.cell_runs()))
    before = {run.run_id for run in daemon.cell_runs()}
    assert {run.tags[CELL_TAG].partition("[")[0] for run in daemon.cell_runs()} == {"lwf_checkpoint"}
    assert world.stale()
    with daemon.running():
        daemon.wait(lambda: not world.stale() and daemon.is_idle())
    for cell in ("lwf_checkpoint[teeth|sums]", "lwf_checkpoint[minds|sums]"):
        manifest = find_manifest(world.home.store, cell)
        assert manifest.settings["unlearning"]["interval"] == 1
        assert audit(world.home.store, manifest, verify=True).holds
    made = daemon.materialized()
    assert all(count == 1 for cell, count in made.items() if not cell.startswith("lwf_checkpoint")), made
    # What was running when the machine went off is run again by the same build, not left behind.
    after = [run for run in daemon.cell_runs() if run.run_id not in before]
    assert {run.tags[BUILD_TAG] for run in after} >= {run.tags[BUILD_TAG] for run in daemon.cell_runs()}


def test_bad_data_fails_once_is_tagged_and_told_and_holds_up_nothing_else(built_once: World, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import json

            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(503 if len(told) == 1 else 204)  # busy at first
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    hook = HTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=hook.serve_forever, daemon=True).start()
    world = copied(built_once, tmp_path / "here")
    world.values["automation"] = {"watch_data": True}
    daemon = Daemon(world, LWF_WEBHOOK=f"http://127.0.0.1:{hook.server_port}/hook")
    try:
        with daemon.running():
            daemon.has_looked_at_the_data()
            (world.folder / "teeth.jsonl").write_text('{"id": "a", "prompt": "teeth?"}\n{"id": "b", "nothing": 1}\n')
            minds = world.folder / "minds.jsonl"
            minds.write_text(minds.read_text().replace("minds 2?", "thoughts 2?"))
            daemon.wait(lambda: len(told) >= 2)
            daemon.wait(lambda: daemon.materialized()["self_generated_corpus[minds]"] == 1)
            # Now, for what still runs is cut off.
            failed = [run for run in daemon.cell_runs() if run.status == dg.DagsterRunStatus.FAILURE]
    finally:
        hook.shutdown()
    assert [run.tags[CELL_TAG] for run in failed] == ["forgetting_prompts[teeth]"]
    assert [run.tags[FAILURE_TAG] for run in failed] == ["bad_input"]
    assert told[0] == told[1]  # once, after the address was busy
    assert len(told) == 2
    assert told[1]["cell"] == "forgetting_prompts[teeth]"
    assert told[1]["failure"] == "bad_input"
    assert "line 2" in told[1]["text"]
    assert "Traceback" not in told[1]["text"]
