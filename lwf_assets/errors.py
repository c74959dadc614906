"""The error type for what the user can fix."""

from __future__ import annotations


class LwfError(Exception):
    """Something the user can fix.

    The message names the file, the key or the row at fault and says what would be right. The command line prints
    it alone, without a traceback, and exits with code 1; every other exception is a defect of ours and keeps its
    traceback.
    """
