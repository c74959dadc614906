"""Whether the work may be done on an accelerator, as far as one can tell without torch."""

from __future__ import annotations

from pathlib import Path

DEVICES = Path("/dev")
ACCELERATORS = ("nvidiactl", "kfd")
"""Device files that say that the work may not be done on the CPU."""


def has_accelerator() -> bool:
    """Whether this machine seems to have one."""
    return any((DEVICES / name).exists() for name in ACCELERATORS)
