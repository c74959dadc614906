"""A Ray cluster of this machine, for tests: each node its own processes, with a home of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from places import ROOT
from servers_at_work import LOOPBACK, PROGRAMS, free_port

from lwf_assets.store.home import Home

_SECONDS_TO_START = 120
_QUICK = {
    # A node that died is missed in two seconds; by default it takes Ray some twenty.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "120",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class RayNode:
    """One node: `ray start`, with all that it starts."""

    def __init__(self, cluster: RayCluster, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.home = Home(cluster.folder / "homes" / name)
        self._log = cluster.folder / f"{name}.log"
        self._environment = {
            **os.environ,
            **_QUICK,
            "PYTHONPATH": os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(ROOT)])),
            "PATH": os.pathsep.join([str(PROGRAMS), os.environ["PATH"]]),
            "LWF_HOME": str(self.home.root),
            "OMP_NUM_THREADS": "1",
        } | {key: value for key, value in environment.items() if key != "PYTHONPATH"}
        where = ["--head", f"--port={cluster.port}", f"--ray-client-server-port={cluster.client_port}"]
        where += ["--include-dashboard=true", f"--dashboard-port={cluster.job_port}", f"--dashboard-host={LOOPBACK}"]
        where += [f"--temp-dir={cluster.temporary}"]
        joining = [f"--address={LOOPBACK}:{cluster.port}"]
        self._command = [
            *(str(PROGRAMS / "ray"), "start", "--block", *(where if name == "head" else joining)),
            *(f"--node-name={name}", f"--node-ip-address={LOOPBACK}", "--num-cpus=1", "--num-gpus=0"),
            *("--memory=4000000000", "--object-store-memory=80000000", "--disable-usage-stats"),
        ]
        self.begin()

    def begin(self) -> None:
        """Start it, and wait until it is there."""
        self._log.write_bytes(b"")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _SECONDS_TO_START
        while b"Ray runtime started" not in self._log.read_bytes():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """All of it: `ray start` itself, Ray's own processes, and those that make cells."""
        here = psutil.Process(self._process.pid)
        return [here, *here.children(recursive=True)]

    def commands(self) -> list[str]:
        """What each of these was started with, or calls itself."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):  # it has just ended
                found.append(" ".join(process.cmdline()))
        return found

    def kill(self) -> None:
        """As when the machine loses its power."""
        _kill(self.processes())
        self._process.wait()

    def end(self) -> None:
        """Stop it, and make sure that nothing of it is left."""
        if self._process.poll() is not None:
            return
        left = self.processes()
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        _kill(left)
        self._process.wait()


class RayCluster:
    """A head, and whatever nodes join it."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder, self.temporary = folder, temporary
        self.port, self.client_port, self.job_port = free_port(), free_port(), free_port()
        self.nodes: dict[str, RayNode] = {}

    @property
    def address(self) -> str:
        """For `--on`, on a node of it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def address_from_elsewhere(self) -> str:
        """For `--on`, from any machine."""
        return f"ray://{LOOPBACK}:{self.client_port}"

    @property
    def job_server(self) -> str:
        """For Dagster's launcher."""
        return f"http://{LOOPBACK}:{self.job_port}"

    def add(self, name: str, environment: Mapping[str, str]) -> RayNode:
        """Start a node, with these variables; the first is the head."""
        self.nodes[name] = RayNode(self, name, environment)
        return self.nodes[name]


@contextmanager
def ray_cluster(folder: Path) -> Iterator[RayCluster]:
    """One without a node as yet, of which nothing is left afterwards."""
    # Ray puts sockets there, whose paths may have a hundred characters.
    cluster = RayCluster(folder, Path(tempfile.mkdtemp(prefix="lwf-ray-")))
    (folder / "homes").mkdir(parents=True)
    try:
        yield cluster
    finally:
        for node in reversed(cluster.nodes.values()):
            node.end()
        shutil.rmtree(cluster.temporary, ignore_errors=True)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=20)
