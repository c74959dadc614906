"""Nothing is computed from bytes that are not those of the manifest: not trained, not checked, not shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from world import World

from dagster_project.cli.views import query_store
from lwf_assets.building.check_runner import judge
from lwf_assets.building.checks import checks_of
from lwf_assets.building.materialize import materialize
from lwf_assets.comparison.stored_reports import built_reports
from lwf_assets.disk.hashes import hash_file
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, cells
from lwf_assets.store.partition import Partition
from lwf_assets.store.verification import DamagedArtifactError

REFERENCE = Cell("reference_checkpoint", Partition(learning_task="sums"))


def flip_lowest_bit_of_a_weight(path: Path) -> None:
    """The smallest change of one weight that there is: little endian, so its first byte has it. Weights come last."""
    before = {name: weight.clone() for name, weight in load_file(path).items()}
    whole = bytearray(path.read_bytes())
    whole[-4] ^= 1
    path.write_bytes(whole)
    changed = [name for name, weight in load_file(path).items() if not weight.equal(before[name])]
    assert len(changed) == 1


def files_of(world: World) -> set[Path]:
    return {path for path in world.home.store.root.rglob("*") if path.is_file() and "verified" not in path.parts}


def test_one_bit_of_a_weight_is_enough_to_stop_a_build(built: World) -> None:
    weights = built.artifact("base_model") / "model.safetensors"
    flip_lowest_bit_of_a_weight(weights)
    built.values["training"]["learning_rate"] = 2e-3
    before = files_of(built)
    with pytest.raises(LwfError, match=rf"base_model .*{weights}: the file was changed: .*`lwf repair`"):
        built.build()
    assert {path.suffix for path in files_of(built) - before} <= {".lock"}


@pytest.mark.parametrize("asset", ["base_model", "learning_data"])
@pytest.mark.parametrize("how", ["cut short", "removed", "linked", "added"])
def test_no_damage_of_an_input_is_passed_over(built: World, asset: str, how: str) -> None:
    folder = built.artifact(asset)
    path = max((path for path in folder.iterdir() if path.name != "manifest.json"), key=lambda p: p.stat().st_size)
    if how == "cut short":
        path.write_bytes(path.read_bytes()[:-1])
    elif how == "removed":
        path.unlink()
    elif how == "linked":
        path.rename(built.folder / "moved")
        path.symlink_to(built.folder / "moved")
    else:
        (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(LwfError, match=asset):
        materialize(built.study, built.home.store, REFERENCE, force=True)


def test_an_artifact_that_would_be_taken_from_the_store_is_made_again_if_it_was_damaged(built: World) -> None:
    store, corpus = built.home.store, built.artifact("self_generated_corpus") / "corpus.parquet"
    right = hash_file(corpus)
    corpus.write_bytes(corpus.read_bytes()[:-1])
    made = materialize(built.study, store, Cell("self_generated_corpus", Partition("teeth")))
    assert not made.reused
    assert hash_file(corpus) == right


def test_nothing_is_checked_reported_or_queried_that_was_damaged(built: World) -> None:
    study, store = built.study, built.home.store
    evaluation = next(cell for cell in cells(study) if cell.asset == "evaluation")
    artifact = store.built(evaluation.asset, evaluation.partition)
    fisher = next(cell for cell in cells(study) if cell.asset == "fisher_diagonal")
    (built.artifact("fisher_diagonal") / "fisher_diagonal.safetensors").write_bytes(b"")
    items = artifact.path / "items.parquet"
    items.write_bytes(items.read_bytes() + b"\0")
    with pytest.raises(DamagedArtifactError):
        judge(study, store, fisher, checks_of("fisher_diagonal")[0])
    with pytest.raises(DamagedArtifactError):
        built_reports(study, store, [cell for cell in cells(study) if cell.asset == "eval_report"])
    with pytest.raises(DamagedArtifactError):
        query_store(study, store, "SELECT 1")
