"""An S3 server of this machine, for tests that need one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from servers_at_work import LOOPBACK, free_port

BUCKET = "lwf-tests"


class S3Server:
    """A server in a process of its own, which has everything in memory."""

    def __init__(self, log: Path) -> None:
        self.port, self.log = free_port(), log
        self.endpoint = f"http://{LOOPBACK}:{self.port}"
        self.begin()

    def begin(self) -> None:
        """Start it, on the port that it always has."""
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(self.port)]
        with self.log.open("ab") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        deadline = time.monotonic() + 60
        while True:
            try:
                urlopen(f"{self.endpoint}/moto-api/data.json", timeout=5).read()
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def environment(self) -> dict[str, str]:
        """What a client needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_REGION": "us-east-1",
        }

    def empty(self) -> None:
        """Forget everything, and begin with an empty bucket."""
        urlopen(Request(f"{self.endpoint}/moto-api/reset", method="POST"), timeout=10).read()
        urlopen(Request(f"{self.endpoint}/{BUCKET}", method="PUT"), timeout=10).read()

    def end(self) -> None:
        """Stop it."""
        self.process.kill()
        self.process.wait()


@contextmanager
def s3_server(log: Path) -> Iterator[S3Server]:
    """One with an empty bucket."""
    server = S3Server(log)
    before = {name: os.environ.get(name) for name in server.environment()}
    try:
        server.empty()
        os.environ.update(server.environment())
        yield server
    finally:
        server.end()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
