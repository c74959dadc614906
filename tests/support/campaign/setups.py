"""Homes whose databases are being set up when the process is killed, a step further on each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from places import SUPPORT

from campaign.attack import Field, Trial

STEPS = 2_200
"""A set-up has a few more: statements to a database, and files that are made, renamed or removed."""


def setups(field: Field) -> Iterator[Trial]:
    """As many, evenly spread; each is followed by a set-up that nobody kills."""
    every = max(1, STEPS // field.trials)
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "killed_setups.py"), str(field.folder / "homes"), "1", str(every)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    tried = len([path for path in (field.folder / "homes").iterdir() if path.name.isdigit()])
    for number in range(tried):
        last = number == tried - 1
        yield Trial(f"killed at step {1 + number * every}", done.stderr[-300:] if last and done.returncode else "")
