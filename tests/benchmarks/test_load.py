"""What is measured of a command is its own."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from benchmarks.load import _measure


def test_memory_is_that_of_the_command_and_not_of_who_starts_it(tmp_path: Path) -> None:
    held = bytearray(200_000_000)
    held[::4096] = b"x" * len(held[::4096])
    assert psutil.Process().memory_info().rss > 200_000_000
    assert _measure(("-c", "pass"), tmp_path)["megabytes"] < 50
    assert 100 < _measure(("-c", "x = b'x' * 100_000_000"), tmp_path)["megabytes"] < 150


def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"-c raise SystemExit\(3\) ended with 3"):
        _measure(("-c", "raise SystemExit(3)"), tmp_path)
