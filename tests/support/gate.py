"""Stands before a server, and can be shut: nobody gets through then, and what had got through is cut off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from servers_at_work import LOOPBACK, free_port


class Gate:
    """A port of its own that leads to another one."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.passed = 0
        """Bytes that went through, both ways."""
        self._leads_to = port
        self._through: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.open()

    def open(self) -> None:
        """Let everybody through."""
        self._door = socket.create_server((LOOPBACK, self.port), backlog=128)
        threading.Thread(target=self._let_in, args=(self._door,), daemon=True).start()

    def shut(self) -> None:
        """Cut off all connections, and refuse new ones."""
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)  # wakes up who waits in `accept`
        self._door.close()
        with self._lock:
            through, self._through = self._through, set()
        for end in through:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _let_in(self, door: socket.socket) -> None:
        while True:
            try:
                outside, _ = door.accept()
                inside = socket.create_connection((LOOPBACK, self._leads_to))
            except OSError:
                return
            with self._lock:
                self._through |= {outside, inside}
            for here, there in ((outside, inside), (inside, outside)):
                threading.Thread(target=self._pass_on, args=(here, there), daemon=True).start()

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while some := here.recv(1 << 16):
                there.sendall(some)
                self.passed += len(some)
        with suppress(OSError):
            there.shutdown(socket.SHUT_WR)
        with self._lock:
            self._through.discard(here)


@contextmanager
def gate_before(port: int) -> Iterator[Gate]:
    """An open one."""
    gate = Gate(port)
    try:
        yield gate
    finally:
        gate.shut()
