"""docs/security.md names a test behind each of its rows, or says that there is none; and the tests are there."""

from __future__ import annotations

import re

from places import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NOT_TESTED = "*(not tested)*"


def test_every_test_that_it_names_is_there() -> None:
    named = re.findall(r"`([a-z_/]+/test_[a-z_]+\.py)(?:::(test_\w+))?`", PAGE)
    assert len(named) > 15
    for file, test in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{file}::{test}"


def test_every_row_and_point_names_one_or_says_that_there_is_none() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and set(line) - set("|- ")]
    points = re.findall(r"^- .*(?:\n  .*)*", PAGE, flags=re.MULTILINE)
    assert len(rows) > 15
    assert len(points) >= 4
    for text in (*rows, *points):
        assert NOT_TESTED in text or re.search(r"test_\w+\.py", text), text
