"""A team's installation on this machine: two Ray nodes, an object store, PostgreSQL, and an MLflow server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from gate import Gate, gate_before
from postgres import USER, postgres_server
from ray_cluster import RayCluster, ray_cluster
from s3_server import BUCKET, s3_server
from servers_at_work import LOOPBACK, free_port, mlflow_server
from world import World, new_world

from dagster_project.runs.instance import POSTGRES_VARIABLE, open_instance
from lwf_assets.store.home import REMOTE_VARIABLE, Home

SECRETS = ("a-secret-key-of-the-tests", "a-password-of-the-tests")
REMOTE = f"s3://{BUCKET}/team"

HANGS_ONCE = """
import sys, time
from pathlib import Path

flag = Path(__file__).with_name("flag")

def hook(event, arguments):
    if event == "os.mkdir" and str(arguments[0]).endswith("checkpoint-4") and flag.exists():
        flag.unlink()
        flag.with_name("at-work").write_text(str(arguments[0]))
        time.sleep(600)

sys.addaudithook(hook)
"""
"""A sitecustomize: where `flag` lies beside it, a training stops for ever as it writes its second checkpoint."""


@dataclass
class Build:
    """A running `lwf build --on`."""

    process: subprocess.Popen[bytes]
    log: Path

    def told(self) -> str:
        """All that it has written."""
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        """Until it has written this."""
        deadline = time.monotonic() + 240
        while text not in self.told():
            assert self.process.poll() is None, self.told()
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.1)

    def wait(self) -> int:
        """Until its end; returns its exit code."""
        return self.process.wait(timeout=300)


@dataclass
class Team:
    """What there is, and the world of who asks for builds."""

    folder: Path
    world: World
    cluster: RayCluster
    gate: Gate
    environment: dict[str, str]

    def another(self, name: str) -> World:
        """The same study, with a home of its own that knows nothing yet."""
        return World(self.world.folder, Home(self.folder / name), self.world.values)

    def command(self, *words: str, address: str | None = None) -> list[str]:
        """`lwf build` on the cluster."""
        on = address or self.cluster.address
        return [sys.executable, "-m", "dagster_project.cli", "build", "--on", on, *words]

    def of(self, world: World, **changed: str) -> dict[str, str]:
        """The environment of who asks."""
        own = {"LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file), "COLUMNS": "200"}
        return {**os.environ, **self.environment, **own, **changed}

    def start(self, world: World) -> Build:
        """Ask for a build."""
        log = self.folder / f"build-{time.monotonic_ns()}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self.command(),
                env=self.of(world),
                stdout=file,
                stderr=file,
                start_new_session=True,
                # Jobs in the background have it ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        return Build(process, log)

    def run(self, world: World, *words: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """Ask for a build, and wait for it."""
        environment = self.of(world, **changed)
        return subprocess.run(self.command(*words), env=environment, capture_output=True, text=True, check=False)

    def runs(self) -> list[dg.DagsterRun]:
        """All that Dagster has written down in PostgreSQL."""
        return list(self._instance().get_runs())

    def materialized(self) -> Counter[str]:
        """How often each cell was made, by the same records."""
        made: Counter[str] = Counter()
        instance = self._instance()
        for run in instance.get_runs():
            of_type = dg.DagsterEventType.ASSET_MATERIALIZATION
            for record in instance.get_records_for_run(run.run_id, of_type=of_type).records:
                event = record.asset_materialization
                assert event is not None
                name = event.asset_key.to_user_string()
                made[f"{name}[{event.partition}]" if event.partition else name] += 1
        return made

    def _instance(self) -> dg.DagsterInstance:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(POSTGRES_VARIABLE, self.environment[POSTGRES_VARIABLE])
            return open_instance(Home(self.folder / "looks"))

    def files(self) -> Iterator[Path]:
        """All that anything here has written: homes, Ray's logs, those of the builds."""
        for folder in (self.folder, self.cluster.temporary):
            yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@contextmanager
def team_of(folder: Path) -> Iterator[Team]:
    """One whose nodes are called `head` and `two`; on `two`, a training can be made to hang."""
    hook = folder / "hook"
    hook.mkdir(parents=True)
    (hook / "sitecustomize.py").write_text(HANGS_ONCE)
    with (
        s3_server(folder / "s3.log") as s3,
        gate_before(s3.port) as gate,
        postgres_server() as postgres,
        mlflow_server(folder / "mlflow", free_port()) as mlflow,
        ray_cluster(folder) as cluster,
    ):
        address = postgres.replace(f"{USER}@", f"{USER}:{SECRETS[1]}@").replace(
            "postgresql://", "postgresql+psycopg2://"
        )
        environment = {
            **s3.environment(),
            "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{gate.port}",
            "AWS_SECRET_ACCESS_KEY": SECRETS[0],
            REMOTE_VARIABLE: REMOTE,
            POSTGRES_VARIABLE: f"{address}/dagster",
            "MLFLOW_TRACKING_URI": mlflow,
        }
        team = Team(folder, new_world(folder), cluster, gate, environment)
        study = {"LWF_STUDY": str(team.world.file)}
        cluster.add("head", {**environment, **study})
        cluster.add("two", {**environment, **study, "PYTHONPATH": str(hook)})
        yield team


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Until `holds()` is true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
