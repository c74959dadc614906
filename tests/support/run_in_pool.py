"""A Dagster run in a process of its own, which takes a place in the pool and then waits, or is killed.

python run_in_pool.py HOME wait|die
"""

import os
import signal
import sys
import time
from pathlib import Path

import dagster as dg

from dagster_project.assets import DEVICE_POOL
from dagster_project.resources import LwfHome
from dagster_project.runs.instance import open_instance
from lwf_assets.store.home import Home


@dg.op(pool=DEVICE_POOL)
def work(context: dg.OpExecutionContext, home: LwfHome) -> None:
    (Path(home.root) / "at-work").write_text(context.run_id)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


@dg.job
def run() -> None:
    work()


if __name__ == "__main__":
    place = Path(sys.argv[1])
    run.execute_in_process(instance=open_instance(Home(place)), resources={"home": LwfHome(root=str(place))})
