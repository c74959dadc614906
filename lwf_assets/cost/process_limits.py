"""What the limits of a process (`ulimit`) must leave to a build: below that, libraries end it without a word."""

from __future__ import annotations

import resource

from lwf_assets.disk.room import size_as_text
from lwf_assets.errors import LwfError

FEWEST_FILES = 64
"""Open files that a build gets by with."""
MAPPED = 4_000_000_000
"""Bytes of addresses that Python maps with torch, transformers and their threads, most of which it never touches."""


def refuse_tight_limits(memory: int | None) -> None:
    """Take as many open files as this process may have, and stop if that, or the memory it may map, is too little.

    Args:
        memory: bytes that the work needs at most, the libraries' own included; None if that is unknown.

    Raises:
        LwfError: which limit it is, and what would do.
    """
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or files < most:
        files = 4096 if most == resource.RLIM_INFINITY else min(most, max(files, 4096))
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    if files < FEWEST_FILES:
        raise LwfError(f"`ulimit -n` allows {files} open files; a build needs at least {FEWEST_FILES}")
    mapped, needed = resource.getrlimit(resource.RLIMIT_AS)[0], MAPPED + (memory or 0)
    if mapped not in (resource.RLIM_INFINITY, -1) and mapped < needed:
        raise LwfError(
            f"`ulimit -v` allows {size_as_text(mapped)} of memory; this build may map {size_as_text(needed)}, of which "
            f"the libraries map {size_as_text(MAPPED)} and use little"
        )
