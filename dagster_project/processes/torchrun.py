"""torchrun for one step: `python -m dagster_project.processes.torchrun FOLDER PROCESSES`.

FOLDER holds the order. The processes' output goes to FOLDER/output, and if one fails, what each exited with to
FOLDER/exit.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from dagster_project.processes.watchdog import end_when_unwanted

ORDER, EXIT, OUTPUT, MEETING_POINT = "order.json", "exit.json", "output", "meeting-point"


def main() -> None:
    """Start them, and wait for them."""
    folder, processes = Path(sys.argv[1]), sys.argv[2]
    end_when_unwanted(folder / ORDER)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # By files, as torch's ports are open to the whole network.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    words = ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file", "--rdzv-endpoint", str(folder / "torchrun")]
    words += ["--local-addr", "127.0.0.1", "--nnodes", "1", "--nproc-per-node", processes, "--max-restarts", "0"]
    words += ["--redirects", "3", "--log-dir", str(folder / OUTPUT), "-m", "dagster_project.processes.one_of_several"]
    # What torch says of failures is for developers, and the terminal is the build's.
    with (folder / "torchrun.log").open("w") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    try:
        run(parse_args([*words, str(folder)]))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        exits = {rank: failure.exitcode for rank, failure in error.failures.items()}
        (folder / EXIT).write_text(json.dumps(exits))
        sys.exit(1)


if __name__ == "__main__":
    main()
