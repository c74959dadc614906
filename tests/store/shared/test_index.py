"""What a machine remembers of the shared place: the same as a dict, whichever process reads or writes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lwf_assets.store.shared import index as module
from lwf_assets.store.shared.index import RECORDS_INDEX, Index

names = st.sampled_from(["a", "b/c", "d"])
changes = st.dictionaries(names, st.one_of(st.none(), st.sampled_from(["1", "2"])), max_size=3)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 1), changes), max_size=12), st.booleans())
def test_two_processes_know_the_same_as_a_dict(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, module.Changes]], short: bool
) -> None:
    root = tmp_path_factory.mktemp("index")
    both, expected = [Index(root, "s3://b"), Index(root, "s3://b")], dict[str, str]()
    with pytest.MonkeyPatch.context() as patch:
        if short:
            patch.setattr(module, "_SLACK", 0)
        for who, change in steps:
            with both[who].changed() as made:
                made.update(change)
            for name, tag in change.items():
                expected.pop(name, None)
                if tag is not None:
                    expected[name] = tag
            assert [one.tags() for one in both] == [expected, expected]
    assert Index(root, "s3://b").tags() == expected
    assert Index(root, "s3://other").tags() == {}


def test_a_line_that_was_not_written_to_its_end_is_not_believed_and_not_built_upon(tmp_path: Path) -> None:
    index = Index(tmp_path, "s3://b")
    with index.changed() as made:
        made["a"] = "1"
    with (tmp_path / RECORDS_INDEX).open("a") as file:
        file.write('{"b": "2"')
    assert index.tags() == {"a": "1"}
    with Index(tmp_path, "s3://b").changed() as made:
        made["c"] = "3"
    assert index.tags() == Index(tmp_path, "s3://b").tags() == {"a": "1", "c": "3"}


@pytest.mark.parametrize("content", ["{", '"s3://b"\nnonsense\n', '"s3://b"\n[1]\n', ""])
def test_a_damaged_index_is_empty_and_written_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORDS_INDEX).write_text(content)
    index = Index(tmp_path, "s3://b")
    assert index.tags() == {}
    with index.changed() as made:
        made["a"] = "1"
    assert Index(tmp_path, "s3://b").tags() == {"a": "1"}


def test_a_change_costs_a_line(tmp_path: Path) -> None:
    index = Index(tmp_path, "s3://b")
    with index.changed() as made:
        made.update({str(number): "tag" for number in range(1000)})
    before = (tmp_path / RECORDS_INDEX).stat().st_size
    with index.changed() as made:
        made["7"] = "another"
    assert (tmp_path / RECORDS_INDEX).stat().st_size - before == len('{"7": "another"}\n')
