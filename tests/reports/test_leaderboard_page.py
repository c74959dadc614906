"""The leaderboard as a page."""

from __future__ import annotations

import re

from report_data import NO_EFFECT, UNKNOWN, Page, some_effect, some_row

from lwf_assets.comparison.records import (
    ArmRow,
)
from lwf_assets.reports.page import leaderboard_page
from lwf_assets.reports.wording import (
    leaderboard_outcome,
)
from lwf_assets.statistics.interval import Interval


def test_leaderboard_counts_verdicts_and_says_what_chance_would_give() -> None:
    rows = [
        some_row(NO_EFFECT, "helps"),
        some_row(NO_EFFECT, "hurts"),
        some_row(UNKNOWN, "too few seeds to say"),
        *[some_row(NO_EFFECT)] * 18,
    ]

    text = leaderboard_outcome(rows)

    assert text.startswith("Of 20 cells with a verdict, forgetting helped in 1 and hurt in 1; in 18 no effect was ")
    assert "1 cell had too few seeds to say." in text
    assert "up to about 1 would show one" in text
    assert "up to about" not in leaderboard_outcome([some_row(NO_EFFECT, "helps")])
    assert leaderboard_outcome([some_row(UNKNOWN, "not measured")]) == "None of 1 cell has enough seeds for a verdict."
    assert leaderboard_outcome([]) == "No cell has been measured yet."


def test_leaderboard_grid_has_its_diagonal_and_marks_only_cells_with_an_effect() -> None:
    clear = Interval(0.1, 0.05, 0.15)
    rows = [
        some_row(clear, "helps", "a", "b"),
        some_row(clear, "no detectable effect", "a", "mixed"),
        some_row(NO_EFFECT, "too few seeds to say", "b", "a"),
        some_row(clear, "hurts", "b", "mixed"),
    ]
    page = leaderboard_page("paper", rows)
    grid = page[page.index('class="grid"') : page.index("All cells")]

    assert re.findall(r'center">(\w+)</th>', grid) == ["a", "b", "mixed"]
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", grid, re.S)]
    none = "\N{EN DASH}"
    assert cells == [
        none,
        "▲ +0.10+0.05 to +0.15helps",
        "+0.10+0.05 to +0.15no detectable effect",
        "+0.02-0.06 to +0.10too few seeds to say",
        none,
        "▼ +0.10+0.05 to +0.15hurts",
    ]
    Page(page)


def test_leaderboard_shows_each_arm_in_its_own_cells_alone() -> None:
    rows = [some_row(NO_EFFECT, learning="a"), some_row(NO_EFFECT, learning="b")]
    arms = [
        ArmRow("a", "dental", "lwf", some_effect(NO_EFFECT, "helps")),
        ArmRow("b", "dental", "npo", some_effect(Interval(-0.3, -0.4, -0.2), "hurts", model="npo")),
    ]
    page = leaderboard_page("paper", rows, arms)
    table = page[page.index("Arms over the cells") : page.index("All cells")]

    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", table, re.S)]
    assert cells == ["▲ +0.02-0.06 to +0.10", "\N{EN DASH}", "\N{EN DASH}", "▼ -0.30-0.40 to -0.20"]


def test_leaderboard_without_a_row_is_a_page() -> None:
    assert "No cell has been measured yet." in Page(leaderboard_page("paper", [])).text
