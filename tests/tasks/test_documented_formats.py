"""The three lines that docs/tasks.md shows of each format are read as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from places import ROOT

from lwf_assets.tasks.settings import TaskSettings
from lwf_assets.tasks.task import Task

PAGE = (ROOT / "docs" / "tasks.md").read_text()
BLOCKS = dict(re.findall(r"^```(\w+(?: [\w ]+)?)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
QUESTIONS = ["Which tooth hurts?", "Since when?", "How much?"]
ANSWERS = ["the third", "yesterday", "a lot"]


def task(folder: Path, block: str, **settings: object) -> Task:
    path = folder / f"rows.{block.split()[0]}"
    path.write_text(BLOCKS[block])
    role = "prompts" if block == "txt" else "test"
    return Task("t", TaskSettings.model_validate({"source": {"kind": "file", role: path}, **settings}))


def test_every_format_is_shown() -> None:
    assert set(BLOCKS) == {
        *("jsonl", "json", "csv", "tsv", "txt"),
        *("jsonl messages", "jsonl conversations", "jsonl prompt and completion", "jsonl choices"),
    }


@pytest.mark.parametrize("block", sorted(set(BLOCKS) - {"txt", "csv"}))
def test_three_lines(tmp_path: Path, block: str) -> None:
    choices = {"choices": "{options}", "scorer": "choice"} if block.endswith("choices") else {}
    rows = task(tmp_path, block, **choices).test_rows()
    assert [row.target for row in rows] == ANSWERS
    conversations = block.split(" ")[-1] in ("messages", "conversations", "completion")
    assert [row.messages[-1]["content"] if row.messages else row.prompt for row in rows] == QUESTIONS
    assert all((row.messages is not None) == conversations for row in rows)


def test_csv(tmp_path: Path) -> None:
    rows = task(tmp_path, "csv").test_rows()
    assert [(row.prompt, row.target) for row in rows] == list(
        zip(QUESTIONS, ["the third", "yesterday; at night", "a lot"], strict=True)
    )


def test_text(tmp_path: Path) -> None:
    assert [row.prompt for row in task(tmp_path, "txt").prompt_rows()] == QUESTIONS
