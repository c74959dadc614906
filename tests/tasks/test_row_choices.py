"""Choices that each row brings itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hub_mirrors import write_jsonl, write_parquet

from lwf_assets.errors import LwfError
from lwf_assets.tasks import ItemScore, Task, TaskSettings, TestRow, aggregate

COLOURS = ["red", "green", "blue"]


def task(path: Path, **keys: Any) -> Task:
    source = {"kind": "file", "train": path, "validation": path, "test": path}
    keys = {"choices": "{options}", "scorer": "choice", "prompt": "{prompt}\n{options}\nAnswer:", **keys}
    return Task("mine", TaskSettings.model_validate({"source": source, **keys}))


@pytest.mark.parametrize(
    "options",
    [
        COLOURS,
        {"A": "red", "B": "green", "C": "blue"},
        {"A": "red", "B": "green", "C": "blue", "D": None},
        {"label": ["A", "B", "C"], "text": COLOURS},
    ],
)
@pytest.mark.parametrize("answer", ["green", " green ", "B", 1, 1.0, "1"])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_text_a_letter_and_a_position_mean_the_same(options: Any, answer: Any, ending: str, tmp_path: Path) -> None:
    write = write_jsonl if ending == "jsonl" else write_parquet
    path = write(tmp_path / f"a.{ending}", [{"prompt": "Which?", "options": options, "answer": answer}])
    (row,) = task(path).test_rows()
    assert row.choices == ("red", "green", "blue")
    assert row.answer == row.target == "green"
    assert row.prompt == "Which?\nA. red\nB. green\nC. blue\nAnswer:"


def test_rows_may_have_different_choices_and_nested_ones(tmp_path: Path) -> None:
    rows = [
        {"q": {"text": "Which?", "options": COLOURS}, "answer": 2},
        {"q": {"text": "How?", "options": {"x": "fast", "y": "slow"}}, "answer": "y"},
    ]
    keys = {"choices": "{q.options}", "prompt": "{q.text} {q.options}", "target": "{answer}"}
    first, second = task(write_jsonl(tmp_path / "a.jsonl", rows), **keys).test_rows()
    assert (first.answer, first.choices) == ("blue", ("red", "green", "blue"))
    assert (second.answer, second.prompt) == ("slow", "How? x. fast\ny. slow")


def test_numbers_as_choices(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "options": [3, 4, 5], "answer": 4},
        {"prompt": "b", "options": [3, 4, 5], "answer": 0},
        {"prompt": "c", "options": ["0", "1", "2"], "answer": "1"},
        {"prompt": "d", "options": ["2", "0", "1"], "answer": "1"},
        {"prompt": "e", "options": ["7", "8", "9"], "answer": 8},
        {"prompt": "f", "options": [2.0, 2.5, 9.0], "answer": 2},
    ]
    found = task(write_jsonl(tmp_path / "a.jsonl", rows)).test_rows()
    assert [row.answer for row in found] == ["4", "3", "1", "1", "8", "2.0"]
    path = write_jsonl(tmp_path / "b.jsonl", [{"prompt": "a", "options": ["2", "0", "1"], "answer": 1}])
    with pytest.raises(LwfError, match=r"line 1: the target 1 is the text of one choice and the position of another"):
        task(path).learning_rows()


@pytest.mark.parametrize(
    ("options", "answer", "message"),
    [
        (
            COLOURS,
            "purple",
            r"the target 'purple' is no text, letter or position .* A: red, B: green, C: blue; the row b",
        ),
        (COLOURS, 3, r"the target '3' is no text"),
        (COLOURS, -1, r"the target '-1' is no text"),
        (COLOURS, None, r"column 'answer' is empty"),
        (["red"], "red", r"column 'options' needs two or more different choices"),
        (["red", "red "], "red", r"column 'options' needs two or more different choices"),
        (["red", ""], "red", r"column 'options' needs two or more different choices"),
        (["red", None], "red", r"column 'options': every choice must be a text or a number"),
        (None, "red", r"column 'options' holds nothing"),
        ("red, green", "red", r"column 'options' holds a str; choices are a list"),
        ([str(n) for n in range(27)], "1", r"column 'options' has 27 choices; at most 26"),
    ],
)
def test_what_is_refused(options: Any, answer: Any, message: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "Which?", "options": options, "answer": answer}])
    with pytest.raises(LwfError, match=rf"a.jsonl, line 1: (no target: )?{message}"):
        task(path, prompt="{prompt}").learning_rows()


@pytest.mark.parametrize("choices", ["options", "{a} {b}", "{options} ", ""])
def test_the_setting_is_one_column(choices: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choices"):
        task(tmp_path / "a.jsonl", choices=choices)


def test_the_choices_decide_what_is_learned(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "p", "options": COLOURS, "other": COLOURS[::-1], "answer": 0}])
    one, other = task(path, prompt="{prompt}"), task(path, prompt="{prompt}", choices="{other}")
    assert one.fingerprint("learning") != other.fingerprint("learning")
    assert one.learning_rows()[0][0].target == "red"
    assert other.learning_rows()[0][0].target == "blue"


def test_a_prompt_that_does_not_show_the_choices_needs_none(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "Which?"}])
    assert [row.prompt for row in task(path, prompt="{prompt}").prompt_rows()] == ["Which?"]
    with pytest.raises(LwfError, match=r"a.jsonl, line 1: no choices: unknown column 'options'"):
        task(path).prompt_rows()


def test_there_is_no_f1_of_classes_where_every_row_has_its_own() -> None:
    def row(*choices: str) -> TestRow:
        return TestRow("1", "p", choices[0], choices[0], choices, "{}")

    right = [ItemScore(1.0, "a"), ItemScore(1.0, "a")]
    assert aggregate(right, [row("a", "b"), row("a", "b")])["macro_f1"] == 1.0
    assert "macro_f1" not in aggregate(right, [row("a", "b"), row("a", "c")])
