"""A study built on two machines with one shared store: each cell once, and the same bytes as on one machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign.builds import versions
from world import World, new_world

from dagster_project.cli.views import query_store
from lwf_assets.comparison.stored_reports import built_reports
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import cells
from lwf_assets.lineage.audit import audit
from lwf_assets.store.home import REMOTE_VARIABLE, Home
from lwf_assets.store.shared import scratch

pytestmark = pytest.mark.slow


@pytest.fixture
def alone(built_once: World) -> dict[str, str]:
    """The versions of a build that shares nothing."""
    return versions(built_once)


@pytest.fixture
def one(alone: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The tiny study on a machine with a shared store; from here on, every home that is opened shares it."""
    monkeypatch.setenv(REMOTE_VARIABLE, f"file://{tmp_path}/shared")
    return new_world(tmp_path / "one")


def another_machine(world: World, name: str) -> World:
    """The same study, with a home that is empty."""
    return World(world.folder, Home(world.home.root.parent / name), world.values)


def test_two_machines_build_one_study(one: World, alone: dict[str, str]) -> None:
    first = [cell for cell in cells(one.study) if cell.asset in ("fisher_diagonal", "scored_forget_set")]
    half = one.build(only=first)
    two = another_machine(one, "two")
    rest = two.build()
    assert not set(half) & set(rest)
    assert versions(two) == alone
    one.home.store.refresh()
    assert one.stale() == set()
    assert versions(one) == alone

    three = another_machine(one, "three")
    assert three.stale() == set()
    assert built_reports(
        three.study, three.home.store, [cell for cell in cells(three.study) if cell.asset == "eval_report"]
    )
    _, rows = query_store(three.study, three.home.store, "SELECT count(*) FROM scored_forget_set")
    assert rows[0][0] > 0
    three.values["evaluation"]["known_conflicts"] = ["minds"]
    assert {name.partition("[")[0] for name in three.stale()} == {"eval_report", "leaderboard"}
    three.build()
    assert three.stale() == set()
    assert not list(three.home.root.rglob("*.safetensors"))  # reports are made of tables
    cell = next(cell for cell in cells(three.study) if cell.asset == "lwf_checkpoint")
    checkpoint = three.home.store.current(cell.asset, cell.partition)
    assert checkpoint is not None
    found = audit(three.home.store, checkpoint.manifest, verify=True)
    assert found.holds
    assert found.unlearned


def test_a_training_goes_on_where_another_machine_was_interrupted(
    one: World, alone: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "EVERY", 0.1)
    one.values["training"]["checkpoint_every"] = 2
    one.build(only=[cell for cell in cells(one.study) if cell.asset in ("base_model", "learning_data")])
    with monkeypatch.context() as patch:

        def fail(*arguments: object, **named: object) -> None:
            import time

            time.sleep(2)  # in which the last checkpoint is shared
            raise LwfError("the machine goes down")

        patch.setattr("lwf_assets.engine.checkpoint.save_model", fail)
        only = [cell for cell in cells(one.study) if cell.asset == "reference_checkpoint"]
        with pytest.raises(LwfError, match="goes down"):
            one.build(only=only)
    two = another_machine(one, "two")
    two.build(only=only)
    (made,) = [two.home.store.built(cell.asset, cell.partition) for cell in only]
    assert made.manifest.provenance["resumed"]
    assert made.version == alone["reference_checkpoint[sums]"]
    assert not list((Path(one.home.root.parent) / "shared" / "scratch").rglob("*.json"))
