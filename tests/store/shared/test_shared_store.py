"""Two machines with one shared store: each finds what the other made, and nobody believes what is not whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from stored import ASSET, FILES, PARTITION, put

from lwf_assets.errors import LwfError
from lwf_assets.object_storage.bucket import Bucket, DamagedObjectError, Read
from lwf_assets.store.shared.index import RECORDS_INDEX
from lwf_assets.store.shared.place import MARK, file_key, published_key
from lwf_assets.store.store import Store

Machine = Callable[[str], Store]


def test_what_one_machine_made_is_found_by_the_other_and_brought_when_it_is_needed(machine: Machine) -> None:
    made = put(machine("one"), summary={"x": 1})
    other = machine("two")
    found = other.current(ASSET, PARTITION)
    assert found is not None
    assert found.manifest == made.manifest
    assert not found.path.exists()
    other.verify(found)
    assert {name: (found.path / name).read_bytes() for name in FILES} == FILES
    assert not list(other.root.rglob(".*"))


def test_only_the_files_that_are_asked_for_are_brought(machine: Machine) -> None:
    put(machine("one"), files={"a.parquet": b"rows", "b.safetensors": b"weights"})
    other = machine("two")
    artifact = other.current(ASSET, PARTITION)
    assert artifact is not None
    other.verify(artifact, ending=".parquet")
    assert {path.name for path in artifact.path.iterdir()} == {"a.parquet", "manifest.json"}
    assert other.current(ASSET, PARTITION) == artifact


def test_of_two_machines_that_make_one_recipe_the_first_is_believed_by_both(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    first = put(one, files={"a": b"first"})
    second = put(two, files={"a": b"second"})
    assert second.manifest == first.manifest
    for store in (one, two):
        found = store.built(ASSET, PARTITION)
        assert (found.path / "a").read_bytes() == b"first"


def test_the_same_contents_made_twice_are_no_conflict(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    first, second = put(one, provenance={"machine": 1}), put(two, provenance={"machine": 2})
    assert first.version == second.version
    two.verify(second)
    one.refresh()
    assert one.built(ASSET, PARTITION).manifest == first.manifest


def test_what_is_made_instead_takes_the_place_of_what_was_there(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    put(one, files={"a": b"first"})
    with two.lock(ASSET, PARTITION, "r1"), two.draft(ASSET, PARTITION, "r1", instead=True) as draft:
        (draft.path / "a").write_bytes(b"second")
        draft.commit(code_version="1", settings={}, inputs=(), summary={}, provenance={})
    one.refresh()
    assert (one.built(ASSET, PARTITION).path / "a").read_bytes() == b"second"


def test_verdicts_of_two_machines_are_merged(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    one.save_verdict(ASSET, PARTITION, "v", "first", {"passed": True})
    two.save_verdict(ASSET, PARTITION, "v", "second", {"passed": False})
    one.refresh()
    for store in (one, two):
        assert store.verdicts(ASSET, PARTITION, "v") == {"first": {"passed": True}, "second": {"passed": False}}


def test_the_pointer_of_the_last_to_ask_is_shared(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    first = put(one)
    put(one, "r2", {"a": b"other"})
    two.refresh()
    two.set_current(first, PARTITION)
    one.refresh()
    assert one.current(ASSET, PARTITION) == first


def test_settings_of_studies_are_shared(machine: Machine) -> None:
    digest = machine("one").keep_study({"name": "a study"})
    assert json.loads(machine("two").study_path(digest).read_text()) == {"name": "a study"}


def test_equal_files_are_there_once(machine: Machine, url: str) -> None:
    put(machine("one"), files={"tokenizer": b"the same", "weights": b"1"})
    put(machine("one"), "r2", {"tokenizer": b"the same", "weights": b"2"})
    assert len(Bucket(url).list("files")) == 3


def test_what_a_killed_machine_left_is_not_believed(machine: Machine, url: str) -> None:
    """Files, and even the mark, are there, but the manifest is not."""
    one = machine("one")
    made = put(one)
    bucket = Bucket(url)
    bucket.delete([name for name in bucket.list("records") if "recipes" in name or name.endswith("current")])
    other = machine("two")
    assert other.current(ASSET, PARTITION) is None
    again = put(other)
    assert again.version == made.version


def test_without_the_mark_the_files_are_not_expected(machine: Machine, url: str) -> None:
    made = put(machine("one"))
    Bucket(url).delete([published_key(made.manifest)])
    assert machine("two").current(ASSET, PARTITION) is None


@pytest.mark.parametrize("damage", [b"\x00twO", None])
def test_a_damaged_object_is_found_when_it_is_brought(machine: Machine, url: str, damage: bytes | None) -> None:
    made = put(machine("one"))
    entry = next(entry for entry in made.manifest.files if entry.path == "deep/b.bin")
    bucket = Bucket(url)
    if damage is None:
        bucket.delete([file_key(entry.sha256)])
    else:
        bucket.write(file_key(entry.sha256), damage)
    other = machine("two")
    with pytest.raises(DamagedObjectError, match=r"fisher_diagonal\[sums\] .*deep/b.bin: .*(changed|missing)"):
        other.built(ASSET, PARTITION)
    folder = other.folder(ASSET, PARTITION) / made.version
    assert not (folder / "deep" / "b.bin").exists()


def test_a_damaged_manifest_is_not_believed(machine: Machine, url: str) -> None:
    put(machine("one"), settings={"rate": 1}, provenance={"study_settings": "none"})
    bucket = Bucket(url)
    for name in bucket.list("records"):
        content = bucket.read(name)
        assert content is not None
        bucket.write(name, content.content.replace(b'"rate": 1', b'"rate": 2'))
    assert machine("two").current(ASSET, PARTITION) is None


def test_a_refresh_reads_only_what_changed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = machine("one"), machine("two")
    put(one)
    put(one, "r2", {"a": b"x"})
    two.refresh()
    read: list[str] = []
    real = Bucket.read

    def counted(self: Bucket, key: str) -> Read | None:
        read.append(key)
        return real(self, key)

    monkeypatch.setattr(Bucket, "read", counted)
    two.refresh()
    assert read == []
    put(one, "r3", {"a": b"y"})
    read.clear()
    two.refresh()
    assert sorted(name.split("/")[3] for name in read) == ["current", "manifests", "recipes"]


def test_a_place_with_other_things_is_refused(url: str, tmp_path: Path, machine: Machine) -> None:
    Bucket(url).write("photos/cat.jpg", b"meow")
    with pytest.raises(LwfError, match=f"LWF_REMOTE={url}: holds objects, and none of them is {MARK}"):
        machine("one")
    assert set(Bucket(url).list("")) == {"photos/cat.jpg"}


def test_a_place_of_another_layout_is_refused(url: str, machine: Machine) -> None:
    Bucket(url).write(MARK, b'{"store": "lwf-assets", "layout": 2}')
    with pytest.raises(LwfError, match="another version"):
        machine("one")


def test_a_lost_index_costs_time_and_nothing_else(machine: Machine) -> None:
    put(machine("one"))
    two = machine("two")
    (two.root / RECORDS_INDEX).write_text("{")
    two.refresh()
    assert two.built(ASSET, PARTITION)
