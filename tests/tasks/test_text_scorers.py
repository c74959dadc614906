"""Scorers of free text and of structured answers, against values worked out by hand or by the libraries' own words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwf_assets.errors import LwfError
from lwf_assets.tasks.rows import TestRow
from lwf_assets.tasks.scorers import aggregate, score
from lwf_assets.tasks.settings import TaskSettings
from lwf_assets.tasks.task import Task
from lwf_assets.tasks.text_scorers import words


def row(answer: str, *, choices: tuple[str, ...] = ()) -> TestRow:
    return TestRow(id="0", prompt="p", target=answer, answer=answer, choices=choices, scorer_data="{}")


def correct(scorer: str, response: str, answer: str) -> float:
    return score(scorer, response, row(answer)).correct


def test_words_of_any_language() -> None:
    assert words("The cat, sat—on Ⅻ mats!") == ["the", "cat", "sat", "on", "xii", "mats"]
    assert words("Straße") == words("STRASSE") == ["strasse"]
    assert words("猫が好き, cats") == ["猫", "が", "好", "き", "cats"]
    assert words("кот и пёс") == ["кот", "и", "пёс"]
    assert words("안녕 세상") == ["안녕", "세상"]


@pytest.mark.parametrize(
    ("response", "answer", "f1", "exact"),
    [
        ("the Third tooth.", "third tooth", 1.0, 1.0),
        ("third", "third tooth", 2 / 3, 0.0),
        ("a tooth a tooth", "tooth", 2 / 3, 0.0),  # a word counts as often as both have it
        ("mouth", "third tooth", 0.0, 0.0),
        ("", "third tooth", 0.0, 0.0),
        ("猫が", "猫", 2 / 3, 0.0),
    ],
)
def test_token_f1(response: str, answer: str, f1: float, exact: float) -> None:
    item = score("token_f1", response, row(answer))
    assert item.correct == pytest.approx(f1)
    assert item.measures == {"exact_match": exact}
    assert (item.extracted is None) == (response == "")


def test_rouge_l_is_the_longest_common_subsequence() -> None:
    # "police the gunman" / "police killed the gunman": 3 of 3 and 3 of 4 words.
    assert correct("rouge_l", "police, the gunman", "Police killed the gunman") == pytest.approx(6 / 7)
    assert correct("rouge_l", "gunman the killed police", "police killed the gunman") == pytest.approx(1 / 4)
    assert correct("rouge_l", "кот и", "кот и пёс") == pytest.approx(4 / 5)
    assert correct("rouge_l", "", "кот") == 0.0


def test_no_stream_of_somebody_is_closed_when_logging_is_configured_anew() -> None:
    """As alembic does it for MLflow's database; what was standard error on import may be a file since."""
    code = """
import io, logging.config, sys
mine = sys.stderr = io.StringIO()
from lwf_assets.tasks.text_scorers import rouge_l
assert rouge_l("a b", "a b") == 1.0
sys.stderr = sys.__stderr__
logging.config.dictConfig({"version": 1})
print(mine.closed)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_bleu_and_chrf_are_those_of_sacrebleu() -> None:
    import sacrebleu

    said, right = "the cat sat on a mat today", "the cat sat on the mat"
    item = score("bleu", said, row(right))
    assert item.correct == pytest.approx(sacrebleu.sentence_bleu(said, [right]).score / 100)
    assert item.measures["chrf"] == pytest.approx(sacrebleu.sentence_chrf(said, [right]).score / 100)
    assert score("chrf", said, row(right)).correct == item.measures["chrf"]
    assert correct("bleu", "", right) == 0.0


def test_a_test_set_has_the_bleu_of_all_its_sentences() -> None:
    import sacrebleu

    said = ["the cat sat on a mat", "dogs bark loudly at the cat", ""]
    right = ["the cat sat on the mat", "dogs bark at the cat", "nothing"]
    rows = [row(text) for text in right]
    found = aggregate([score("bleu", text, item) for text, item in zip(said, rows, strict=True)], rows)
    assert found["corpus_bleu"] == pytest.approx(sacrebleu.corpus_bleu(said, [right]).score / 100)
    assert found["corpus_chrf"] == pytest.approx(sacrebleu.corpus_chrf(said, [right]).score / 100)
    assert found["corpus_bleu"] != pytest.approx(found["accuracy"])
    assert "corpus_bleu" not in aggregate([score("exact", "a", row("a"))], [row("a")])


def test_chinese_is_taken_apart_by_characters() -> None:
    assert 0.5 < correct("bleu", "我喜欢小猫和狗", "我喜欢小猫和鸟") < 1.0


@given(st.text(st.characters(categories=("L", "N")), min_size=1, max_size=30))
def test_a_text_is_itself(text: str) -> None:
    for scorer in ("token_f1", "rouge_l", "bleu", "chrf"):
        if scorer in ("bleu", "chrf") or set(words(text)) - {"a", "an", "the"}:
            assert correct(scorer, f" {text}\n", text) == 1.0, scorer


@pytest.mark.parametrize(
    ("response", "answer", "expected", "extracted"),
    [
        ('{"b": [1, 2.0], "a": "x"}', '{"a": "x", "b": [1.0, 2]}', 1.0, '{"a": "x", "b": [1, 2.0]}'),
        ('Here it is:\n```json\n{"a": 1}\n```', '{"a": 1}', 1.0, '{"a": 1}'),
        ('{"a": true}', '{"a": 1}', 0.0, '{"a": true}'),
        ("[1, 2]", "[2, 1]", 0.0, "[1, 2]"),
        ('{"a": 1, "b": 2}', '{"a": 1}', 0.0, '{"a": 1, "b": 2}'),
        (" 5 ", "5.0", 1.0, "5"),
        ("no {json} here", '{"a": 1}', 0.0, None),
        ('{"a": 1', '{"a": 1}', 0.0, None),
    ],
)
def test_json(response: str, answer: str, expected: float, extracted: str | None) -> None:
    item = score("json", response, row(answer))
    assert (item.correct, item.extracted) == (expected, extracted)


def test_regex() -> None:
    assert correct("regex", "The year is 1998.", r"\b19\d\d\b") == 1.0
    assert correct("regex", "The year is 2098.", r"\b19\d\d\b") == 0.0


def task(tmp_path: Path, rows: list[dict[str, Any]], **values: Any) -> Task:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Task("t", TaskSettings.model_validate({"source": {"kind": "file", "test": path}, **values}))


def test_nested_answers_are_json_for_the_scorer_of_json(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "answer": {"name": "Änne", "tags": ["a"]}}]
    (asked,) = task(tmp_path, rows, scorer="json").test_rows()
    assert json.loads(asked.target) == rows[0]["answer"]
    assert "Änne" in asked.answer
    with pytest.raises(LwfError, match="a template accepts text or numbers"):
        task(tmp_path, rows).test_rows()
    with pytest.raises(LwfError, match=r"line 1: the scorer 'json' does not accept .* 'no'; it must be JSON"):
        task(tmp_path, [{"prompt": "p", "answer": "no"}], scorer="json").test_rows()


def test_a_pattern_that_is_none_is_refused_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(LwfError, match=r"line 2: the answer '\(' is not a regular expression"):
        task(tmp_path, [{"prompt": "p", "answer": "x+"}, {"prompt": "q", "answer": "("}], scorer="regex").test_rows()


def test_labels_are_a_closed_set_with_a_macro_f1(tmp_path: Path) -> None:
    answers = ["Billing", "Sales", "Billing"]
    rows = [{"prompt": f"p{number}", "answer": answer} for number, answer in enumerate(answers)]
    asked = task(tmp_path, rows, scorer="label").test_rows()
    assert {row.choices for row in asked} == {("Billing", "Sales")}
    said = [" billing.", "Billing", "nobody"]
    items = [score("label", text, row) for text, row in zip(said, asked, strict=True)]
    assert [(item.correct, item.extracted) for item in items] == [(1.0, "Billing"), (0.0, "Billing"), (0.0, None)]
    # Billing: precision 1/2, recall 1/2; Sales: none.
    assert aggregate(items, asked)["macro_f1"] == pytest.approx((1 / 2 + 0) / 2)
    given = task(tmp_path, rows, scorer="label", choices=["Billing", "Sales", "Press"]).test_rows()
    assert {row.choices for row in given} == {("Billing", "Sales", "Press")}
    with pytest.raises(LwfError, match="is not one of the choices Sales, Press"):
        task(tmp_path, rows, scorer="label", choices=["Sales", "Press"]).test_rows()
