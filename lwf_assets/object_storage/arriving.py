"""A file that arrives: its spans are written by several threads, and hashed in order by another as they grow."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from lwf_assets.object_storage.at_once import GivenUpError, together, wait

SPAN = 512 * 2**20
"""Bytes of a large file that come over one connection."""
CONNECTIONS = 4
"""Spans of one file that come at once."""


class CannotBeWrittenError(Exception):
    """What the disk refused. It is no error of the store, and must not be taken for one."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Span:
    """A part of the file, from `at`, where the next bytes go, to `end`."""

    def __init__(self, descriptor: int, path: Path, at: int, end: int) -> None:
        self.at, self.end = at, end
        self._descriptor, self._path = descriptor, path
        self.arrived = SimpleQueue[int | BaseException]()

    def write(self, some: bytes) -> None:
        """The bytes that come next.

        Raises:
            CannotBeWrittenError: the disk refuses them.
            GivenUpError: another transfer has failed, so nobody needs them.
        """
        if wait(0):
            raise GivenUpError
        left = memoryview(some)
        try:
            while left:
                written = os.pwrite(self._descriptor, left, self.at)
                self.at, left = self.at + written, left[written:]
        except OSError as error:
            raise CannotBeWrittenError(OSError(error.errno, error.strerror, str(self._path))) from None
        self.arrived.put(self.at)


def arrive(descriptor: int, path: Path, size: int, read: Callable[[Span], None]) -> str:
    """Have `read` write each span of the file that is open as `descriptor`; returns the sha256 of all, in hex.

    Raises:
        OSError: the disk refuses to write it; the error names `path`.
    """
    spans = [Span(descriptor, path, start, min(start + SPAN, size)) for start in range(0, size, SPAN)]
    digest = hashlib.sha256()

    def fill(span: Span) -> None:
        try:
            read(span)
        except BaseException as error:
            span.arrived.put(error)

    with together(CONNECTIONS) as pool:
        starts = [span.at for span in spans]
        for span in spans:
            pool.submit(fill, span)
        for span, at in zip(spans, starts, strict=True):
            while at < span.end:
                reached = span.arrived.get()
                if isinstance(reached, CannotBeWrittenError):
                    raise reached.cause
                if isinstance(reached, BaseException):
                    raise reached
                digest.update(os.pread(descriptor, reached - at, at))
                at = reached
    return digest.hexdigest()
