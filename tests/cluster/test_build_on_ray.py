"""What a build on a cluster launches and tells, whatever the nodes do: with a store that holds lines of text."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pretend_store import Pretend, cell, downstream, pretend_in
from world import new_world

from dagster_project.builds.on_ray.cell_task import CellOrder
from dagster_project.builds.on_ray.driver import ClusterBuild, build_on_ray
from dagster_project.builds.on_ray.messages import Began, Ended, Message, Phase, Said
from dagster_project.cluster.machine_needs import Needs, Node
from lwf_assets.disk.hashes import hash_file
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, cells, needs_of
from lwf_assets.store.home import REMOTE_VARIABLE

NODES = (Node("1" * 8, "one", 4, 0, 64e9), Node("2" * 8, "two", 4, 0, 64e9))


class Shown:
    """Everything that is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def nodes(self, nodes: tuple[Node, ...]) -> None:
        self.lines.append(("nodes", *(node.name for node in nodes)))

    def count(self, done: int, left: int) -> None:
        self.lines.append(("count", done, left))

    def began(self, cell: str, node: str, *, again: bool) -> None:
        self.lines.append(("began", cell, node, again))

    def phase(self, cell: str, label: str, total: int, done: int) -> None:
        self.lines.append(("phase", cell, label, total, done))

    def ended(self, cell: str, node: str | None, seconds: float | None, problem: str | None) -> None:
        self.lines.append(("ended", cell, node, problem))

    def said(self, who: str, text: str) -> None:
        self.lines.append(("said", who, text))


class TasksAtHand:
    """In place of Ray: cells are made here, in any order."""

    def __init__(
        self, world: Pretend, *, seed: int = 0, failing: Iterable[str] = (), dying: Iterable[str] = ()
    ) -> None:
        self.world, self.draw = world, random.Random(seed)
        self.failing, self.dying = set(failing), set(dying)
        self.up: tuple[Node, ...] = NODES
        self.waiting: list[CellOrder] = []
        self.launched: list[str] = []
        self.forced: list[str] = []
        self.said: list[Message] = []
        self.problems: list[str] = []
        self.cancelled = False

    def nodes(self) -> tuple[Node, ...]:
        return self.up

    def problems_of(self, nodes: Iterable[Node]) -> list[str]:
        return self.problems

    def unsent_of(self, nodes: Iterable[Node]) -> list[str]:
        return ["node two: 1 run is not recorded"]

    def launch(self, order: CellOrder, needs: Needs) -> None:
        stale = {step.cell for step in self.world.plan().stale}
        assert not needs_of(order.study, order.cell) & stale
        self.waiting.append(order)
        self.launched.append(str(order.cell))
        self.forced += [str(order.cell)] * order.forced
        self.said += [Began(str(order.cell), NODES[0].id), Phase(str(order.cell), "Making", 1, 0)]
        if str(order.cell) in self.dying:
            self.said.append(Began(str(order.cell), NODES[1].id))

    def ended(self, seconds: float) -> list[tuple[str, Ended | str]]:
        order = self.waiting.pop(self.draw.randrange(len(self.waiting)))
        name = str(order.cell)
        if name in self.failing:
            return [(name, Ended(NODES[1].id, 0.5, "line 2 of it is wrong"))]
        self.world.make(order.cell)
        self.said.append(Said(name, "the store was slow"))
        return [(name, Ended(NODES[0].id, 0.5))]

    def messages(self) -> list[Message]:
        said, self.said = self.said, []
        return said

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretend:
    return pretend_in(tmp_path, monkeypatch)


def build(
    world: Pretend, tasks: TasksAtHand, only: list[Cell] | None = None, force: Iterable[Cell] = ()
) -> tuple[list[Cell], Shown]:
    shown, home = Shown(), SimpleNamespace(store=world.store, file_hashes=hash_file)
    return ClusterBuild(world.study, home, tasks, shown, only, set(force)).run(), shown


