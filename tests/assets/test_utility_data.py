"""Neutral text and the rows that every model is measured on beside its learning task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from armed import PASSAGES, Armed

from lwf_assets.errors import LwfError
from lwf_assets.measuring.measurement import read_utility_rows
from lwf_assets.store.tables import read_rows
from lwf_assets.tasks.neutral_text import Passage, read_passages
from lwf_assets.tasks.task import Task

GOOD = '{"id": "a", "text": "Birds."}\n'


def written(folder: Path, content: bytes | str) -> Path:
    path = folder / "neutral.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_passages_are_read_in_order_and_empty_lines_are_none(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "\n" + '{"id": 2, "text": " Café \\n", "source": "x"}\n')
    assert read_passages(path) == [Passage("a", "Birds."), Passage("2", "Café")]


def test_the_characters_that_unicode_calls_line_ends_do_not_end_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three"
    path = written(tmp_path, json.dumps({"id": "a", "text": text}, ensure_ascii=False) + "\n")
    assert read_passages(path) == [Passage("a", text)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GOOD + "not json\n", "{path}, line 2: not valid JSON: "),
        (GOOD + "\n\n[1]\n", "{path}, line 4: give an object with `id` and `text`, neither of them empty"),
        (GOOD + '{"id": "b"}\n', "{path}, line 2: give an object with `id` and `text`"),
        (GOOD + '{"id": "b", "text": " "}\n', "{path}, line 2: give an object with `id` and `text`"),
        ('{"text": "x"}\n', "{path}, line 1: give an object with `id` and `text`"),
        (GOOD + GOOD, "{path}, line 2: id 'a' was used before, in line 1; give each passage its own"),
        ("\n\n", "{path} has no passages"),
        (b"", "{path} has no passages"),
        (b'{"id": "a", "text": "caf\xe9"}\n', "{path} cannot be read: "),
    ],
)
def test_a_bad_file_of_neutral_text_is_told_with_its_line(content: bytes | str, expected: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(LwfError) as caught:
        read_passages(path)
    assert str(caught.value).startswith(f"evaluation.neutral_text: {expected.format(path=path)}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LwfError, match=r"evaluation\.neutral_text: .*gone\.jsonl cannot be read: "):
        read_passages(tmp_path / "gone.jsonl")


def test_the_asset_holds_the_passages_and_the_test_rows_of_every_task(armed: Armed) -> None:
    folder = armed.path("utility_data")
    assert read_rows(folder / "neutral.parquet") == [{"id": f"p{n}", "text": text} for n, text in enumerate(PASSAGES)]
    tasks = {
        ("forgetting", "sums"): armed.study.forgetting_tasks["sums"],
        ("untouched", "letters"): armed.study.evaluation.untouched_tasks["letters"],
    }
    # teeth is a file of prompts alone: there is nothing to score.
    assert read_utility_rows(folder) == {key: Task(key[1], task).test_rows() for key, task in tasks.items()}
