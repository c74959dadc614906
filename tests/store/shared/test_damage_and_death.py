"""Bytes that change in the bucket, publishers that are killed, a store that is away, a disk that is full."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import killed_publisher
import pytest
from gate import Gate, gate_before
from places import ROOT
from s3_server import BUCKET, S3Server
from servers_at_work import LOOPBACK
from stored import ASSET, PARTITION, put

from lwf_assets.disk.room import refusal
from lwf_assets.lineage.repair import repair
from lwf_assets.lineage.store_faults import store_faults
from lwf_assets.object_storage import arriving
from lwf_assets.object_storage.bucket import CHUNK, Bucket, DamagedObjectError
from lwf_assets.store.manifest import FileEntry
from lwf_assets.store.shared.mirror import SharedMirror
from lwf_assets.store.shared.place import file_key
from lwf_assets.store.store import Artifact, Store

Machine = Callable[[str], Store]


def entry_of(artifact: Artifact, name: str) -> FileEntry:
    return next(entry for entry in artifact.manifest.files if entry.path == name)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects whose bytes are read to be hashed, from now on."""
    keys: list[str] = []
    real = Bucket.hash_of

    def counted(self: Bucket, key: str) -> str:
        keys.append(key)
        return real(self, key)

    monkeypatch.setattr(Bucket, "hash_of", counted)
    return keys


@pytest.mark.parametrize("damage", [b"\x00twO", b"\x00tw", b"\x00two and more", None])
@pytest.mark.parametrize("where", ["one", "two"])
def test_the_audit_finds_what_was_changed_in_the_bucket(
    machine: Machine, url: str, damage: bytes | None, where: str
) -> None:
    """On the machine that has the files and on one that has none, which fetches none for it."""
    made = put(machine("one"))
    assert list(store_faults(machine(where))) == []
    key = file_key(entry_of(made, "deep/b.bin").sha256)
    if damage is None:
        Bucket(url).delete([key])
    else:
        Bucket(url).write(key, damage)
    store = machine(where)
    (fault,) = store_faults(store)
    assert fault.path == store.artifact_folder(made.manifest) / "deep" / "b.bin"
    assert fault.what.startswith(f"the shared store has {'lost it' if damage is None else 'other bytes'} ({key})")
    assert store.artifact_folder(made.manifest).exists() == (where == "one")


def test_what_the_service_verifies_is_not_read_again(machine: Machine, url: str, hashed: list[str]) -> None:
    """By its tag; a folder has nothing to go by. Who sent the bytes knows them; who did not reads them once."""
    made = put(machine("one"))
    keys = {file_key(entry.sha256) for entry in made.manifest.files}
    is_folder = url.startswith("file")
    for name, is_read in (("one", is_folder), ("two", True), ("two", is_folder)):
        assert list(store_faults(machine(name))) == []
        assert set(hashed) == (keys if is_read else set())
        hashed.clear()


@pytest.mark.parametrize("damage", [b"\x00twO", None])
def test_a_machine_that_has_the_file_repairs_the_bucket(machine: Machine, url: str, damage: bytes | None) -> None:
    store = machine("one")
    made = put(store)
    key = file_key(entry_of(made, "deep/b.bin").sha256)
    Bucket(url).delete([key])
    if damage is not None:
        Bucket(url).write(key, damage)
    with pytest.raises(DamagedObjectError, match="`lwf repair` on a machine that has the file"):
        machine("two").built(ASSET, PARTITION)
    assert [done.problem for done in repair(store)] == [None]
    assert list(store_faults(store)) == []
    assert machine("two").built(ASSET, PARTITION)


def test_what_is_made_anew_replaces_a_damaged_object(machine: Machine, url: str) -> None:
    made = put(machine("one"))
    Bucket(url).write(file_key(entry_of(made, "a.txt").sha256), b"onE")
    store = machine("two")
    with store.lock(ASSET, PARTITION, "r1"), store.draft(ASSET, PARTITION, "r1", instead=True) as draft:
        (draft.path / "a.txt").write_bytes(b"one")
        draft.commit(code_version="1", settings={}, inputs=(), summary={}, provenance={})
    assert (machine("three").built(ASSET, PARTITION).path / "a.txt").read_bytes() == b"one"


