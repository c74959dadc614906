"""Attacks that are tests already: run by pytest, and counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

from places import ROOT

from campaign.attack import Field, Trial


def tests(*files: str) -> Callable[[Field], Iterator[Trial]]:
    """A trial for each test of these files."""

    def run(field: Field) -> Iterator[Trial]:
        report = field.folder / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *files]
        subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
        for case in ElementTree.parse(report).iter("testcase"):  # written by pytest, just now
            failed = [child for child in case if child.tag in ("failure", "error", "skipped")]
            yield Trial(str(case.get("name")), str(failed[0].get("message")) if failed else "")

    return run
