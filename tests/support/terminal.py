"""A terminal that can be read."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def on_a_terminal(
    command: Sequence[str], environment: Mapping[str, str], *, columns: int = 80, folder: Path | None = None
) -> str:
    """What a command writes to a terminal, without colours and movements; it must end well."""
    master, slave = pty.openpty()
    given = {**environment, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    process = subprocess.Popen(command, env=given, cwd=folder, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    written = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(master)
    assert process.wait() == 0, written.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode()).replace("\r", "")
