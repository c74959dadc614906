"""What five public data sets need beyond a template: their labels turned into the text that a model should write.

A form turns a row of the data set into plain columns and brings the templates that go with them. Prompts follow
EleutherAI's lm-evaluation-harness where it has the task (gsm8k, medmcqa, mmlu). It passes on only the columns that a
prompt may show: qasc's `fact1` and `fact2` give the answer away and so cannot be reached from a template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lwf_assets.errors import LwfError
from lwf_assets.tasks.templates import Absent

SENTIMENTS = ("very negative", "negative", "neutral", "positive", "very positive")
_GSM8K_NUMBER = re.compile(r"#### (-?[0-9.,]+)\s*$")


@dataclass(frozen=True)
class Form:
    """How the rows of one data set are read; the templates are over the columns that `columns` returns."""

    needs: tuple[str, ...]
    columns: Callable[[Mapping[str, Any]], dict[str, Any]]
    prompt: str
    target: str
    answer: str
    choices: tuple[str, ...]
    scorer: str


def apply_form(name: str, columns: Mapping[str, Any], *, place: str) -> Mapping[str, Any]:
    """Columns of one row as the templates see them; `name` is a key of FORMS, or "template" for the row itself.

    Raises LwfError when the row lacks a column or holds another shape than the data set's. A missing label is no error
    here (forgetting prompts need none): it becomes an Absent, which only a template that shows it trips over.
    """
    if name == "template":
        return columns
    form = FORMS[name]
    for column in form.needs:
        if column not in columns or columns[column] is None:
            known = ", ".join(sorted(columns))
            raise LwfError(
                f"{place}: column {column!r} is missing or empty; form {name!r} needs {', '.join(form.needs)} "
                f"and the columns here are: {known}"
            )
    try:
        return form.columns(columns)
    except ValueError as error:
        raise LwfError(f"{place}: {error}") from error


def _gsm8k(row: Mapping[str, Any]) -> dict[str, Any]:
    answer = row.get("answer")
    if not answer:
        absent = Absent("column 'answer' is empty")
        return {"question": row["question"], "answer": absent, "number": absent}
    found = _GSM8K_NUMBER.search(answer)
    number = found[1].replace(",", "") if found else Absent("column 'answer' does not end in '#### ' and a number")
    return {"question": row["question"], "answer": answer, "number": number}


def _qasc(row: Mapping[str, Any]) -> dict[str, Any]:
    choices = row["choices"]
    if not isinstance(choices, Mapping) or list(choices.get("label", ())) != list("ABCDEFGH"):
        raise ValueError("column 'choices' must have the labels A to H and a text for each")
    texts = _texts("choices", choices.get("text"), 8)
    letter = row.get("answerKey")
    if letter not in set("ABCDEFGH"):
        letter = Absent(f"column 'answerKey' is {letter!r}; a labelled row has A to H (the test split has none)")
    return {"question": row["question"], **dict(zip("ABCDEFGH", texts, strict=True)), "letter": letter}


def _sst5(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": row["text"], "sentiment": _by_index("label", row.get("label"), SENTIMENTS)}


def _medmcqa(row: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: row[name] for name in ("opa", "opb", "opc", "opd")}
    return {"question": row["question"], **options, "letter": _by_index("cop", row.get("cop"), tuple("ABCD"))}


def _mmlu(row: Mapping[str, Any]) -> dict[str, Any]:
    texts = _texts("choices", row["choices"], 4)
    letter = _by_index("answer", row.get("answer"), tuple("ABCD"))
    # The harness strips mmlu's questions, and only these.
    return {"question": str(row["question"]).strip(), **dict(zip("ABCD", texts, strict=True)), "letter": letter}


def _texts(column: str, value: Any, count: int) -> list[str]:
    if not isinstance(value, list) or len(value) != count or not all(isinstance(text, str) for text in value):
        raise ValueError(f"column {column!r} must hold {count} texts")
    return value


def _by_index(column: str, value: Any, words: tuple[str, ...]) -> str | Absent:
    # bool is an int in Python, and True would pass for 1.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(words):
        return words[value]
    return Absent(f"column {column!r} is {value!r}; a labelled row has 0 to {len(words) - 1}")


def _letter_lines(letters: str) -> str:
    return "\n".join(f"{letter}. {{{letter}}}" for letter in letters)


FORMS: dict[str, Form] = {
    "gsm8k": Form(
        needs=("question",),
        columns=_gsm8k,
        prompt="Question: {question}\nAnswer:",
        target="{answer}",
        answer="{number}",
        choices=(),
        scorer="gsm8k",
    ),
    "qasc": Form(
        needs=("question", "choices"),
        columns=_qasc,
        prompt="{question}\n" + _letter_lines("ABCDEFGH") + "\nAnswer:",
        target="{letter}",
        answer="{letter}",
        choices=tuple("ABCDEFGH"),
        scorer="choice",
    ),
    "sst5": Form(
        needs=("text",),
        columns=_sst5,
        prompt="{text}\nQuestion: What is the sentiment of this sentence: "
        "very negative, negative, neutral, positive or very positive?\nAnswer:",
        target="{sentiment}",
        answer="{sentiment}",
        choices=SENTIMENTS,
        scorer="choice",
    ),
    "medmcqa": Form(
        needs=("question", "opa", "opb", "opc", "opd"),
        columns=_medmcqa,
        prompt="Question: {question}\nChoices:\nA. {opa}\nB. {opb}\nC. {opc}\nD. {opd}\nAnswer:",
        target="{letter}",
        answer="{letter}",
        choices=tuple("ABCD"),
        scorer="choice",
    ),
    "mmlu": Form(
        needs=("question", "choices"),
        columns=_mmlu,
        prompt="{question}\n" + _letter_lines("ABCD") + "\nAnswer:",
        target="{letter}",
        answer="{letter}",
        choices=tuple("ABCD"),
        scorer="choice",
    ),
}
