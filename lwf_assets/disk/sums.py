"""Whether bytes are those that were written: sums beside files, and text that carries its own."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lwf_assets.disk.hashes import hash_file
from lwf_assets.disk.writing import write_atomically

SUMS = "SHA256SUMS"
"""The file of a folder that has the sha256 of every other; `sha256sum -c SHA256SUMS` reads it too."""

T = TypeVar("T")
R = TypeVar("R")

_SEAL = "\nsha256 "


def files_below(folder: Path) -> list[Path]:
    """Every name below `folder` that is no folder, sorted: files, and links wherever they lead. No link is followed."""
    found = list[Path]()
    for here, folders, names in os.walk(folder):
        linked = [name for name in folders if Path(here, name).is_symlink()]
        found += [Path(here, name) for name in (*names, *linked)]
    return sorted(found)


def trouble_with(path: Path, sha256: str, hashed: Callable[[Path], str] = hash_file) -> str | None:
    """Why `path` is not the file of that sha256; None if it is. A link is not a file, whatever it leads to."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return f"the file was replaced by a link to {path.readlink()}"
        if not stat.S_ISREG(mode):
            return "there is something else in place of the file"
        found = hashed(path)
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if found == sha256 else f"the file was changed: its sha256 is {found[:16]}.. and was {sha256[:16]}.."


def each_in_threads(read: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """What `read` gives for each of `things`. Several files are read at once: hashing lets go of Python's lock."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as readers:
        return list(readers.map(read, things))


def write_sums(folder: Path) -> None:
    """Write down the sha256 of every file below `folder`. They need not be on the disk yet: what a power cut takes of
    them will not fit its sum."""
    files = [path for path in files_below(folder) if path != folder / SUMS]
    sums = zip(files, each_in_threads(hash_file, files), strict=True)
    lines = [f"{digest}  {path.relative_to(folder).as_posix()}\n" for path, digest in sums]
    write_atomically(folder / SUMS, "".join(lines))


def is_as_summed(folder: Path) -> bool:
    """Whether the folder was written to its end by `write_sums`, and no byte of it is another since."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    listed = {folder / name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = {path for path in files_below(folder) if path != folder / SUMS}
    return there == listed.keys() and not any(trouble_with(path, digest) for path, digest in listed.items())


def with_seal(text: str) -> str:
    """`text` with its own sha256 in a last line."""
    return f"{text}{_SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n"


def unsealed(path: Path) -> str | None:
    """The text that `with_seal` was given; None where the file is missing, or is not as it was written."""
    try:
        text, _, seal = path.read_bytes().decode().rpartition(_SEAL)
    except (OSError, UnicodeDecodeError):
        return None
    return text if hashlib.sha256(text.encode()).hexdigest() + "\n" == seal else None
