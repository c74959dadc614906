"""The home: where it is, and a memo of file hashes that is never wrong."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lwf_assets.disk.hashes import hash_file
from lwf_assets.store import home as home_module
from lwf_assets.store.home import FileHashes, Home
from lwf_assets.store.partition import Partition


def test_the_home_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LWF_HOME", str(tmp_path / "here"))
    assert Home.from_environment().root == tmp_path / "here"
    monkeypatch.setenv("LWF_HOME", "there")
    assert Home.from_environment().root == tmp_path / "there"
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("LWF_HOME", "~/lwf")
    assert Home.from_environment().root == tmp_path / "user" / "lwf"
    for unset in (lambda: monkeypatch.setenv("LWF_HOME", ""), lambda: monkeypatch.delenv("LWF_HOME")):
        unset()
        assert Home.from_environment().root == tmp_path / ".lwf"


def test_looking_at_a_home_makes_none(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert home.store.current("base_model", Partition()) is None
    assert home.store is home.store
    assert not home.root.exists()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read."""
    read: list[Path] = []

    def watched(path: Path) -> str:
        read.append(path)
        return hash_file(path)

    monkeypatch.setattr(home_module, "hash_file", watched)
    return read


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path: Path, reads: list[Path]) -> None:
    path, hashes = tmp_path / "data", FileHashes(tmp_path / "home" / "memo.json")
    path.write_bytes(b"one")
    assert hashes(path) == hashes(path) == FileHashes(tmp_path / "home" / "memo.json")(path) == hash_file(path)
    assert len(reads) == 1
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert hashes(path) == hash_file(path)
    assert len(reads) == 2


def test_a_file_of_the_same_size_and_time_that_took_its_place_is_read(tmp_path: Path, reads: list[Path]) -> None:
    path, hashes = tmp_path / "data", FileHashes(tmp_path / "memo.json")
    path.write_bytes(b"one")
    os.utime(path, ns=(5, 5))
    hashes(path)
    (tmp_path / "new").write_bytes(b"two")
    os.utime(tmp_path / "new", ns=(5, 5))
    (tmp_path / "new").replace(path)
    assert hashes(path) == hash_file(path)
    assert len(reads) == 2


def test_one_file_by_two_names_is_read_once(tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path, hashes = tmp_path / "data", FileHashes(tmp_path / "memo.json")
    path.write_bytes(b"one")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(path)
    assert hashes(path) == hashes(Path("data")) == hashes(Path("link"))
    assert len(reads) == 1


def test_a_missing_file_is_an_error_and_is_not_remembered(tmp_path: Path) -> None:
    hashes = FileHashes(tmp_path / "memo.json")
    with pytest.raises(FileNotFoundError):
        hashes(tmp_path / "none")
    assert not (tmp_path / "memo.json").exists()


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b"null", b"\xff", b'{"other": [1, 2, 3, "x"]}'])
def test_a_memo_that_cannot_be_read_costs_only_time(rubbish: bytes, tmp_path: Path) -> None:
    path, memo = tmp_path / "data", tmp_path / "memo.json"
    path.write_bytes(b"one")
    memo.write_bytes(rubbish)
    assert FileHashes(memo)(path) == hash_file(path)
    assert str(path) in json.loads(memo.read_text())


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    memo = tmp_path / "memo.json"
    paths = [tmp_path / f"file-{number}" for number in range(12)]
    for path in paths:
        path.write_text(path.name)
    threads = [threading.Thread(target=lambda path=path: FileHashes(memo)(path)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads(memo.read_text()).keys() == {str(path) for path in paths}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=4), min_size=1, max_size=6))
def test_the_hash_is_always_that_of_what_is_there_now(tmp_path: Path, contents: list[bytes]) -> None:
    path, hashes = tmp_path / "data", FileHashes(tmp_path / "memo.json")
    for content in contents:
        replacement = tmp_path / "new"
        replacement.write_bytes(content)
        replacement.replace(path)
        assert hashes(path) == hash_file(path)
