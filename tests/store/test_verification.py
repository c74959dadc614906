"""Files are hashed before they are used: once, and again when anything about them changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stored import ASSET, FILES, PARTITION, put

from lwf_assets.disk.hashes import hash_file
from lwf_assets.errors import LwfError
from lwf_assets.store import verification
from lwf_assets.store.manifest import MANIFEST
from lwf_assets.store.records import read_verdicts
from lwf_assets.store.store import Artifact, Store
from lwf_assets.store.verification import DamagedArtifactError


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read to verify something."""
    names: list[str] = []

    def counted(path: Path) -> str:
        names.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(verification, "hash_file", counted)
    return names


def test_what_was_just_written_is_not_hashed_again(store: Store, hashed: list[str]) -> None:
    artifact = put(store)
    store.verify(artifact)
    assert store.built(ASSET, PARTITION) == artifact
    assert hashed == []


def test_a_file_is_hashed_once_and_again_when_it_was_touched(store: Store, hashed: list[str]) -> None:
    artifact = put(store)
    shutil.rmtree(artifact.path.parent / "verified")  # a home of an older version
    store.verify(artifact)
    assert sorted(hashed) == ["a.txt", "b.bin"]
    store.verify(artifact)
    assert len(hashed) == 2
    os.utime(artifact.path / "a.txt")
    store.verify(artifact)
    assert hashed[2:] == ["a.txt"]


def test_a_change_is_seen_although_size_and_time_are_those_of_before(store: Store) -> None:
    artifact = put(store)
    path = artifact.path / "a.txt"
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"onE")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DamagedArtifactError, match=r"a\.txt: the file was changed"):
        store.verify(artifact)


def _replace_by_link(path: Path) -> None:
    other = path.parent.parent / "elsewhere"
    shutil.move(path, other)
    path.symlink_to(other)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "the file was changed": lambda folder: (folder / "a.txt").write_bytes(b"onE"),
    "the file is missing": lambda folder: (folder / "a.txt").unlink(),
    "the file was added": lambda folder: (folder / "deep" / "config.json").write_text("{}"),
    "the file was replaced by a link": lambda folder: _replace_by_link(folder / "a.txt"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_artifact_is_named_with_what_to_do(store: Store, what: str) -> None:
    artifact = put(store)
    DAMAGE[what](artifact.path)
    with pytest.raises(DamagedArtifactError, match=what) as raised:
        store.verify(artifact)
    for word in (ASSET, artifact.version, str(artifact.path), "lwf repair", f"lwf build --force {ASSET}"):
        assert word in str(raised.value)


def test_what_is_read_by_its_ending_alone_is_verified_alone(store: Store, hashed: list[str]) -> None:
    artifact = put(store)
    (artifact.path / "a.txt").write_bytes(b"onE")
    store.verify(artifact, ending=".bin")
    with pytest.raises(DamagedArtifactError):
        store.verify(artifact)


def test_a_memory_that_cannot_be_read_or_written_only_costs_time(store: Store, hashed: list[str]) -> None:
    artifact = put(store)
    memory = artifact.path.parent / "verified" / f"{artifact.version}.json"
    for damage in (b"", b"[]", b"{", b"\xff", b'{"a.txt": 3}', b'{"a.txt": []}', b'{"a.txt": ["x"]}'):
        memory.write_bytes(damage)
        hashed.clear()
        store.verify(artifact)
        assert len(hashed) == 2, damage
    shutil.rmtree(memory.parent)
    memory.parent.write_text("in the way")
    store.verify(artifact)


def test_a_memory_of_another_artifact_is_not_believed(store: Store) -> None:
    """What is remembered is a hash, and not that it was the right one."""
    first, second = put(store), put(store, "r2", {"a.txt": b"two", "deep/b.bin": FILES["deep/b.bin"]})
    verified = first.path.parent / "verified"
    shutil.copy(second.path / "a.txt", first.path / "a.txt")
    shutil.copy(verified / f"{second.version}.json", verified / f"{first.version}.json")
    with pytest.raises(DamagedArtifactError):
        store.verify(first)


@pytest.fixture
def recipe_entry(store: Store) -> tuple[Artifact, Path]:
    artifact = put(store, "0a", provenance={"study_settings": "x"})
    return artifact, artifact.path.parent / "recipes" / "0a.json"


def test_every_byte_of_a_recipes_entry_may_be_wrong(store: Store, recipe_entry: tuple[Artifact, Path]) -> None:
    artifact, entry = recipe_entry
    whole = entry.read_bytes()
    for position in range(len(whole)):
        entry.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert store.current(ASSET, PARTITION) == artifact, position  # found by its seal
    shutil.rmtree(entry.parent.parent / "manifests")
    (artifact.path / MANIFEST).write_bytes(b"{}")
    assert store.current(ASSET, PARTITION) is None
    entry.write_bytes(whole)
    assert store.current(ASSET, PARTITION) is None  # nothing says any more that this is what was written


def test_an_entry_of_another_cell_is_not_believed(store: Store, recipe_entry: tuple[Artifact, Path]) -> None:
    artifact, entry = recipe_entry
    elsewhere = store.root / ASSET / "minus"
    shutil.copytree(artifact.path.parent, elsewhere)
    assert store.current_manifest(ASSET, "minus") is None
    assert entry.is_file()


@pytest.mark.parametrize("pointer", [b"", b"\xff\xfe", b"../../etc", b"nothing", b"0b\n", b"0a/../0a"])
def test_a_damaged_pointer_leads_nowhere(store: Store, recipe_entry: tuple[Artifact, Path], pointer: bytes) -> None:
    (recipe_entry[0].path.parent / "current").write_bytes(pointer)
    assert store.current(ASSET, PARTITION) is None
    with pytest.raises(LwfError, match="is not built"):
        store.built(ASSET, PARTITION)


def test_every_byte_of_a_verdict_may_be_wrong(store: Store) -> None:
    store.save_verdict(ASSET, PARTITION, "v1", "all_finite", {"passed": False, "reason": "17 are not", "figures": {}})
    path = store.folder(ASSET, PARTITION) / "checks" / "v1.json"
    whole = path.read_bytes()
    said = read_verdicts(path)
    assert said is not None
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert read_verdicts(path) in (None, said), position  # `said`: white space
    path.write_text('{"all_finite": {"passed": true, "reason": "", "figures": {}}}')  # older than seals
    assert store.verdicts(ASSET, PARTITION, "v1")["all_finite"]["passed"]
