"""What the operating system refuses: a full or read-only disk, more open files, more memory. Told in one line."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_TEXTS = {
    "No space left on device": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Read-only file system": errno.EROFS,
    "attempt to write a readonly database": errno.EROFS,
    "Too many open files": errno.EMFILE,
    "can't allocate memory": errno.ENOMEM,
    "Cannot allocate memory": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
}
"""What libraries say that do not pass on the number: SQLite, safetensors, torch, DuckDB, Arrow."""
_VAGUE = ("disk I/O error", "unable to open database file", "PytorchStreamWriter failed", "unexpected pos")
"""What is said of a disk that takes no more, among other things: one has to look."""
_LEAST = 2**20
"""Bytes; a disk with less is full."""
_ENOUGH_FILES = 1024
"""Descriptors that no command of ours needs more of."""


def refusal(error: BaseException, home: Path) -> str | None:
    """What the operating system refused, and what would do; None if `error` is something else.

    Args:
        error: as it was raised. What it was raised from counts too.
        home: where this project writes.
    """
    for one in _chain(error):
        number = _number_of(one, home)
        named = _path_of(one)
        if number in (errno.ENOSPC, errno.EDQUOT):
            return _full(named or _fullest(home))
        if number == errno.EFBIG:
            limit = size_as_text(resource.getrlimit(resource.RLIMIT_FSIZE)[0])
            return f"{named or home}: a file would become larger than the {limit} that `ulimit -f` allows; raise it"
        if number == errno.EROFS or (number in (errno.EACCES, errno.EPERM) and named and home in named.parents):
            return f"{named or home}: cannot be written. Mount it for writing, or name another place with LWF_HOME"
        if number in (errno.EMFILE, errno.ENFILE):
            files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"`ulimit -n` allows {files} open files, which is too few; {_ENOUGH_FILES} are enough"
        if number == errno.ENOMEM or isinstance(one, MemoryError):
            return "there is no more memory for this process. `lwf plan` says how much each step needs at most"
    return None


def is_of_a_full_disk(error: BaseException) -> bool:
    """By its number, or by the words of a library that does not pass it on."""
    number = error.errno if isinstance(error, OSError) else _number_in(str(error))
    return number in (errno.ENOSPC, errno.EDQUOT)


def _number_in(text: str) -> int | None:
    return next((number for words, number in _TEXTS.items() if words in text), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _number_of(error: BaseException, home: Path) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    number = _number_in(text)
    if number is None and any(words in text for words in _VAGUE):
        if free_on_disk(home) < _LEAST:
            return errno.ENOSPC
        if not _takes_files(home):
            return errno.EROFS
        if not _can_open_more():
            return errno.EMFILE
        if 0 <= resource.getrlimit(resource.RLIMIT_FSIZE)[0] < 2**40:
            return errno.EFBIG
    return number


def _path_of(error: BaseException) -> Path | None:
    name = getattr(error, "filename", None)
    return Path(os.fsdecode(name)) if isinstance(name, str | bytes) else None


def _full(path: Path) -> str:
    place = _existing(path)
    size, free = size_as_text(shutil.disk_usage(place).total), size_as_text(free_on_disk(place))
    return f"{path}: the disk is full. It has {size}, and {free} are free now"


def _fullest(home: Path) -> Path:
    """The home, or where temporary files go: one of the two is full."""
    return min((home, Path(tempfile.gettempdir())), key=free_on_disk)


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def free_on_disk(path: Path) -> int:
    """Bytes that may still be written where `path` is, or will be."""
    return shutil.disk_usage(_existing(path)).free


def _takes_files(home: Path) -> bool:
    return not os.statvfs(_existing(home)).f_flag & os.ST_RDONLY and os.access(_existing(home), os.W_OK)


def _can_open_more() -> bool:
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    return True


def size_as_text(size: int) -> str:
    """Bytes as text; 1 MB is 10^6."""
    for unit, one in (("GB", 1e9), ("MB", 1e6)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"
