"""What a model is measured on, and how: the figures that the asset evaluation writes down for each seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwf_assets.cost.batch_rows import batch_rows
from lwf_assets.cost.model_size import read_facts
from lwf_assets.errors import LwfError
from lwf_assets.graph.settings import utility_tasks
from lwf_assets.store.layout import CORPUS, NEUTRAL_PASSAGES, PROMPTS, TEST_ROWS, UTILITY_ITEMS
from lwf_assets.store.tables import read_rows
from lwf_assets.tasks.rows import TestRow, prompt_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lwf_assets.graph.work import Work
    from lwf_assets.tasks.settings import TaskSettings

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Measurement:
    """What every seed of the model is measured on."""

    work: Work
    test_rows: list[TestRow]
    utility_rows: Mapping[tuple[str, str], list[TestRow]]
    passages: Rows
    corpora: Mapping[str, Rows]
    prompts: Mapping[str, Rows]

    @classmethod
    def of(cls, work: Work) -> Measurement:
        utility = next(iter(work.all_inputs("utility_data").values()), None)
        corpora = {
            str(partition.forgetting_task): read_rows(folder / CORPUS)
            for partition, folder in work.all_inputs("self_generated_corpus").items()
        }
        prompts = {
            str(partition.forgetting_task): read_rows(folder / PROMPTS)
            for partition, folder in work.all_inputs("forgetting_prompts").items()
        }
        return cls(
            work,
            read_test_rows(work.input("test_data")),
            {} if utility is None else read_utility_rows(utility),
            [] if utility is None else read_rows(utility / NEUTRAL_PASSAGES),
            # In a mixed cell the learning task's own prompts are no forgetting task; empty text says nothing.
            {
                name: [r for r in rows if r["response"].strip() and r["source_task"] != work.learning_task]
                for name, rows in corpora.items()
            },
            {name: [r for r in rows if r["source_task"] != work.learning_task] for name, rows in prompts.items()},
        )

    def items(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[Rows, dict[str, float]]:
        """The learning task's test items, and measures of all of them together."""
        from lwf_assets.tasks.scorers import aggregate

        task = self.work.study.learning_tasks[self.work.learning_task]
        results = self._evaluate(model, tokenizer, self.test_rows, task)
        rows = [
            {
                "id": result.id,
                "prompt": row.prompt,
                "answer": row.answer,
                "response": result.response,
                "extracted": result.score.extracted,
                "accuracy": result.score.correct,
                "invalid": float(result.score.extracted is None),
                "target_nll": result.target_nll,
                **result.score.measures,
            }
            for row, result in zip(self.test_rows, results, strict=True)
        ]
        return rows, aggregate([result.score for result in results], self.test_rows)

    def utility(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Rows:
        """Other tasks' items, and neutral text."""
        measured: Rows = []
        tasks = utility_tasks(self.work.study)
        for (group, name), rows in self.utility_rows.items():
            results = self._evaluate(model, tokenizer, rows, tasks[group][name])
            measured += [
                {
                    "group": group,
                    "task": name,
                    "id": result.id,
                    "accuracy": result.score.correct,
                    "invalid": float(result.score.extracted is None),
                    "nll": result.target_nll,
                }
                for result in results
            ]
        return measured + self._neutral(model, tokenizer)

    def own_samples(self, model: PreTrainedModel) -> Rows:
        """The base model's own samples: how likely they still are, and how much of them is still memorized."""
        from lwf_assets.engine.evaluation.memorization import memorisation
        from lwf_assets.engine.samples import Sample

        named = [(name, row) for name, rows in self.corpora.items() for row in rows]
        samples = [Sample(row["prompt_ids"], row["response_ids"]) for _, row in named]
        known = memorisation(model, samples, token_budget=self.work.study.model.token_budget)
        return [
            {"forgetting_task": name, "sample_id": row["id"], **asdict(found)}
            for (name, row), found in zip(named, known, strict=True)
        ]

    def examples(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Rows:
        """What it says to some forgetting prompts, evenly spread over the file, which may be in order of subject."""
        from lwf_assets.engine.evaluation.answers import greedy_responses

        said: Rows = []
        for name, rows in self.prompts.items():
            count = min(self.work.study.evaluation.response_examples, len(rows))
            asked = [rows[index * len(rows) // count] for index in range(count)]
            responses = greedy_responses(
                model,
                tokenizer,
                [(row["id"], prompt_of(row)) for row in asked],
                max_new_tokens=self.work.study.generation.max_new_tokens,
                context=self.work.context(model),
                batch_size=self._batch_rows,
            )
            said += [
                {"forgetting_task": name, "prompt_id": row["id"], "prompt": row["prompt"], "response": response}
                for row, response in zip(asked, responses, strict=True)
            ]
        return said

    def distance(self, model: PreTrainedModel) -> dict[str, float | None]:
        """How far the weights are from the base model's; None where the two cannot be compared, as for a champion that
        was made from another base."""
        from lwf_assets.engine.adapter import base_parameters
        from lwf_assets.engine.checkpoint import load_model
        from lwf_assets.engine.evaluation.weight_distance import weight_distance

        base = load_model(self.work.input("base_model"))
        shapes, others = ({n: p.shape for n, p in base_parameters(of).items()} for of in (model, base))
        if shapes != others:
            return {"absolute": None, "relative": None}
        found = weight_distance(model, base)
        return {"absolute": found.total, "relative": found.relative}

    @cached_property
    def _batch_rows(self) -> int | Callable[[int], int]:
        """How many items are answered at once. Every model of the comparison has the sizes of the base."""
        study = self.work.study
        facts = read_facts(self.work.input("base_model"), study.model.dtype)
        return batch_rows(study.evaluation.batch_size, facts)

    def _evaluate(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: Sequence[TestRow],
        task: TaskSettings,
    ) -> Any:
        from lwf_assets.measuring.answered_items import evaluate

        study = self.work.study
        ask = partial(evaluate, batch_size=self._batch_rows, token_budget=study.model.token_budget)
        return ask(model, tokenizer, rows, task, context=self.work.context(model))

    def _neutral(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Rows:
        from lwf_assets.engine.loss import negative_log_likelihoods
        from lwf_assets.engine.samples import Sample, encode_prompt

        context = self.work.context(model)
        encoded = [encode_prompt(tokenizer, passage["text"])[: context.max_length] for passage in self.passages]
        for passage, ids in zip(self.passages, encoded, strict=True):
            if len(ids) < 2:
                raise LwfError(
                    f"evaluation.neutral_text: the passage {passage['id']!r} is a single token; give a longer one"
                )
        samples = [Sample(ids[:1], ids[1:]) for ids in encoded]  # the first token has nothing to be predicted from
        losses = negative_log_likelihoods(model, samples, token_budget=self.work.study.model.token_budget)
        return [
            {"group": "neutral", "task": "neutral", "id": passage["id"], "accuracy": None, "invalid": None, "nll": loss}
            for passage, loss in zip(self.passages, losses, strict=True)
        ]


def read_test_rows(folder: Path) -> list[TestRow]:
    """The rows of a test_data artifact."""
    return [TestRow.from_table(row) for row in read_rows(folder / TEST_ROWS)]


def read_utility_rows(folder: Path) -> dict[tuple[str, str], list[TestRow]]:
    """The test rows by group and task."""
    by_task: dict[tuple[str, str], list[TestRow]] = {}
    for row in read_rows(folder / UTILITY_ITEMS):
        by_task.setdefault((row["group"], row["task"]), []).append(TestRow.from_table(row))
    return by_task
