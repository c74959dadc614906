"""Seconds come from what was timed, and from nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lwf_assets.cost.cell_cost import Cost
from lwf_assets.cost.wall_time import Pace
from lwf_assets.graph.cells import Cell
from lwf_assets.store.manifest import Manifest, contents_version
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Store

FISHER = Cell("fisher_diagonal", Partition(learning_task="sums"))
TERMS = Cell("confidence_terms", Partition("teeth", "sums"))
REFERENCE = Cell("reference_checkpoint", Partition(learning_task="sums"))


def manifest(cell: Cell, recipe: str, seconds: float, work: float | None, **others: Any) -> Manifest:
    provenance = {"wall_seconds": seconds, "work": work, "device": "cpu", "resumed": False, **others}
    return Manifest(cell.asset, cell.partition.key, contents_version(()), recipe, "1", {}, (), (), {}, provenance)


class Timed:
    """A store of manifests alone, each newer than the one before."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.count = 0

    def add(self, cell: Cell, seconds: float, work: float | None, **others: Any) -> str:
        self.count += 1
        recipe = f"recipe-{self.count}"
        path = self.store.folder(cell.asset, cell.partition) / "recipes" / f"{recipe}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(manifest(cell, recipe, seconds, work, **others).to_json())
        os.utime(path, (self.count, self.count))
        return recipe

    def seconds(self, cell: Cell, work: float | None, recipe: str | None = None) -> float | None:
        return Pace(self.store).seconds(cell, Cost(work), recipe)


@pytest.fixture
def timed(tmp_path: Path) -> Timed:
    return Timed(tmp_path)


def test_nothing_is_made_up(timed: Timed) -> None:
    assert timed.seconds(FISHER, 1e9) is None
    timed.add(REFERENCE, 10, 1e9)
    assert timed.seconds(FISHER, 1e9) is None
    timed.add(FISHER, 10, 1e9)
    assert timed.seconds(Cell("fisher_diagonal", Partition(learning_task="products")), None) is None


def test_seconds_are_in_proportion_to_the_work(timed: Timed) -> None:
    timed.add(FISHER, 10, 1e9)
    assert timed.seconds(FISHER, 1e9) == pytest.approx(10)
    assert timed.seconds(FISHER, 3e9) == pytest.approx(30)


def test_of_three_runs_of_like_size_the_middle_one_counts(timed: Timed) -> None:
    for seconds in (10, 90, 12):
        timed.add(FISHER, seconds, 1e9)
    timed.add(FISHER, 5, 1e3)  # a smoke test, all of it spent on starting
    assert timed.seconds(FISHER, 1e9) == pytest.approx(12)


def test_what_computes_alike_stands_in_until_there_is_something_of_its_own(timed: Timed) -> None:
    timed.add(FISHER, 10, 1e9)
    assert timed.seconds(TERMS, 2e9) == pytest.approx(20)
    timed.add(TERMS, 7, 1e9)
    assert timed.seconds(TERMS, 2e9) == pytest.approx(14)
    other = Cell("confidence_terms", Partition("minds", "sums"))
    assert timed.seconds(other, 2e9) == pytest.approx(14)


@pytest.mark.parametrize(
    ("timed_one", "other"),
    [
        (REFERENCE, Cell("arm_checkpoint", Partition(learning_task="sums", arm="bss"))),
        (
            Cell("self_generated_corpus", Partition("teeth")),
            Cell("evaluation", Partition(learning_task="sums", model="base")),
        ),
    ],
)
def test_the_first_arm_and_the_first_evaluation_are_told_by_what_was_there(
    timed_one: Cell, other: Cell, timed: Timed
) -> None:
    timed.add(timed_one, 10, 1e9)
    assert timed.seconds(other, 3e9) == pytest.approx(30)


def test_the_very_recipe_tells_its_own_time(timed: Timed) -> None:
    recipe = timed.add(FISHER, 33, 1e9)
    for _ in range(3):
        timed.add(FISHER, 10, 1e9)
    assert timed.seconds(FISHER, 1e9, recipe) == 33
    assert timed.seconds(FISHER, 1e9, "another") == pytest.approx(10)


def test_work_of_unknown_size_takes_as_long_as_the_partition_last_took(timed: Timed) -> None:
    timed.add(FISHER, 10, 1e9)
    timed.add(FISHER, 20, None)
    assert timed.seconds(FISHER, None) == 20
    assert timed.seconds(FISHER, 3e9) == pytest.approx(30)


@pytest.mark.parametrize("resumed", [True, None])
def test_a_resumed_run_and_one_of_an_earlier_version_tell_nothing(resumed: bool | None, timed: Timed) -> None:
    recipe = timed.add(FISHER, 2, 1e9, resumed=resumed)
    assert timed.seconds(FISHER, 1e9, recipe) is None
    assert timed.seconds(FISHER, None) is None


def test_the_device_that_worked_last_counts(timed: Timed) -> None:
    timed.add(FISHER, 1, 1e9, device="an accelerator")
    timed.add(FISHER, 100, 1e9)
    assert timed.seconds(FISHER, 1e9) == pytest.approx(100)
