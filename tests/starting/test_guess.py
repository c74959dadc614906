"""What is proposed for rows of the kinds that people bring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lwf_assets.errors import LwfError
from lwf_assets.starting.guess import guess_task


def file_of(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


LONG = "word " * 60
PHRASE = "some words of an answer that is a phrase {n}"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"question": "q{n}", "answer": "a{n}"}, ("{question}", "{answer}", "exact")),
        ({"id": "{n}", "Body": "b{n}", "Team": "t"}, ("{Body}", "{Team}", "exact")),
        ({"text": "t{n}", "label": "{n%3}"}, ("{text}", "{label}", "label")),
        ({"prompt": "p{n}", "completion": "{n}"}, ("{prompt}", "{completion}", "numeric")),
        ({"instruction": "i{n}", "input": "x{n}", "output": LONG}, ("{instruction}\n{input}", "{output}", "rouge_l")),
        (
            {"context": "c", "question": "q{n}", "answer": PHRASE + "{n}"},
            ("{context}\n\n{question}", "{answer}", "token_f1"),
        ),
        ({"source": "s{n}", "comment": "c{n}"}, ("{source}", "{comment}", "exact")),
    ],
    ids=["question", "capitals", "labels", "numbers", "alpaca", "passage", "unknown names"],
)
def test_columns(tmp_path: Path, columns: dict[str, str], expected: tuple[str, str, str]) -> None:
    rows = [
        {name: text.replace("{n%3}", str(n % 3)).replace("{n}", str(n)) for name, text in columns.items()}
        for n in range(40)
    ]
    guess, seen = guess_task(file_of(tmp_path, rows))
    assert (guess.prompt, guess.target, guess.scorer) == expected
    assert len(seen) == guess.rows == 40
    assert guess.why


def test_choices_and_json(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"question": f"q{n}", "options": ["yes", "no"], "answer": n % 2} for n in range(9)]
    guess, _ = guess_task(file_of(tmp_path, rows))
    assert (guess.choices, guess.scorer) == ("{options}", "choice")
    rows = [{"text": f"t{n}", "output": {"number": n}} for n in range(9)]
    guess, _ = guess_task(file_of(tmp_path, rows))
    assert (guess.target, guess.scorer) == ("{output}", "json")


def test_conversations_need_no_template(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": LONG}]
    guess, _ = guess_task(file_of(tmp_path, [{"messages": talk}] * 5))
    assert guess.is_conversation
    assert guess.scorer == "rouge_l"
    assert guess.max_new_tokens >= len(LONG) / 4
    with pytest.raises(LwfError, match="no conversation here ends in an answer"):
        guess_task(file_of(tmp_path, [{"messages": talk[:1]}]))


def test_what_cannot_be_a_task_names_its_columns(tmp_path: Path) -> None:
    with pytest.raises(LwfError, match=r"rows.jsonl: its rows have the columns text; one column is needed to ask with"):
        guess_task(file_of(tmp_path, [{"text": "a"}, {"text": "b"}]))