@pytest.mark.parametrize("damage", ["flipped", "shorter", "longer"])
def test_a_large_object_comes_in_spans_and_is_checked(
    url: str, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    monkeypatch.setattr(arriving, "SPAN", CHUNK + 1000)
    bucket = Bucket(url)
    content = os.urandom(3 * CHUNK + 12345)
    digest = hashlib.sha256(content).hexdigest()
    bucket.write("x", content)
    bucket.download("x", tmp_path / "out" / "x", digest, len(content))
    assert (tmp_path / "out" / "x").read_bytes() == content
    assert bucket.hash_of("x") == digest
    flipped = content[: CHUNK + 7] + bytes([content[CHUNK + 7] ^ 1]) + content[CHUNK + 8 :]
    bucket.write("x", {"flipped": flipped, "shorter": content[:-1], "longer": content + b"x"}[damage])
    with pytest.raises(DamagedObjectError, match="the object x was changed"):
        bucket.download("x", tmp_path / "again", digest, len(content))
    assert not list(tmp_path.glob("*again*"))


def test_a_file_is_hashed_once_on_its_way(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine("one"))
    other = machine("two")

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} is hashed again")

    monkeypatch.setattr("lwf_assets.store.verification.hash_file", refuse)
    assert other.built(ASSET, PARTITION)
    assert other.built(ASSET, PARTITION)


def test_processes_of_one_machine_fetch_a_file_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine("one"))
    stores = [machine("two") for _ in range(4)]
    fetched: list[str] = []
    real = Bucket.download

    def slow(self: Bucket, key: str, path: Path, sha256: str, size: int | None = None) -> None:
        fetched.append(path.name)
        time.sleep(0.2)
        real(self, key, path, sha256, size)

    monkeypatch.setattr(Bucket, "download", slow)
    threads = [threading.Thread(target=store.built, args=(ASSET, PARTITION)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fetched) == ["a.txt", "b.bin"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_cache_on_a_full_disk_keeps_nothing_half(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    made = put(machine("one"))
    store = machine("two")

    def full(descriptor: int, content: bytes, at: int) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("lwf_assets.object_storage.arriving.os.pwrite", full)
        with pytest.raises(OSError, match=r"No space|quota") as raised:
            store.built(ASSET, PARTITION)
    said = refusal(raised.value, store.root)
    assert said is not None
    assert said.startswith(str(store.artifact_folder(made.manifest)))
    assert "the disk is full" in said
    assert "LWF_REMOTE" not in said
    assert [path for path in store.artifact_folder(made.manifest).rglob("*") if path.is_file()] == []
    assert store.built(ASSET, PARTITION)


def publish(url: str, root: Path, last: int) -> subprocess.CompletedProcess[str]:
    """In a process of its own, killed before its request number `last`."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/tests/support"}
    command = [sys.executable, str(Path(killed_publisher.__file__)), url, str(root), str(last)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_wherever_a_publisher_is_killed_others_see_all_or_nothing(machine: Machine, url: str, tmp_path: Path) -> None:
    whole = publish(url, tmp_path / "whole", 0)
    assert whole.returncode == 0, whole.stderr
    requests = int(whole.stdout)
    assert requests > 10
    for last in range(1, requests + 1, 1 if url.startswith("file") else 3):
        here = f"{url}/{last}"
        root = tmp_path / f"killed-{last}"
        assert publish(here, root, last).returncode == -signal.SIGKILL
        reader = tmp_path / f"reader-{last}"
        seen = Store(reader, SharedMirror(reader, Bucket(here, patience=5)))
        seen.refresh()
        found = seen.current(ASSET, PARTITION)
        if found is not None:
            assert {
                name: (seen.built(ASSET, PARTITION).path / name).read_bytes() for name in killed_publisher.FILES
            } == (killed_publisher.FILES)
        assert all(seen.mirror.has(manifest) for manifest in seen.manifests())
        assert publish(here, root, 0).returncode == 0
        seen.refresh()
        seen.built(ASSET, PARTITION)
        assert list(store_faults(seen)) == []


@pytest.fixture
def gate(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The only way to the server, with an empty bucket behind it."""
    server.empty()
    with gate_before(server.port) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{LOOPBACK}:{gate.port}")
        yield gate


@pytest.mark.slow
@pytest.mark.parametrize("what", ["publish", "fetch"])
def test_a_store_that_goes_away_in_the_middle_is_waited_for(
    gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Cut while megabytes are on their way, and away for two seconds."""

    def of(name: str) -> Store:
        root = tmp_path / name / "store"
        store = Store(root, SharedMirror(root, Bucket(f"s3://{BUCKET}/team", patience=60)))
        store.refresh()
        return store

    files = {f"large-{number}": os.urandom(5 * CHUNK) for number in range(2)}
    store = of("one")
    if what == "fetch":
        put(store, files=files)
        store = of("two")

    def cut() -> None:
        before = gate.passed
        while gate.passed < before + 3 * CHUNK:
            time.sleep(0.005)
        gate.shut()
        time.sleep(2)
        gate.open()

    thread = threading.Thread(target=cut)
    thread.start()
    with caplog.at_level(logging.WARNING, logger="lwf.store"):
        if what == "publish":
            put(store, files=files)
            store = of("two")
        made = store.built(ASSET, PARTITION)
    thread.join()
    assert {name: (made.path / name).read_bytes() for name in files} == files
    assert any("Waiting for it; nothing is lost." in record.message for record in caplog.records)
