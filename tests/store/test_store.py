"""The store: contents decide versions, readers never see half an artifact, and makers of one recipe take turns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from stored import ASSET, FILES, PARTITION, put

from lwf_assets.disk.hashes import hash_file
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Store


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_the_version_is_the_hash_of_the_contents_and_of_nothing_else(tmp_path: Path) -> None:
    first = put(Store(tmp_path / "one"), "r1", code_version="1", summary={"x": 1})
    second = put(Store(tmp_path / "two"), "r2", code_version="2", provenance={"when": "now"}, settings={"y": 2})
    assert first.version == second.version
    assert first.path.name == first.version
    assert {path.name for path in first.path.iterdir()} == {"a.txt", "deep", "manifest.json"}


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": b"one", "deep/b.bin": b"\x00twO"},
        {"a.txt": b"one", "deep/c.bin": b"\x00two"},
        {"a.txt": b"one"},
        {"a.txt": b"\x00two", "deep/b.bin": b"one"},
        {"a.txt": b"one", "deep/b.bin": b"\x00two", "empty": b""},
        {},
    ],
)
def test_other_contents_give_another_version(files: dict[str, bytes], store: Store) -> None:
    assert put(store).version != put(store, "r2", files).version


def test_the_files_of_the_manifest_are_those_on_disk(store: Store) -> None:
    artifact = put(store)
    for entry in artifact.manifest.files:
        path = artifact.path / entry.path
        assert (entry.sha256, entry.size) == (hash_file(path), path.stat().st_size)
    assert {entry.path for entry in artifact.manifest.files} == set(FILES)
    assert Manifest.read(artifact.path / "manifest.json") == artifact.manifest


def test_what_lies_in_the_store_can_be_read_by_other_users(store: Store) -> None:
    artifact = put(store)
    folder = store.folder(ASSET, PARTITION)
    for path in (artifact.path, artifact.path / "a.txt", folder / "current", folder / "recipes" / "r1.json"):
        assert path.stat().st_mode & 0o044 == 0o044


def test_nothing_is_current_in_an_empty_store(store: Store) -> None:
    assert store.current(ASSET, PARTITION) is None
    assert store.by_recipe(ASSET, PARTITION, "r1") is None
    assert store.verdicts(ASSET, PARTITION, "v") == {}


def test_current_follows_the_recipe_that_was_asked_for_last(store: Store) -> None:
    first, second = put(store), put(store, "r2", {"a.txt": b"other"})
    assert store.current(ASSET, PARTITION) == second
    store.set_current(first, PARTITION)
    assert store.current(ASSET, PARTITION) == first
    assert store.by_recipe(ASSET, PARTITION, "r2") == second


def test_two_recipes_of_the_same_contents_share_one_folder_and_keep_their_manifests(store: Store) -> None:
    first, second = put(store, settings={"x": 1}), put(store, "r2", settings={"x": 2})
    assert first.path == second.path
    found = [store.by_recipe(ASSET, PARTITION, recipe) for recipe in ("r1", "r2")]
    assert [artifact and artifact.manifest.settings for artifact in found] == [{"x": 1}, {"x": 2}]


@pytest.mark.parametrize("name", FILES)
def test_an_artifact_that_misses_a_file_is_not_there(name: str, store: Store) -> None:
    (put(store).path / name).unlink()
    assert store.by_recipe(ASSET, PARTITION, "r1") is None
    assert store.current(ASSET, PARTITION) is None
    assert put(store).path.joinpath(name).read_bytes() == FILES[name]


def test_an_artifact_without_files_is_there_while_its_folder_is(store: Store) -> None:
    artifact = put(store, files={})
    assert store.by_recipe(ASSET, PARTITION, "r1") == artifact
    (artifact.path / "manifest.json").unlink()
    artifact.path.rmdir()
    assert store.by_recipe(ASSET, PARTITION, "r1") is None


def test_a_damaged_artifact_is_replaced_by_one_made_anew(store: Store) -> None:
    artifact = put(store)
    (artifact.path / "a.txt").write_bytes(b"two")
    assert put(store).path == artifact.path
    assert (artifact.path / "a.txt").read_bytes() == b"one"
    assert not list(store.folder(ASSET, PARTITION).glob(".*"))


def test_an_artifact_that_is_there_is_kept_when_the_same_comes_again(store: Store) -> None:
    inode = (put(store).path / "a.txt").stat().st_ino
    assert (put(store).path / "a.txt").stat().st_ino == inode
    assert not list(store.folder(ASSET, PARTITION).glob(".*"))


def test_partitions_do_not_see_each_other(store: Store) -> None:
    artifact = put(store)
    for other in (Partition(), Partition(learning_task="other"), Partition("sums", "sums")):
        assert store.current(ASSET, other) is None
        assert store.by_recipe(ASSET, other, artifact.manifest.recipe) is None
    names = {
        store.folder(ASSET, p).name for p in (Partition(), Partition("a", "b"), Partition("a"), Partition(None, "b"))
    }
    assert len(names) == 4
