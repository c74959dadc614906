"""A process that ends as soon as nobody waits for it any more: its order is gone, or its parent is."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

PARENT = "LWF_PARENT"
"""Variable of the environment: the id of the process that started this one."""
EVERY = 0.3
"""Seconds between two looks."""


def end_when_unwanted(order: Path) -> None:
    """From now on, kill this process when `order` is removed or the process that started it has died, however that
    happened. (A signal reaches no one when the sender was killed.)"""
    parent = int(os.environ[PARENT])  # and not who it is now: it may have died already

    def watch() -> None:
        while order.exists() and os.getppid() == parent:
            time.sleep(EVERY)
        os.kill(os.getpid(), signal.SIGKILL)

    os.environ[PARENT] = str(os.getpid())  # for those that this process starts
    threading.Thread(target=watch, name="watchdog", daemon=True).start()
