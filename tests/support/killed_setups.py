"""Sets up the databases of fresh homes, each time in a process that is killed a step further on.

    python killed_setups.py FOLDER FIRST EVERY

A step is a statement to a database, or a file or folder that is made, renamed or removed. Prints the number of steps of
a set-up that nobody kills.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

STEPS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "sqlite3.connect", "shutil.rmtree")


class Countdown:
    """Kills this process at its nth step; counts the steps where that never comes."""

    def __init__(self) -> None:
        self.taken = 0
        self.last: int | None = None
        sys.addaudithook(lambda name, arguments: self.step() if name in STEPS else None)
        event.listen(Engine, "before_cursor_execute", lambda *arguments: self.step())

    def begin(self, last: int | None) -> None:
        """Count from now."""
        self.taken, self.last = 0, last

    def step(self) -> None:
        """One more."""
        self.taken += 1
        if self.taken == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def set_up(home: Path) -> None:
    """Make all databases of a home, and use each."""
    from dagster_project.runs.instance import open_instance
    from dagster_project.tracking.client import open_client
    from lwf_assets.store.home import Home

    with open_instance(Home(home)) as instance:
        assert instance.get_runs_count() == 0
        assert instance.all_instigator_state() == []
        assert instance.all_asset_keys() == []
    client = open_client(f"sqlite:///{home / 'mlflow.db'}")
    assert [experiment.name for experiment in client.search_experiments()] == ["Default"]


def in_child(home: Path, countdown: Countdown, last: int | None) -> int:
    """Set up in a child process; returns what it was ended by, and writes how many steps it took."""
    child = os.fork()
    if child == 0:
        countdown.begin(last)
        set_up(home)
        (home / "steps").write_text(str(countdown.taken))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    folder, first, every = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  # once, and not in each child

    import dagster_project.runs.instance  # noqa: F401

    countdown = Countdown()
    (folder / "whole").mkdir(parents=True)
    assert in_child(folder / "whole", countdown, None) == 0
    steps = int((folder / "whole" / "steps").read_text())
    for last in range(first, steps, every):
        home = folder / str(last)
        home.mkdir()
        assert in_child(home, countdown, last) == -signal.SIGKILL, last
        assert in_child(home, countdown, None) == 0, last
        assert not list(home.rglob(".*")), last
    print(steps)


if __name__ == "__main__":
    main()
