"""How many rows and tokens a cell will work on, before any of them is encoded.

What is built says it in its manifest: the corpus in tokens, data in characters, for data know no tokenizer. For what is
not built yet, the study's row limits and typical lengths are used, and the amount is marked as guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lwf_assets.graph.cells import Cell
from lwf_assets.graph.settings import source_tasks
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact
from lwf_assets.study.sections import PriorSettings
from lwf_assets.study.study import Study
from lwf_assets.tasks.settings import TaskSettings

Known = Callable[[Cell], Artifact | None]
"""The artifact that a cell has, or is about to reuse from the store; None if it is still to be built."""

CHARACTERS_PER_TOKEN = 3.5
"""A rule of thumb: sums, whose digits are tokens of their own, have 3.3, and English questions 4.8."""
TYPICAL_PROMPT, TYPICAL_TARGET = 64, 16
"""Tokens, where nothing is known yet."""
TYPICAL_CHOICES = 4
"""Where each row brings its own."""


@dataclass(frozen=True)
class Amount:
    """Rows of a prompt and a response; lengths in tokens. `rows` is None where it is unknown before the source is
    read; `guessed` says that lengths or rows are."""

    rows: int | None
    prompt: float
    response: float
    longest: float
    guessed: bool

    @property
    def length(self) -> float:
        """Mean tokens of a row."""
        return self.prompt + self.response


def learning_amount(study: Study, task: str, known: Known) -> tuple[Amount, Amount]:
    """Training and validation rows of a learning task."""
    summary = _summary(known, "learning_data", Partition(learning_task=task))
    rows = study.learning_tasks[task].rows
    train = _data(summary, "train_rows", rows.train)
    return train, _data(summary, "validation_rows", rows.validation)


def test_amount(study: Study, task: str, known: Known) -> Amount:
    """Test rows of a learning task; the response is the target."""
    summary = _summary(known, "test_data", Partition(learning_task=task))
    return _data(summary, "test_rows", study.learning_tasks[task].rows.test)


def other_test_amount(task: TaskSettings) -> Amount:
    """Test rows of a task that is neither learned nor has an asset of its own."""
    return _data({}, "test_rows", task.rows.test)


def taught_amount(prior: PriorSettings) -> Amount:
    """Rows that a base is taught before the study begins."""
    limits = [limit for task in prior.tasks.values() for limit in (task.rows.train, task.rows.validation)]
    return _data({}, "train_rows", None if None in limits else sum(limit for limit in limits if limit is not None))


def prompt_amount(study: Study, task: str, known: Known) -> Amount:
    """Forgetting prompts, with a response as long as generation may make it."""
    partition = Partition(forgetting_task=task)
    limits = [study.forgetting_tasks[name].rows.train for name in source_tasks(study, partition)]
    limit = None if None in limits else sum(limit for limit in limits if limit is not None)
    return _data(
        _summary(known, "forgetting_prompts", partition), "prompts", limit, response=study.generation.max_new_tokens
    )


def corpus_amount(study: Study, task: str, known: Known) -> Amount:
    """D_self."""
    summary = _summary(known, "self_generated_corpus", Partition(forgetting_task=task))
    if {"responses", "tokens", "prompt_tokens", "longest"} <= summary.keys():
        rows = summary["responses"]
        return Amount(rows, summary["prompt_tokens"] / rows, summary["tokens"] / rows, summary["longest"], False)
    prompts = prompt_amount(study, task, known)
    rows = None if prompts.rows is None else prompts.rows * study.generation.samples_per_prompt
    return Amount(rows, prompts.prompt, prompts.response, prompts.longest, True)


def _summary(known: Known, asset: str, partition: Partition) -> dict[str, Any]:
    artifact = known(Cell(asset, partition))
    return {} if artifact is None else artifact.manifest.summary


def _data(summary: dict[str, Any], count: str, limit: int | None, response: float | None = None) -> Amount:
    rows = summary.get(count, limit)
    if "prompt_characters" not in summary:
        target = TYPICAL_TARGET if response is None else response
        return Amount(rows, TYPICAL_PROMPT, target, TYPICAL_PROMPT + target, True)
    prompt = summary["prompt_characters"] / CHARACTERS_PER_TOKEN
    longest = summary["longest_characters"] / CHARACTERS_PER_TOKEN
    if response is not None:
        return Amount(rows, prompt, response, longest + response, False)
    target = summary["target_characters"] / CHARACTERS_PER_TOKEN + 1  # and the end-of-sequence token
    return Amount(rows, prompt, target, longest + 1, False)
