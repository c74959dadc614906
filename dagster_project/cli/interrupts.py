"""Ctrl-C or a termination signal ends a command soon, with one line, whatever it was at and whoever else listens."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

EXIT_CODE = 130
GRACE = 1.5
"""Seconds that a command may take to end by itself. What it leaves then is what a kill leaves: the next build goes on
from there."""

LINES = {
    signal.SIGINT: "Interrupted. The next build goes on from here.\n",
    signal.SIGTERM: "Terminated. The next build goes on from here.\n",
}


_sent: list[signal.Signals] = []
"""What has come. Dagster makes the same of both signals."""


def is_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C raised it: Python's own, the exit that it became, or Dagster's, which is not imported for this."""
    return (
        isinstance(error, KeyboardInterrupt)
        or (isinstance(error, SystemExit) and error.code == EXIT_CODE)
        or type(error).__name__ == "DagsterExecutionInterruptedError"
    )


def end_soon_after_an_interrupt() -> None:
    """From the first of these signals on, this process has `GRACE` seconds. Whatever handler a library has put in place
    (Dagster's forgets a signal that comes while it is busy), Python writes the signal to a socket first, which a thread
    waits for."""
    _say_nothing_of_interrupts()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        with writer:  # kept open as long as the thread
            while not (sent := LINES.keys() & set(reader.recv(64))):
                pass
            _sent.append(signal.Signals(min(sent)))
            time.sleep(GRACE)
            leave()

    threading.Thread(target=wait, name="interrupts", daemon=True).start()


def _say_nothing_of_interrupts() -> None:
    """One that is raised while garbage is collected is dropped by Python, with a traceback. The thread saw it."""
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_value is None or not is_interrupt(unraisable.exc_value):
            before(unraisable)

    sys.unraisablehook = hook


def leave() -> None:
    """End this process now, by the signal that came first: no cleaning up, which a kill would not do either."""
    sent = _sent[0] if _sent else signal.SIGINT
    sys.stdout.flush()
    os.write(sys.stderr.fileno(), f"\n{LINES[sent]}".encode())
    os._exit(128 + sent)
