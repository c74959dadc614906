"""How a response is judged, one function per scorer, and how the scores of a test set are aggregated."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.extensions import extensions
from lwf_assets.tasks.json_answers import same_json
from lwf_assets.tasks.text_scorers import corpus_scores, rouge_l, sentence_bleu, sentence_chrf, token_f1

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lwf_assets.tasks.rows import TestRow

# The two filters of lm-evaluation-harness' gsm8k, to the letter, so that numbers can be compared with published ones.
_GSM8K_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_GSM8K_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
# A minus sign after a digit or letter is a subtraction or a hyphen.
_NUMBER = re.compile(r"(?:(?<![\w.])-)?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")


@dataclass(frozen=True)
class ItemScore:
    """The judgement of one response."""

    correct: float
    """1.0 for right, 0.0 for wrong."""
    extracted: str | None
    """The answer found in the response; None when there is none, which is an invalid answer."""
    measures: dict[str, float] = field(default_factory=dict)
    """Further numbers of this scorer, each between 0 and 1."""


def score(scorer: str, response: str, row: TestRow) -> ItemScore:
    """Judge `response`, the text that followed `row.prompt`.

    For the scorer "choice" the response is the text of the choice that was taken, one of `row.choices`; for all others
    what the model wrote, which is first cut at the task's stop texts.
    """
    data = json.loads(row.scorer_data)
    text = cut_at_stop(response, data.get("stop", ()))
    if scorer == "reasoning_gym":
        return _reasoning_gym(text, data)
    own = _SCORERS.get(scorer)
    return own(text, row) if own is not None else _extension(scorer, text, row)


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """`text` before the first of the `stops` that comes in it; all of it when none does."""
    ends = [text.find(stop) for stop in stops]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


def aggregate(scores: Sequence[ItemScore], rows: Sequence[TestRow]) -> dict[str, float]:
    """Means over a test set; `scores[i]` judges the response to `rows[i]`.

    Returns `accuracy`, `invalid_share`, the mean of every measure and, where all rows have the same choices,
    `macro_f1`: the unweighted mean of the F1 of each choice that is some row's answer or was taken for one. Where the
    scorer is one of translations, also `corpus_bleu` and `corpus_chrf`.
    """
    if not rows or len(scores) != len(rows):
        raise ValueError(f"one score per row is needed, and at least one row; got {len(scores)} and {len(rows)}")
    summary = {
        "accuracy": fmean(item.correct for item in scores),
        "invalid_share": fmean(item.extracted is None for item in scores),
    }
    for name in sorted({name for item in scores for name in item.measures}):
        summary[name] = fmean(item.measures.get(name, 0.0) for item in scores)
    if rows[0].choices and len({row.choices for row in rows}) == 1:
        from sklearn.metrics import f1_score

        answers = [row.answer for row in rows]
        # An invalid response is wrong for its own class, but no class of its own.
        taken = [item.extracted or "" for item in scores]
        labels = sorted({*answers, *taken} - {""})
        summary["macro_f1"] = float(f1_score(answers, taken, labels=labels, average="macro", zero_division=0.0))
    if "bleu" in scores[0].measures:
        summary |= corpus_scores([item.extracted or "" for item in scores], [row.answer for row in rows])
    return summary


def scorer_data(scorer: str, stop: Sequence[str], generated: Mapping[str, Any] | None) -> str:
    """What `score` will need besides the answer, as the JSON text of `TestRow.scorer_data`.

    `generated` is, for a row of a generator, its `generator`, `parameters` and `entry`.
    """
    data: dict[str, Any] = {} if scorer == "choice" else {"stop": list(stop)}
    if scorer == "reasoning_gym":
        # An item may hold fractions, tuples and the like; `check_answer` shows if its scorer needs them as such.
        data |= json.loads(json.dumps(generated, default=str))
    return json.dumps(data, ensure_ascii=False)


def check_answer(scorer: str, row: TestRow, *, place: str) -> None:
    """Raise LwfError unless `scorer` takes the row's own answer for right, as no response could be otherwise."""
    if scorer == "regex":
        try:
            re.compile(row.answer)
        except re.error as error:
            raise LwfError(f"{place}: the answer {row.answer!r} is not a regular expression: {error}") from None
        return
    text = f"#### {row.answer}" if scorer == "gsm8k" else row.answer
    if score(scorer, text, row).correct != 1.0:
        wanted = {
            "choice": f"be one of {', '.join(row.choices)}",
            "label": f"be one of {', '.join(row.choices)}",
            "numeric": "hold a number",
            "gsm8k": "be a number",
            "json": "be JSON",
        }
        raise LwfError(
            f"{place}: the scorer {scorer!r} does not accept the row's own answer {row.answer!r}; it must "
            f"{wanted.get(scorer, 'be a text without stop texts, or be scored by another scorer')}"
        )


