"""The schedule of a study over the days on which clocks are changed: one tick a day, at a time that there is."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from dagster._utils.schedules import schedule_execution_time_iterator
from world import new_world

from dagster_project.automation.requests import build_requests

CHANGES = {
    "Europe/Berlin": (date(2026, 3, 29), date(2026, 10, 25)),
    "America/New_York": (date(2026, 3, 8), date(2026, 11, 1)),
}
"""The night to summer time, and the one back."""


@pytest.mark.parametrize("timezone", CHANGES)
@pytest.mark.parametrize("to_summer", [True, False])
@pytest.mark.parametrize("cron", ["0 3 * * *", "30 2 * * *", "0 2 * * *", "59 1 * * *", "0 0 * * *", "30 2 * * 0"])
def test_one_tick_a_day(cron: str, timezone: str, to_summer: bool, tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.values["automation"] = {"cron": cron, "timezone": timezone}
    _, (schedule,), _ = build_requests(world.study)
    change, zone = CHANGES[timezone][0 if to_summer else 1], ZoneInfo(timezone)
    first = datetime(change.year, change.month, change.day, tzinfo=zone) - timedelta(days=3)
    last = first + timedelta(days=7)
    ticks = schedule_execution_time_iterator(
        first.timestamp(), schedule.cron_schedule, schedule.execution_timezone, True
    )
    days = [at.astimezone(zone).date() for at in takewhile(lambda at: at < last, ticks)]
    wanted = [first.date() + timedelta(days=number) for number in range(7)]
    if cron.endswith("0 2 * * 0") or cron.endswith("* * 0"):
        wanted = [day for day in wanted if day.weekday() == 6]
    assert days == wanted