@pytest.mark.parametrize("seed", range(3))
def test_every_stale_cell_is_made_once_and_inputs_first(pretend: Pretend, seed: int) -> None:
    tasks = TasksAtHand(pretend, seed=seed)
    made, shown = build(pretend, tasks)
    assert sorted(map(str, made)) == sorted(map(str, cells(pretend.study)))
    assert sorted(tasks.launched) == sorted(map(str, made))
    assert pretend.plan().stale == ()
    assert shown.lines[0] == ("nodes", "one", "two")
    counts = [line for line in shown.lines if line[0] == "count"]
    assert counts[0] == ("count", 0, len(made))
    assert all(count[1] + count[2] == len(made) for count in counts)
    assert shown.lines[-1] == ("said", "MLflow", "node two: 1 run is not recorded")
    ended = [line for line in shown.lines if line[0] == "ended"]
    assert [line[1] for line in ended] == list(map(str, made))
    assert ("said", "leaderboard", "the store was slow") in shown.lines  # although it came with the cell's end


def test_a_failed_cell_holds_up_what_depends_on_it_alone_and_is_not_tried_again(pretend: Pretend) -> None:
    tasks = TasksAtHand(pretend, failing=["scored_forget_set[minds|sums]"])
    with pytest.raises(LwfError) as failed:
        build(pretend, tasks)
    assert str(failed.value) == "scored_forget_set[minds|sums] on two: line 2 of it is wrong"
    left = {str(step.cell) for step in pretend.plan().stale}
    assert left == {"scored_forget_set[minds|sums]", *downstream("minds|sums")}
    assert tasks.launched.count("scored_forget_set[minds|sums]") == 1


def test_several_failures_are_one_error(pretend: Pretend) -> None:
    tasks = TasksAtHand(pretend, failing=["learning_data[sums]", "forgetting_prompts[teeth]"])
    with pytest.raises(LwfError, match=r"^2 cells failed\. .*learning_data\[sums\] on two: line 2") as failed:
        build(pretend, tasks)
    assert "forgetting_prompts[teeth] on two" in str(failed.value)


def test_a_cell_that_is_taken_up_again_is_told(pretend: Pretend) -> None:
    _, shown = build(pretend, TasksAtHand(pretend, dying=["reference_checkpoint[sums]"]))
    began = [line for line in shown.lines if line[:2] == ("began", "reference_checkpoint[sums]")]
    assert [line[2:] for line in began] == [("one", False), ("two", True)]


def test_a_forced_cell_is_made_although_it_is_there_and_only_once(pretend: Pretend) -> None:
    pretend.make_all()
    tasks = TasksAtHand(pretend)
    forced = cell("learning_data[sums]")
    made, _ = build(pretend, tasks, force=[forced])
    assert [str(one) for one in made] == tasks.forced == ["learning_data[sums]"]


def test_a_forced_cell_that_fails_is_an_error(pretend: Pretend) -> None:
    pretend.make_all()
    tasks = TasksAtHand(pretend, failing=["learning_data[sums]"])
    with pytest.raises(LwfError, match=r"learning_data\[sums\] on two: line 2"):
        build(pretend, tasks, force=[cell("learning_data[sums]")])
    assert tasks.launched == ["learning_data[sums]"]


def test_a_node_that_would_make_something_else_stops_it_before_any_work(pretend: Pretend) -> None:
    tasks = TasksAtHand(pretend)
    tasks.problems = ["node two: LWF_REMOTE is not set there"]
    with pytest.raises(LwfError, match="node two: LWF_REMOTE is not set there"):
        build(pretend, tasks)
    assert tasks.launched == []


def test_a_cell_that_no_node_has_room_for_stops_it_before_any_work(pretend: Pretend) -> None:
    tasks = TasksAtHand(pretend)
    tasks.up = (Node("3" * 8, "tiny", 1, 0, 1e6),)
    with pytest.raises(LwfError, match="which no node of the cluster has; the largest, tiny, has 1 CPU"):
        build(pretend, tasks)
    assert tasks.launched == []


def test_an_interrupt_cancels_what_runs(pretend: Pretend) -> None:
    class Interrupted(TasksAtHand):
        def ended(self, seconds: float) -> list[tuple[str, Ended | str]]:
            raise KeyboardInterrupt

    tasks = Interrupted(pretend)
    with pytest.raises(KeyboardInterrupt):
        build(pretend, tasks)
    assert tasks.cancelled


def test_without_a_shared_store_there_is_no_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REMOTE_VARIABLE, raising=False)
    world = new_world(tmp_path)
    with pytest.raises(LwfError, match="LWF_REMOTE is not set: the nodes of a cluster share"):
        build_on_ray(world.study, world.home, "auto", Shown())
