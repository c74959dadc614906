"""A damaged store is found out and repaired: by the recipe, or by a copy, or not at all and said so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import json_of, lwf
from world import World

from lwf_assets import assets
from lwf_assets.disk.hashes import hash_file
from lwf_assets.graph.work import Work
from lwf_assets.lineage.repair import damaged_artifacts, repair
from lwf_assets.lineage.store_faults import files_to_hash, store_faults
from lwf_assets.store.manifest import MANIFEST
from lwf_assets.store.store import Store


def contents(store: Store) -> dict[str, str]:
    """The sha256 of everything that is no memory and no lock."""
    passing = ("verified", "scratch")
    paths = (path for path in store.root.rglob("*") if path.is_file())
    kept = (path for path in paths if not set(passing) & set(path.parts) and path.suffix != ".lock")
    return {str(path.relative_to(store.root)): hash_file(path) for path in kept}


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def test_a_store_that_nobody_touched_has_no_fault(built: World) -> None:
    store, seen = built.home.store, list[Path]()
    assert list(store_faults(store, hashed=seen.append)) == []
    assert len(seen) == files_to_hash(store) > 30
    assert list(repair(store)) == []


def test_what_can_be_made_again_is_and_has_the_same_bytes(built: World) -> None:
    """A model, what the model said, and what was computed from both: each is made again from the others, in order."""
    store = built.home.store
    before = contents(store)
    flip(built.artifact("base_model") / "model.safetensors")
    (built.artifact("self_generated_corpus") / "corpus.parquet").unlink()
    shutil.rmtree(built.artifact("fisher_diagonal"))
    (built.artifact("scored_forget_set") / "more").write_text("added")
    found = [manifest.asset for manifest, _, _ in damaged_artifacts(store)]
    assert set(found) == {"base_model", "self_generated_corpus", "fisher_diagonal", "scored_forget_set"}
    assert found.index("base_model") == 0  # what is made from it comes after it
    assert {fault.artifact.partition("[")[0] for fault in store_faults(store)} == set(found)
    done = list(repair(store))
    assert [entry.problem for entry in done] == [None] * 4
    assert contents(store) == before
    assert list(store_faults(store)) == []
    assert built.build() == []


def test_what_comes_out_otherwise_is_left_and_said(built: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the model's own directory is another by now: the recipe no longer gives what it gave."""
    store, weights = built.home.store, built.artifact("base_model") / "model.safetensors"
    flip(weights)

    def otherwise(asset: str, work: Work) -> None:
        (work.out / "model.safetensors").write_bytes(b"another model")

    monkeypatch.setattr(assets, "materialize", otherwise)
    damaged = hash_file(weights)
    (entry,) = repair(store)
    assert entry.path == weights
    assert "came out with other contents" in str(entry.problem)
    assert hash_file(weights) == damaged


def test_every_copy_of_a_manifest_is_written_again_by_the_others(built: World) -> None:
    store = built.home.store
    before = contents(store)
    manifest = next(store.manifests("fisher_diagonal"))
    folder = store.folder_of(manifest.asset, manifest.partition)
    copies = [
        store.artifact_folder(manifest) / MANIFEST,
        folder / "recipes" / f"{manifest.recipe}.json",
        store.sealed_path(manifest, manifest.seal),
    ]
    for damage in (flip, Path.unlink, lambda path: path.write_bytes(b"")):
        for copy in copies:
            damage(copy)
            if copy != copies[1] or copy.exists():  # a recipe that is not there was never made
                assert copy in {fault.path for fault in store_faults(store)}, copy
            assert copy in {entry.path for entry in repair(store)}, copy
            assert contents(store) == before


DAMAGE: dict[str, Callable[[Store], Path]] = {
    "a pointer": lambda store: next(iter(sorted(store.root.glob("fisher_diagonal/*/current")))),
    "a verdict": lambda store: next(iter(sorted(store.root.glob("reference_checkpoint/*/checks/*.json")))),
    "a study": lambda store: next(iter(sorted(store.root.glob("studies/*.json")))),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_beside_the_artifacts_is_found_and_the_next_build_sets_it_right(built: World, what: str) -> None:
    store = built.home.store
    path = DAMAGE[what](store)
    flip(path)
    assert path in {fault.path for fault in store_faults(store)}
    ran = built.build()
    if what != "a study":  # which only the lineage reads
        assert path not in {fault.path for fault in store_faults(store)}
        assert {cell.asset for cell in ran} <= {"fisher_diagonal", "reference_checkpoint"}
    assert built.build() == []


def test_unfinished_work_that_was_damaged_is_found(built: World) -> None:
    scratch = built.home.store.root / "lwf_checkpoint" / "teeth+sums" / "scratch" / "0a"
    (scratch / "training-0" / "checkpoint-2").mkdir(parents=True)
    (scratch / "training-0" / "checkpoint-2" / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
    (scratch / "shard-00000.json").write_text("[[1]]")
    found = {fault.path for fault in store_faults(built.home.store)}
    assert found == {scratch / "training-0" / "checkpoint-2", scratch / "shard-00000.json"}


@pytest.mark.slow
def test_the_commands_say_what_is_damaged_and_repair_it(built: World) -> None:
    corpus = built.artifact("self_generated_corpus") / "corpus.parquet"
    assert lwf(built, "audit", "--verify").returncode == 0
    flip(corpus)
    audited = lwf(built, "audit", "--verify", "--json")
    assert audited.returncode == 1
    (fault,) = json.loads(audited.stdout)["faults"]
    assert fault["path"] == str(corpus)
    listed = lwf(built, "repair")
    assert listed.returncode == 1
    assert str(corpus) in listed.stdout
    assert "1 damaged. --yes makes them again" in listed.stderr
    assert json_of(lwf(built, "repair", "--yes", "--json"))["repaired"] == 1
    assert lwf(built, "audit", "--verify").returncode == 0
    assert lwf(built, "audit").returncode == 2
