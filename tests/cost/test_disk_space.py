"""What a cell is foreseen to write, beside what it wrote."""

from __future__ import annotations

import shutil
from collections import namedtuple
from typing import Any

import pytest
from world import World

from lwf_assets.building.materialize import materialize
from lwf_assets.cost.disk_space import disk_space_of
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, cells
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact

REFERENCE = Cell("reference_checkpoint", Partition(learning_task="sums"))


def known_in(world: World) -> Any:
    def known(cell: Cell) -> Artifact | None:
        return world.home.store.current(cell.asset, cell.partition)

    return known


def test_no_artifact_is_smaller_than_was_foreseen(built: World) -> None:
    study, known = built.study, known_in(built)
    for cell in cells(study):
        artifact = known(cell)
        written = sum(path.stat().st_blocks * 512 for path in artifact.path.rglob("*"))
        kept = disk_space_of(study, cell, known).kept
        assert kept <= written + 20_000, cell
        if cell.asset in ("base_model", "fisher_diagonal", "reference_checkpoint", "lwf_checkpoint"):
            assert kept >= 0.5 * written, cell


@pytest.mark.parametrize(
    ("training", "optimizer", "checkpoints"),
    [({"checkpoint_every": 6}, "adam", 0), ({"checkpoint_every": 5}, "adam", 5), ({"checkpoint_every": 2}, "sgd", 6)],
)
def test_training_checkpoints_lie_beside(
    built: World, training: dict[str, Any], optimizer: str, checkpoints: int
) -> None:
    """Of the weights: one copy and the moments of each Adam, in up to two checkpoints; none after the last step."""
    built.values["training"] |= training
    built.values["unlearning"]["optimizer"] = optimizer
    cell = Cell("lwf_checkpoint", Partition("teeth", "sums"))
    known = known_in(built)
    weights = disk_space_of(built.study, Cell("base_model", Partition()), known).kept
    assert disk_space_of(built.study, cell, known).meanwhile == checkpoints * weights


def test_what_has_no_room_is_not_started(built: World, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 50_000, 50_000))
    with pytest.raises(LwfError) as caught:
        materialize(built.study, built.home.store, REFERENCE, force=True)
    assert str(caught.value) == (
        f"{REFERENCE} would not fit on the disk and was not started: it writes at least 108 kB, and 50 kB are free in "
        f"{built.home.store.root}. `lwf gc` shows what may be removed"
    )
    assert not list(built.home.store.root.rglob(".draft-*"))
