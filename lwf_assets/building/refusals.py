"""What the operating system refuses, as an error that the user can fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lwf_assets.disk.room import refusal
from lwf_assets.errors import LwfError


@contextmanager
def refusals_told(home: Path, say: Callable[[str], str]) -> Iterator[None]:
    """Turns a full disk and the like, met in the block, into one line: what `say` makes of it.

    Raises:
        LwfError: in place of what the operating system refused.
    """
    try:
        yield
    except LwfError:
        raise
    except Exception as error:
        said = refusal(error, home)
        if said is None:
            raise
        raise LwfError(say(said)) from error
