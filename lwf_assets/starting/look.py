"""What the model will be shown of a study's data, before anything is built: texts, tokens, and what is odd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lwf_assets.assets.base_model import source_config, source_tokenizer
from lwf_assets.engine.samples import Context, Sample, encode_prompt, encode_sample
from lwf_assets.study.study import Study
from lwf_assets.tasks.rows import LearningRow, PromptRow, TestRow
from lwf_assets.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 3
"""Samples of each task."""
_UNLIMITED = Context(2**31)


@dataclass(frozen=True)
class ShownSample:
    """One row as the model sees it. The loss is on `target` alone, which a forgetting prompt does not have yet."""

    id: str
    prompt: str
    target: str
    prompt_tokens: int
    target_tokens: int
    cut: int
    """Tokens of the prompt that do not fit and are cut from the left; or would be, if the study allowed it."""


@dataclass(frozen=True)
class ShownTask:
    """One task of the study."""

    name: str
    role: str
    """"learning" or "forgetting"."""
    rows: dict[str, int]
    """Number of rows by split."""
    samples: list[ShownSample]
    context: int
    longest: ShownSample
    too_long: list[str]
    """Ids of the rows of which the prompt does not fit."""
    truncates: bool
    """Whether the study cuts such a prompt; else a build would end with an error."""
    shared: list[tuple[str, str]]
    """Ids of two rows of different splits with the same prompt."""
    repeated: int
    """Rows of the training split whose prompt and target were there before."""


def look_at(study: Study) -> Iterator[ShownTask]:
    """Every learning task, then every forgetting task.

    Raises:
        LwfError: a source cannot be read, a row is bad, or the model's tokenizer or chat template cannot be used.
    """
    tokenizer = source_tokenizer(study)
    settings = study.model
    context = Context.of_config(
        source_config(study), max_length=settings.max_length, truncate_prompts=settings.truncate_prompts
    )
    for name, task in study.learning_tasks.items():
        source = Task(name, task)
        train, validation = source.learning_rows()
        splits: dict[str, Sequence[LearningRow | TestRow]] = {
            "train": train,
            "validation": validation,
            "test": source.test_rows(),
        }
        samples = {row.id: _learned(tokenizer, row, context) for rows in splits.values() for row in rows}
        yield _task(name, "learning", splits, samples, context)
    for name, task in study.forgetting_tasks.items():
        prompts = Task(name, task).prompt_rows()
        asked = {row.id: _asked(tokenizer, row, context, study.generation.max_new_tokens) for row in prompts}
        yield _task(name, "forgetting", {"prompts": prompts}, asked, context)


def _task(
    name: str,
    role: str,
    splits: dict[str, Sequence[LearningRow | TestRow]] | dict[str, Sequence[PromptRow]] | dict[str, list[PromptRow]],
    samples: dict[str, ShownSample],
    context: Context,
) -> ShownTask:
    first = next(iter(splits.values()))
    return ShownTask(
        name,
        role,
        {split: len(rows) for split, rows in splits.items()},
        [samples[row.id] for row in first[:SHOWN]],
        context.max_length,
        max(samples.values(), key=lambda sample: sample.prompt_tokens + sample.target_tokens),
        [sample.id for sample in samples.values() if sample.cut],
        context.truncate_prompts,
        list(_shared(list(splits.values()))),
        len(first) - len({(row.prompt, getattr(row, "target", "")) for row in first}),
    )


def _learned(tokenizer: PreTrainedTokenizerBase, row: LearningRow | TestRow, context: Context) -> ShownSample:
    return _shown(
        tokenizer, row.id, encode_sample(tokenizer, row.shown, row.target, context=_UNLIMITED, row_id=row.id), context
    )


def _shown(tokenizer: PreTrainedTokenizerBase, row_id: str, sample: Sample, context: Context) -> ShownSample:
    return ShownSample(
        row_id,
        str(tokenizer.decode(sample.prompt_ids)),
        str(tokenizer.decode(sample.response_ids)),
        len(sample.prompt_ids),
        len(sample.response_ids),
        max(0, len(sample) - context.max_length),
    )


def _asked(tokenizer: PreTrainedTokenizerBase, row: PromptRow, context: Context, room: int) -> ShownSample:
    ids = encode_prompt(tokenizer, row.messages or row.prompt, row_id=row.id)
    return ShownSample(
        row.id, str(tokenizer.decode(ids)), "", len(ids), 0, max(0, len(ids) + room - context.max_length)
    )


def _shared(splits: Sequence[Sequence[LearningRow | TestRow | PromptRow]]) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for rows in splits:
        here = {row.prompt: row.id for row in reversed(rows)}  # the first of those that are the same
        yield from ((seen[prompt], row_id) for prompt, row_id in here.items() if prompt in seen)
        seen = {**here, **seen}
