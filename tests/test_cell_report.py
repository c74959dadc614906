"""What is said beside the figures of a cell."""

from __future__ import annotations

from lwf_assets.reports.cell_report import notes
from lwf_assets.reports.report import Difference, Interval


def test_an_interval_without_width_is_explained() -> None:
    (note,) = notes(Difference("accuracy", Interval(0.0, 0.0, 0.0), items=60, seeds=1))
    assert "all 60 items" in note
    assert "5.0%" in note


def test_an_interval_around_zero_needs_no_note() -> None:
    assert notes(Difference("accuracy", Interval(0.0, -0.1, 0.1), items=60, seeds=1)) == []
