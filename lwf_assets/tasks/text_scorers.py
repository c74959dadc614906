"""Scorers of free text: how much of the answer is in the response, from 0 to 1."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Writing without spaces between words: Han, kana, Thai, Lao, Khmer, Burmese. Each character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_HAN_OR_KANA = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_ARTICLES = frozenset(("a", "an", "the"))


def words(text: str) -> list[str]:
    """The words of a text in any language, in lower case and without punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def token_f1(response: str, answer: str) -> tuple[float, float]:
    """F1 of the words that both have, and whether all are the same; without English articles, as SQuAD's script."""
    said, right = ([word for word in words(text) if word not in _ARTICLES] for text in (response, answer))
    if not said or not right:
        return float(said == right), float(said == right)
    shared = sum((Counter(said) & Counter(right)).values())
    return 2 * shared / (len(said) + len(right)), float(said == right)


def rouge_l(response: str, answer: str) -> float:
    """F1 of the longest common subsequence of words (rouge-score), for any language."""
    return float(_rouge().score(answer, response)["rougeL"].fmeasure)


def sentence_bleu(response: str, answer: str) -> float:
    """sacrebleu's BLEU of one sentence, with the effective order, as a share of 1."""
    return _share(_bleu(is_unspaced(answer), sentence=True).sentence_score(response, [answer]).score)


def sentence_chrf(response: str, answer: str) -> float:
    """sacrebleu's chrF2 of one sentence, as a share of 1."""
    return _share(_chrf().sentence_score(response, [answer]).score)


def corpus_scores(responses: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF2 of a whole test set, as papers give them, on a scale of 1: no means of those of its sentences."""
    bleu = _bleu(any(map(is_unspaced, answers)), sentence=False)
    return {
        "corpus_bleu": _share(bleu.corpus_score(list(responses), [list(answers)]).score),
        "corpus_chrf": _share(_chrf().corpus_score(list(responses), [list(answers)]).score),
    }


def is_unspaced(text: str) -> bool:
    """Whether BLEU must take it apart by characters: Chinese and Japanese."""
    return _HAN_OR_KANA.search(text) is not None


def _share(percent: float) -> float:
    return min(1.0, round(percent / 100, 12))  # equal texts come out as 100.00000000000004


@lru_cache(maxsize=4)
def _bleu(unspaced: bool, *, sentence: bool) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize="zh" if unspaced else "13a", effective_order=sentence)


@lru_cache(maxsize=1)
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


class _Words:
    """rouge-score's own tokenizer knows no letters but a to z."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from absl.logging import get_absl_handler
    from rouge_score.rouge_scorer import RougeScorer

    # When logging is configured anew, as MLflow does it, absl closes the stream that was standard error when it was
    # imported. In a notebook, a service or a test that may be somebody's file.
    get_absl_handler().python_handler.setStream(sys.__stderr__)
    return RougeScorer(["rougeL"], tokenizer=_Words())
