"""Hashes, recipes and manifests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import ASSET, PARTITION, put

from lwf_assets.disk.hashes import canonical_hash, hash_file
from lwf_assets.errors import LwfError
from lwf_assets.store.manifest import FileEntry, InputVersion, Manifest, recipe_hash
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Store

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


SETTINGS = st.dictionaries(st.text(min_size=1, max_size=5), JSON, max_size=4)


TEXT = st.text(min_size=1, max_size=8)


def shuffled(value: Any) -> Any:
    """The same value with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(SETTINGS)
def test_a_hash_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    assert canonical_hash(shuffled(value)) == canonical_hash(value)
    assert canonical_hash(json.loads(json.dumps(value))) == canonical_hash(value)
    assert canonical_hash({**value, "another": 1}) != canonical_hash(value)


@given(st.lists(JSON, min_size=2, max_size=4))
def test_a_hash_depends_on_the_order_of_lists(items: list[Any]) -> None:
    if json.dumps(items, sort_keys=True) != json.dumps(items[::-1], sort_keys=True):
        assert canonical_hash(items) != canonical_hash(items[::-1])


def test_numbers_that_are_equal_to_python_alone_hash_differently() -> None:
    assert len({canonical_hash(value) for value in (1, 1.0, True, "1")}) == 4


def test_a_number_that_is_none_has_no_hash() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_hash({"x": float("nan")})


def test_every_part_of_a_recipe_counts_and_the_order_of_inputs_does_not() -> None:
    one, two = InputVersion("base_model", None, "v1"), InputVersion("learning_data", "sums", "v2")
    recipe = recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 1}, (one, two))
    assert recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 1}, (two, one)) == recipe
    others = {
        recipe_hash("base_model", PARTITION, "1", {"a": 1}, (one, two)),
        recipe_hash("lwf_checkpoint", Partition(forgetting_task="sums", learning_task="x"), "1", {"a": 1}, (one, two)),
        recipe_hash("lwf_checkpoint", PARTITION, "2", {"a": 1}, (one, two)),
        recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 2}, (one, two)),
        recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 1}, (one,)),
        recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 1}, (one, InputVersion("learning_data", "sums", "v3"))),
        recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 1}, (one, InputVersion("learning_data", "prod", "v2"))),
    }
    assert len(others | {recipe}) == 8


@given(
    settings=SETTINGS,
    summary=SETTINGS,
    provenance=SETTINGS,
    partition=st.none() | TEXT,
    inputs=st.lists(st.builds(InputVersion, TEXT, st.none() | TEXT, TEXT), max_size=3),
    files=st.lists(st.builds(FileEntry, TEXT, TEXT, st.integers(0)), max_size=3),
)
def test_a_manifest_survives_being_written_and_read(
    tmp_path_factory: pytest.TempPathFactory,
    settings: dict[str, Any],
    summary: dict[str, Any],
    provenance: dict[str, Any],
    partition: str | None,
    inputs: list[InputVersion],
    files: list[FileEntry],
) -> None:
    manifest = Manifest(
        ASSET, partition, "v", "r", "1", settings, tuple(inputs), tuple(files), summary=summary, provenance=provenance
    )
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    path.write_text(manifest.to_json(), encoding="utf-8")
    assert Manifest.read(path) == manifest


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"{", b"[]", b"3", b'"text"', b"null", b"{}", b"\xff\xfe", b'{"inputs": [], "files": []}', b"[" * 20],
)
def test_rubbish_is_no_manifest(rubbish: bytes, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(rubbish)
    with pytest.raises(LwfError, match=r"manifest\.json: not a manifest of this store .*remove it"):
        Manifest.read(path)


@pytest.mark.parametrize("change", [{"files": [{"path": "a"}]}, {"inputs": ["x"]}, {"colour": "red"}, {"files": None}])
def test_a_manifest_of_another_layout_is_refused(change: dict[str, Any], store: Store) -> None:
    entry = store.folder(ASSET, PARTITION) / "recipes" / f"{put(store).manifest.recipe}.json"
    entry.write_text(json.dumps({**json.loads(entry.read_text()), **change}))
    (entry.parent.parent / "manifests" / f"{hash_file(entry)}.json").touch()  # so it was written, by another version
    with pytest.raises(LwfError, match=r"r1\.json: not a manifest"):
        store.by_recipe(ASSET, PARTITION, "r1")


def test_every_manifest_is_found_newest_first_also_one_whose_recipe_gave_something_else_since(store: Store) -> None:
    made = [put(store, recipe, {"a": content}) for recipe, content in (("r1", b"1"), ("r2", b"2"), ("r1", b"3"))]
    for age, artifact in enumerate(reversed(made)):
        manifest = artifact.manifest
        recipe = store.folder(ASSET, PARTITION) / "recipes" / f"{manifest.recipe}.json"
        for path in (store.sealed_path(manifest, manifest.seal), recipe):
            if hash_file(path) == manifest.seal:
                os.utime(path, (1000 - age, 1000 - age))
    assert list(store.manifests()) == [artifact.manifest for artifact in reversed(made)]
    assert list(store.manifests(ASSET)) == list(store.manifests())
    assert list(store.manifests("base_model")) == []
    assert [store.is_current(artifact.manifest) for artifact in made] == [False, False, True]


def test_a_manifest_that_was_changed_is_passed_over(store: Store) -> None:
    old, new = put(store, "r1", {"a": b"1"}), put(store, "r1", {"a": b"2"})
    path = store.sealed_path(old.manifest, old.manifest.seal)
    path.write_text(path.read_text().replace(old.version, new.version))
    assert list(store.manifests()) == [new.manifest]


def test_manifests_older_than_seals_are_found(store: Store) -> None:
    artifact = put(store)
    store.sealed_path(artifact.manifest, artifact.manifest.seal).unlink()
    assert list(store.manifests()) == [artifact.manifest]
