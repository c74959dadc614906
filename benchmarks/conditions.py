"""Where and on what code something was measured."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

_MEASURED = ("lwf_assets", "dagster_project", "benchmarks", "studies", "prompts", "requirements.lock")
"""What decides the figures."""

_WORDING = ("page.py", "plots.py", "performance.md.j2", "summary.py")
"""What only says them."""


def conditions(subject: str) -> dict[str, Any]:
    """Commit, date and machine; `subject` is the model that is measured. Two sections may stand on one page if their
    `same` parts are equal."""
    import torch

    return {
        "commit": _git("rev-parse", "--short", "HEAD")
        + ("-dirty" if _git("status", "--porcelain", *_MEASURED) else ""),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "same": {
            "subject": subject,
            "code": _fingerprint(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": metadata.version("transformers"),
        },
    }


def _fingerprint() -> str:
    """Hash of the files that decide the figures: a commit that changes only words keeps what was measured."""
    digest = hashlib.sha256()
    files = [
        path for name in _MEASURED for path in ((ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name])
    ]
    for path in sorted(files):
        if path.is_file() and path.suffix != ".pyc" and path.name not in _WORDING:
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _processor() -> str:
    """The processor's name as the kernel has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
