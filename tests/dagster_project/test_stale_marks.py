"""The mark of what is stale: right for every partition, told once for each state, and never in a build's way."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from world import World, new_world

from dagster_project.automation.stale_marks import CHECK, SHOWN, build_freshness_checks, build_freshness_sensor
from dagster_project.resources import LwfHome


class Marker:
    """The sensor of one world, with its cursor, as the daemon would keep it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cursor: str | None = None

    def tick(self) -> dict[str, dg.AssetCheckEvaluation]:
        """What it says of each asset; nothing where it has nothing new to say."""
        context = dg.build_sensor_context(cursor=self.cursor)
        result = build_freshness_sensor(self.world.study, 1)(context, home=LwfHome(root=str(self.world.home.root)))
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor or self.cursor
        self.skipped = result.skip_reason.skip_message if result.skip_reason else ""
        told = list(result.asset_events or ())
        assert all(isinstance(event, dg.AssetCheckEvaluation) and event.check_name == CHECK for event in told)
        return {event.asset_key.to_user_string(): event for event in told}


@pytest.fixture
def marker(built: World) -> Marker:
    return Marker(built)


def test_what_is_built_is_marked_fresh_and_said_once(marker: Marker) -> None:
    told = marker.tick()
    assert {step.cell.asset for step in marker.world.plan().steps} == told.keys()
    assert all(event.passed for event in told.values())
    assert told["lwf_checkpoint"].description == "all 2 cells are up to date"
    assert marker.tick() == {}
    assert marker.skipped == "0 cells are stale, as before"


def test_a_change_marks_what_follows_from_it_with_the_reason_until_it_is_taken_back(marker: Marker) -> None:
    marker.tick()
    prompts = marker.world.folder / "teeth.jsonl"
    text = prompts.read_text()
    prompts.write_text(text.replace("teeth 4?", "gums 4?"))
    told = marker.tick()
    stale = {name.partition("[")[0] for name in marker.world.stale()}
    assert {"self_generated_corpus", "leaderboard"} < stale
    assert "reference_checkpoint" not in stale
    assert {name for name, event in told.items() if not event.passed} == stale
    corpus = told["self_generated_corpus"]
    assert corpus.description == "1 of 2 cells are stale: teeth: forgetting_prompts[teeth] is recomputed"
    assert corpus.severity == dg.AssetCheckSeverity.WARN
    assert marker.tick() == {}
    prompts.write_text(text)
    assert all(event.passed for event in marker.tick().values())


def test_where_nothing_is_built_as_many_cells_are_named_as_can_be_read(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.values["seeds"] = [1]
    for number in range(SHOWN):
        world.values["forgetting_tasks"][f"more_{number}"] = world.values["forgetting_tasks"]["teeth"]
    words = Marker(world).tick()["self_generated_corpus"].description
    assert words is not None
    assert words.count("not built") == SHOWN
    assert words.endswith("; and 2 more")


def test_a_file_that_cannot_be_read_keeps_the_marks_as_they_are(marker: Marker) -> None:
    marker.tick()
    before = marker.cursor
    prompts = marker.world.folder / "teeth.jsonl"
    text = prompts.read_text()
    prompts.unlink()
    assert marker.tick() == {}
    assert "teeth.jsonl" in marker.skipped
    assert marker.cursor == before
    prompts.write_text(text)
    assert marker.tick() == {}


def test_by_hand_the_check_says_the_same(built: World) -> None:
    built.values["fisher"]["samples"] = 7
    told = Marker(built).tick()
    for check in build_freshness_checks(built.study):
        (key,) = check.check_keys
        found = check(home=LwfHome(root=str(built.home.root)))
        assert isinstance(found, dg.AssetCheckResult)
        event = told[key.asset_key.to_user_string()]
        assert (found.passed, found.description, found.severity) == (event.passed, event.description, event.severity)