def _exact(response: str, row: TestRow) -> ItemScore:
    extracted = _normal(response) or None
    return ItemScore(float(extracted == _normal(row.answer)), extracted)


def _normal(text: str) -> str:
    return " ".join(text.split()).casefold().removesuffix(".").rstrip()


def _label(response: str, row: TestRow) -> ItemScore:
    """One of a closed set of answers, or else invalid."""
    said = _normal(response)
    taken = next((label for label in row.choices if _normal(label) == said), None)
    return ItemScore(float(taken == row.answer), taken)


def _token_f1(response: str, row: TestRow) -> ItemScore:
    f1, exact = token_f1(response, row.answer)
    return ItemScore(f1, response.strip() or None, {"exact_match": exact})


def _rouge_l(response: str, row: TestRow) -> ItemScore:
    return ItemScore(rouge_l(response, row.answer), response.strip() or None)


def _bleu(response: str, row: TestRow) -> ItemScore:
    text = response.strip()
    bleu, chrf = sentence_bleu(text, row.answer), sentence_chrf(text, row.answer)
    return ItemScore(bleu, text or None, {"bleu": bleu, "chrf": chrf})


def _chrf(response: str, row: TestRow) -> ItemScore:
    found = _bleu(response, row)
    return ItemScore(found.measures["chrf"], found.extracted, found.measures)


def _regex(response: str, row: TestRow) -> ItemScore:
    """Right if the answer, a regular expression, matches somewhere in the response."""
    return ItemScore(float(re.search(row.answer, response) is not None), response.strip() or None)


def _json(response: str, row: TestRow) -> ItemScore:
    try:
        same, found = same_json(response, row.answer)
    except ValueError:  # the answer is none; `check_answer` says so
        return ItemScore(0.0, None)
    return ItemScore(float(same), found)


def _numeric(response: str, row: TestRow) -> ItemScore:
    extracted, answer = _last_number(response), _last_number(row.answer)
    # As numbers: 5 and 5.0 are the same answer.
    correct = extracted is not None and answer is not None and Decimal(extracted) == Decimal(answer)
    return ItemScore(float(correct), extracted)


def _last_number(text: str) -> str | None:
    found = _NUMBER.findall(text)
    return found[-1].replace(",", "").replace("$", "") if found else None


def _gsm8k(response: str, row: TestRow) -> ItemScore:
    answer = _gsm8k_normal(row.answer)
    strict, flexible = _GSM8K_STRICT.search(response), _GSM8K_FLEXIBLE.findall(response)
    extracted = _gsm8k_normal(strict[1]) if strict else None
    is_strict = float(extracted == answer)
    is_flexible = float(bool(flexible) and _gsm8k_normal(flexible[-1]) == answer)
    return ItemScore(is_strict, extracted, {"exact_match_strict": is_strict, "exact_match_flexible": is_flexible})


def _gsm8k_normal(number: str) -> str:
    return number.replace(",", "").replace("$", "").removesuffix(".")


def _choice(response: str, row: TestRow) -> ItemScore:
    taken = response.strip() if response.strip() in row.choices else None
    return ItemScore(float(taken == row.answer), taken)


def _reasoning_gym(response: str, data: Mapping[str, Any]) -> ItemScore:
    text = response.strip()
    judge = _generator_scorer(data["generator"], json.dumps(data["parameters"]))
    credit = float(judge(text or None, data["entry"]))
    # Its scorers give part of a point for a wrong answer that contains the right one, or only looks like an answer.
    return ItemScore(float(credit == 1.0), text or None, {"partial_credit": credit})


@lru_cache(maxsize=32)
def _generator_scorer(generator: str, parameters: str) -> Callable[[str | None, dict[str, Any]], float]:
    from lwf_assets.tasks.generator_source import open_generator

    judge: Callable[[str | None, dict[str, Any]], float] = open_generator(
        generator, json.loads(parameters), seed=0, size=1
    ).score_answer
    return judge


def _extension(scorer: str, response: str, row: TestRow) -> ItemScore:
    """The judgement of a scorer of another package; it must be an ItemScore with a number between 0 and 1."""
    extension = extensions("lwf.scorers")[scorer]
    found = extension.load()(response, row)
    if not isinstance(found, ItemScore) or not 0 <= found.correct <= 1:
        raise LwfError(f"scorer {extension}: returned {found!r}; it must return an ItemScore with correct from 0 to 1")
    return found


_SCORERS: dict[str, Callable[[str, TestRow], ItemScore]] = {
    "exact": _exact,
    "label": _label,
    "token_f1": _token_f1,
    "rouge_l": _rouge_l,
    "bleu": _bleu,
    "chrf": _chrf,
    "regex": _regex,
    "json": _json,
    "numeric": _numeric,
    "gsm8k": _gsm8k,
    "choice": _choice,
}
