"""A file that arrives in spans is hashed as it is, whoever is slow and whatever breaks."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwf_assets.object_storage import arriving
from lwf_assets.object_storage.arriving import Span, arrive
from lwf_assets.object_storage.at_once import GivenUpError, each_at_once, together, wait


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4000), st.integers(0, 1000))
def test_spans_in_any_order_give_the_file_and_its_hash(
    tmp_path_factory: pytest.TempPathFactory, size: int, seed: int
) -> None:
    content, path = random.Random(seed).randbytes(size), tmp_path_factory.mktemp("arriving") / "file"

    def read(span: Span) -> None:
        draw = random.Random(seed + span.at)
        time.sleep(draw.random() / 200)
        while span.at < span.end:
            span.write(content[span.at : min(span.end, span.at + draw.randint(1, 300))])

    with pytest.MonkeyPatch.context() as patch, opened(path) as descriptor:
        patch.setattr(arriving, "SPAN", 500)
        assert arrive(descriptor, path, size, read) == hashlib.sha256(content).hexdigest()
    assert path.read_bytes() == content


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_what_breaks_in_one_span_ends_all(
    tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "SPAN", 10)
    stopped = list[bool]()

    def read(span: Span) -> None:
        if span.at == 0:
            raise error
        stopped.append(wait(60))

    began = time.monotonic()
    with opened(tmp_path / "file") as descriptor, pytest.raises(type(error)):
        arrive(descriptor, tmp_path / "file", 30, read)
    assert time.monotonic() - began < 30
    assert all(stopped)


def test_a_span_that_nobody_needs_any_more_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an interrupt: a line may be so slow that the rest would take hours."""
    monkeypatch.setattr(arriving, "SPAN", 1000)
    written = list[int]()

    def read(span: Span) -> None:
        if span.at == 0:
            raise KeyboardInterrupt
        while span.at < span.end:
            span.write(b"x")
            written.append(span.at)
            time.sleep(0.05)

    with opened(tmp_path / "file") as descriptor, pytest.raises(KeyboardInterrupt):
        arrive(descriptor, tmp_path / "file", 2000, read)
    assert len(written) < 100


def test_a_disk_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, content: bytes, at: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with opened(tmp_path / "file") as descriptor, pytest.raises(OSError, match="No space left") as raised:
        arrive(descriptor, tmp_path / "file", 5, lambda span: span.write(b"12345"))
    assert raised.value.filename == str(tmp_path / "file")


def test_transfers_within_transfers_end_together() -> None:
    """One of eight fails; those that wait, and those that these are made of, stop waiting."""
    ready = threading.Barrier(3)

    def act(number: int) -> bool:
        if number == 0:
            ready.wait()
            raise ValueError("broken")
        with together(1) as pool:
            waiting = pool.submit(lambda: (ready.wait(), wait(60))[1])
            return waiting.result()

    began = time.monotonic()
    with pytest.raises(ValueError, match="broken"):
        each_at_once(act, range(3))
    assert time.monotonic() - began < 30
    assert not wait(0.01)


def test_of_several_errors_the_cause_is_raised() -> None:
    """Those that come before it gave up because of it."""
    failed, ready = threading.Event(), threading.Barrier(4)

    def act(number: int) -> None:
        ready.wait()
        if number < 3:
            failed.wait(60)
            raise GivenUpError
        failed.set()
        time.sleep(0.2)
        raise ValueError("the cause")

    with pytest.raises(ValueError, match="the cause"):
        each_at_once(act, range(4))
