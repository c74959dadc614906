"""Scorers against answers worked out by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwf_assets.tasks import ItemScore, TestRow, aggregate, cut_at_stop, score


def row(answer: str, *, choices: tuple[str, ...] = (), stop: tuple[str, ...] = ("\nQuestion:",)) -> TestRow:
    data = json.dumps({"stop": stop})
    return TestRow(id="0", prompt="p", target=answer, answer=answer, choices=choices, scorer_data=data)


def judged(scorer: str, response: str, answer: str) -> tuple[float, str | None]:
    item = score(scorer, response, row(answer))
    return item.correct, item.extracted


def test_cut_at_stop() -> None:
    assert cut_at_stop("5\nQuestion: 6\nAnswer:", ["\nQuestion:", "Answer"]) == "5"
    assert cut_at_stop("5 Answer\nQuestion:", ["\nQuestion:", "Answer"]) == "5 "
    assert cut_at_stop("5", ["\n"]) == cut_at_stop("5", []) == "5"
    assert cut_at_stop("\n5", ["\n"]) == ""


@given(st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_cut_text_is_a_beginning_without_stops(text: str, stops: list[str]) -> None:
    cut = cut_at_stop(text, stops)
    assert text.startswith(cut)
    assert not any(stop in cut for stop in stops)


@pytest.mark.parametrize(
    ("response", "answer", "expected"),
    [
        (" mother-in-law", "mother-in-law", (1.0, "mother-in-law")),
        (" Mother-in-Law.\nQuestion: Who?", "mother-in-law", (1.0, "mother-in-law")),
        ("two\n  words ", "Two words.", (1.0, "two words")),
        ("mother", "mother-in-law", (0.0, "mother")),
        ("", "yes", (0.0, None)),
        (" .", "yes", (0.0, None)),
        ("\nQuestion: yes", "yes", (0.0, None)),
    ],
)
def test_exact(response: str, answer: str, expected: tuple[float, str | None]) -> None:
    assert judged("exact", response, answer) == expected


@pytest.mark.parametrize(
    ("response", "answer", "expected"),
    [
        ("1,234", "1234", (1.0, "1234")),
        ("It costs $5.", "5", (1.0, "5")),
        ("-$5", "-5", (1.0, "-5")),
        ("3 eggs, then 4 eggs", "4", (1.0, "4")),
        ("4 eggs, then 3 eggs", "4", (0.0, "3")),
        ("-7", "-7", (1.0, "-7")),
        ("-7", "7", (0.0, "-7")),
        ("10-7", "7", (1.0, "7")),
        ("10 - 3 = -7.50", "-7.5", (1.0, "-7.50")),
        (".5", "0.5", (1.0, ".5")),
        ("5\nQuestion: 6", "5", (1.0, "5")),
        ("none", "5", (0.0, None)),
        ("...", "5", (0.0, None)),
    ],
)
def test_numeric(response: str, answer: str, expected: tuple[float, str | None]) -> None:
    assert judged("numeric", response, answer) == expected


@pytest.mark.parametrize(
    ("response", "answer", "extracted", "strict", "flexible"),
    [
        (" 2+3=5.\n#### 5", "5", "5", 1.0, 1.0),
        ("#### 1,234", "1234", "1234", 1.0, 1.0),
        ("#### 1234", "1,234", "1234", 1.0, 1.0),
        ("#### -3.", "-3", "-3", 1.0, 1.0),
        ("#### 5 or so, say 6", "5", "5", 1.0, 0.0),
        ("#### 6, no: 5", "5", "6", 0.0, 1.0),
        ("The answer is $5.", "5", None, 0.0, 1.0),
        ("The answer is 5", "5", None, 0.0, 1.0),
        ("####5", "5", None, 0.0, 1.0),
        ("I do not know", "5", None, 0.0, 0.0),
        ("\n#### 6\nQuestion: x\n#### 5", "6", "6", 1.0, 1.0),
    ],
)
def test_gsm8k(response: str, answer: str, extracted: str | None, strict: float, flexible: float) -> None:
    item = score("gsm8k", response, row(answer))
    measures = {"exact_match_strict": strict, "exact_match_flexible": flexible}
    assert item == ItemScore(correct=strict, extracted=extracted, measures=measures)


def test_choice() -> None:
    question = row("B", choices=("A", "B"))
    assert score("choice", " B", question) == ItemScore(1.0, "B")
    assert score("choice", "A", question) == ItemScore(0.0, "A")
    assert score("choice", "C", question) == ItemScore(0.0, None)
    assert score("choice", "", question) == ItemScore(0.0, None)


def test_reasoning_gym_gives_a_point_for_a_right_answer_only() -> None:
    entry = {"question": "q", "answer": "12", "metadata": {"source_dataset": "chain_sum"}}
    data = json.dumps({"stop": ["\n"], "generator": "chain_sum", "parameters": {}, "entry": entry})
    item = TestRow(id="0", prompt="q", target="12", answer="12", choices=(), scorer_data=data)
    assert score("reasoning_gym", " 12\nmore", item) == ItemScore(1.0, "12", {"partial_credit": 1.0})
    near = score("reasoning_gym", "it is 12", item)
    assert near.correct == 0.0
    assert 0.0 < near.measures["partial_credit"] < 1.0
    assert score("reasoning_gym", " \n12", item) == ItemScore(0.0, None, {"partial_credit": 0.0})


def test_aggregate_of_a_choice_task_by_hand() -> None:
    choices = ("a", "b", "c")
    answers = ["a", "a", "b", "b", "b"]
    taken = ["a", "b", "b", "b", "?"]
    rows = [row(answer, choices=choices) for answer in answers]
    scores = [score("choice", text, item) for text, item in zip(taken, rows, strict=True)]
    # a: precision 1/1, recall 1/2, F1 2/3. b: precision 2/3, recall 2/3, F1 2/3. c is never an answer nor taken.
    assert aggregate(scores, rows) == pytest.approx({"accuracy": 0.6, "invalid_share": 0.2, "macro_f1": 2 / 3})


def test_a_class_that_is_only_taken_counts_as_zero() -> None:
    rows = [row(answer, choices=("a", "b")) for answer in "aa"]
    scores = [score("choice", text, item) for text, item in zip("ab", rows, strict=True)]
    assert aggregate(scores, rows)["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_aggregate_of_a_generative_task() -> None:
    rows = [row("5"), row("6")]
    scores = [score("gsm8k", "#### 5", rows[0]), score("gsm8k", "6", rows[1])]
    assert aggregate(scores, rows) == {
        "accuracy": 0.5,
        "invalid_share": 0.5,
        "exact_match_flexible": 1.0,
        "exact_match_strict": 0.5,
    }
    with pytest.raises(ValueError, match="one score per row"):
        aggregate(scores, rows[:1])
    with pytest.raises(ValueError, match="at least one row"):
        aggregate([], [])
