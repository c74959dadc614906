"""What the garbage collector leaves alone while a build runs, and does not afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from dagster_project.builds.libraries import libraries_left_alone


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_freeze_count()
    gc.unfreeze()
    yield
    gc.unfreeze()
    if before:
        gc.freeze()


def test_what_is_loaded_is_left_alone_until_the_end() -> None:
    with libraries_left_alone() as leave_alone:
        leave_alone()
        frozen = gc.get_freeze_count()
        assert frozen > 10_000
        leave_alone()
        assert gc.get_freeze_count() <= frozen  # nothing was loaded: what a step left is not frozen with it
    assert gc.get_freeze_count() == 0


def test_a_process_that_froze_its_own_keeps_it() -> None:
    gc.freeze()
    with libraries_left_alone() as leave_alone:
        leave_alone()
    assert gc.get_freeze_count() > 10_000
