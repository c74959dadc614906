"""The line to a server of this machine, which can be cut for a while, also in the middle of a transfer."""

from __future__ import annotations

import contextlib
import socket
import threading

from servers_at_work import LOOPBACK, free_port


class Line:
    """Forwards connections to `port` while it is whole."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.passed = 0
        """Bytes that went through, both ways."""
        self._to, self._listener = port, socket.socket()
        self._open_sockets = set[socket.socket]()
        self.mend()

    def mend(self) -> None:
        """Let connections through."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((LOOPBACK, self.port))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Refuse connections, and cut those that there are."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open_sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((LOOPBACK, self._to))
                self._open_sockets |= {client, server}
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while some := source.recv(65536):
                target.sendall(some)
                self.passed += len(some)
        for one in (source, target):
            self._open_sockets.discard(one)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
