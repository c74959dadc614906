"""Sums beside files, and text that carries its own: whatever is done to them is seen."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwf_assets.disk.hashes import hash_file
from lwf_assets.disk.sums import SUMS, files_below, is_as_summed, trouble_with, unsealed, with_seal, write_sums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(256)))
    (folder / "deep" / "a b.txt").write_text("text")
    write_sums(folder)
    return folder


def test_a_folder_that_nobody_touched_is_as_summed(folder: Path) -> None:
    assert is_as_summed(folder)
    done = subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=folder, check=False)
    assert done.returncode == 0


def _flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def _link(path: Path) -> None:
    path.rename(path.parent.parent / "moved")
    path.symlink_to(path.parent.parent / "moved")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": lambda folder: _flip(folder / "weights"),
    "cut short": lambda folder: os.truncate(folder / "weights", 100),
    "emptied": lambda folder: os.truncate(folder / "deep" / "a b.txt", 0),
    "removed": lambda folder: (folder / "weights").unlink(),
    "added": lambda folder: (folder / "deep" / "more").touch(),
    "swapped": lambda folder: shutil.copy(folder / "weights", folder / "deep" / "a b.txt"),
    "linked": lambda folder: _link(folder / "weights"),
    "a linked folder": lambda folder: (folder / "other").symlink_to(folder / "deep"),
    "sums flipped": lambda folder: _flip(folder / SUMS),
    "sums removed": lambda folder: (folder / SUMS).unlink(),
    "sums emptied": lambda folder: os.truncate(folder / SUMS, 0),
    "sums not text": lambda folder: (folder / SUMS).write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_whatever_is_done_to_a_folder_is_seen(folder: Path, what: str) -> None:
    DAMAGE[what](folder)
    assert not is_as_summed(folder)


def test_the_trouble_with_a_file_is_told_in_words(folder: Path) -> None:
    path = folder / "weights"
    right = hash_file(path)
    assert trouble_with(path, right) is None
    assert trouble_with(path, "0" * 64) == f"the file was changed: its sha256 is {right[:16]}.. and was {'0' * 16}.."
    assert trouble_with(folder / "nothing", right) == "the file is missing"
    assert trouble_with(folder / "deep", right) == "there is something else in place of the file"
    _link(path)
    assert trouble_with(path, right) == f"the file was replaced by a link to {folder.parent / 'moved'}"


def test_a_name_that_is_no_folder_is_found_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    assert [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)] == [
        "circle",
        "deep/file",
        "link",
        "nowhere",
    ]


@given(text=st.text(), position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_sealed_text_comes_back_whole_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, text: str, position: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("sealed") / "text"
    path.write_text(with_seal(text), encoding="utf-8", newline="")
    assert unsealed(path) == text
    whole = bytearray(path.read_bytes())
    whole[position % len(whole)] ^= 1 << bit
    path.write_bytes(whole)
    assert unsealed(path) is None
    path.write_bytes(bytes(whole)[: position % len(whole)])
    assert unsealed(path) is None
