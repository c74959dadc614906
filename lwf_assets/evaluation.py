"""Asset evaluation: what one model of the comparison does, seed by seed.

On the learning task's test set, item by item; on the samples of D_self; on tasks and text that should not suffer. What
follows from it, across models, is eval_report's.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lwf_assets import forgetting_prompts, self_generated_corpus, utility_data
from lwf_assets.asset_settings import utility_tasks
from lwf_assets.compared import Compared, find
from lwf_assets.errors import LwfError
from lwf_assets.seeded_fine_tunes import CURVES, VALIDATION, seed_folder, seeds_of
from lwf_assets.study import BASE, LWF
from lwf_assets.tables import read_rows, write_rows
from lwf_assets.test_data import read_test_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lwf_assets.tasks.rows import TestRow
    from lwf_assets.tasks.settings import TaskSettings
    from lwf_assets.work import Work

ITEMS = "items.parquet"
UTILITY = "utility.parquet"
FORGETTING = "forgetting.parquet"
EXAMPLES = "examples.parquet"
SUMMARY = "summary.json"

_SEED = ("seed", pa.int64())
_UTILITY_SCHEMA = pa.schema(
    [
        _SEED,
        *((name, pa.string()) for name in ("group", "task", "id")),
        *((name, pa.float64()) for name in ("accuracy", "invalid", "nll")),
    ]
)
_FORGETTING_SCHEMA = pa.schema(
    [
        _SEED,
        ("forgetting_task", pa.string()),
        ("sample_id", pa.string()),
        ("nll", pa.float64()),
        ("memorised", pa.float64()),
    ]
)
_EXAMPLES_SCHEMA = pa.schema([(name, pa.string()) for name in ("forgetting_task", "prompt_id", "prompt", "response")])

Rows = list[dict[str, Any]]


def materialize(work: Work) -> dict[str, Any]:
    """Measure every seed of the model; one table for each kind of measurement, without any interpretation."""
    from lwf_assets.engine.checkpoint import load_model, load_tokenizer

    entry = find(work.study, work.partition)
    checkpoint = work.input(entry.checkpoint[0])
    folders = (
        {None: checkpoint} if entry.name == BASE else {s: seed_folder(checkpoint, s) for s in seeds_of(checkpoint)}
    )
    measure = _Measurement.of(work)
    items, utility, forgetting, examples, aggregates, distances = ([] for _ in range(6))  # type: ignore[var-annotated]
    work.progress.begin("Evaluation", len(folders))
    for seed, folder in folders.items():
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        rows, of_all = measure.items(model, tokenizer)
        items += [{"seed": seed, **row} for row in rows]
        aggregates.append({"seed": seed, **of_all})
        utility += [{"seed": seed, **row} for row in measure.utility(model, tokenizer)]
        forgetting += [{"seed": seed, **row} for row in measure.own_samples(model)]
        distances.append({"seed": seed, **measure.distance(model)})
        examples = examples or measure.examples(model, tokenizer)
        work.progress.advance()
    write_rows(work.out / ITEMS, items, _items_schema(items))
    write_rows(work.out / UTILITY, utility, _UTILITY_SCHEMA)
    write_rows(work.out / FORGETTING, forgetting, _FORGETTING_SCHEMA)
    write_rows(work.out / EXAMPLES, examples, _EXAMPLES_SCHEMA)
    for name in (CURVES, VALIDATION):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, work.out / name)
    summary = _description(entry, checkpoint) | {
        "seeds": list(folders),
        "aggregates": aggregates,
        "distance": distances,
    }
    (work.out / SUMMARY).write_text(json.dumps(summary, indent=2) + os.linesep)
    return {
        "model": entry.key,
        "seeds": len(folders),
        "items": len(items) // len(folders),
        "accuracy": _mean(row["accuracy"] for row in items),
        "invalid": _mean(row["invalid"] for row in items),
        "target_nll": _mean(row["target_nll"] for row in items),
        "own_samples_nll": _mean(row["nll"] for row in forgetting),
        "neutral_nll": _mean(row["nll"] for row in utility if row["group"] == "neutral"),
        "distance": _mean(row["absolute"] for row in distances),
    }


def _description(entry: Compared, checkpoint: Path) -> dict[str, Any]:
    """What the model is, for people."""
    arm: Any = entry.arm
    curves = checkpoint / CURVES
    return {
        "model": entry.key,
        "label": entry.name,
        "kind": entry.name if arm is None else "variant" if arm.kind == LWF else arm.kind,
        "description": _BUILT_IN[entry.name] if arm is None else " ".join((type(arm).__doc__ or "").split()),
        "forgetting_task": entry.forgetting_task,
        "steps": max(row["step"] for row in read_rows(curves)) if curves.is_file() else None,
    }


_BUILT_IN = {
    "base": "The base model, before any fine-tuning.",
    "reference": "The plain fine-tune.",
    "lwf": "Learning with forgetting.",
}


@dataclass(frozen=True)
class _Measurement:
    """What every seed of the model is measured on."""

    work: Work
    test_rows: list[TestRow]
    utility_rows: Mapping[tuple[str, str], list[TestRow]]
    passages: Rows
    corpora: Mapping[str, Rows]
    prompts: Mapping[str, Rows]

    @classmethod
    def of(cls, work: Work) -> _Measurement:
        utility = next(iter(work.all_inputs("utility_data").values()), None)
        corpora = {
            str(partition.forgetting_task): read_rows(folder / self_generated_corpus.FILE)
            for partition, folder in work.all_inputs("self_generated_corpus").items()
        }
        prompts = {
            str(partition.forgetting_task): read_rows(folder / forgetting_prompts.FILE)
            for partition, folder in work.all_inputs("forgetting_prompts").items()
        }
        return cls(
            work,
            read_test_rows(work.input("test_data")),
            {} if utility is None else utility_data.read_utility_rows(utility),
            [] if utility is None else read_rows(utility / utility_data.NEUTRAL),
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
        """What the base model said: how likely it still is, and how much of it is still known by heart."""
        from lwf_assets.engine.loss import negative_log_likelihoods
        from lwf_assets.engine.relearning import exact_memorisation
        from lwf_assets.engine.samples import Sample

        budget = self.work.study.model.token_budget
        measured: Rows = []
        for name, rows in self.corpora.items():
            samples = [Sample(row["prompt_ids"], row["response_ids"]) for row in rows]
            nll = negative_log_likelihoods(model, samples, token_budget=budget)
            memorised = exact_memorisation(model, samples, token_budget=budget)
            measured += [
                {"forgetting_task": name, "sample_id": row["id"], "nll": loss, "memorised": share}
                for row, loss, share in zip(rows, nll, memorised, strict=True)
            ]
        return measured

    def examples(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Rows:
        """What it says to some forgetting prompts, evenly spread over the file, which may be in order of subject."""
        from lwf_assets.engine.evaluation import greedy_responses

        said: Rows = []
        for name, rows in self.prompts.items():
            count = min(self.work.study.evaluation.response_examples, len(rows))
            asked = [rows[index * len(rows) // count] for index in range(count)]
            responses = greedy_responses(
                model,
                tokenizer,
                [(row["id"], row["prompt"]) for row in asked],
                max_new_tokens=self.work.study.generation.max_new_tokens,
                context=self.work.context(model),
                batch_size=self.work.study.evaluation.batch_size,
            )
            said += [
                {"forgetting_task": name, "prompt_id": row["id"], "prompt": row["prompt"], "response": response}
                for row, response in zip(asked, responses, strict=True)
            ]
        return said

    def distance(self, model: PreTrainedModel) -> dict[str, float]:
        """How far the weights are from the base model's."""
        from lwf_assets.engine.checkpoint import load_model
        from lwf_assets.engine.weight_distance import weight_distance

        found = weight_distance(model, load_model(self.work.input("base_model")))
        return {"absolute": found.total, "relative": found.relative}

    def _evaluate(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: Sequence[TestRow],
        task: TaskSettings,
    ) -> Any:
        from lwf_assets.engine.evaluation import evaluate

        study = self.work.study
        ask = partial(evaluate, batch_size=study.evaluation.batch_size, token_budget=study.model.token_budget)
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


def _items_schema(rows: Rows) -> pa.Schema:
    """The seed is null for the base model alone and an answer may be unreadable throughout: types are told, not
    read off."""
    texts = {"id", "prompt", "answer", "response", "extracted"}
    types = {name: pa.string() if name in texts else pa.float64() for name in rows[0]}
    return pa.schema({**types, "seed": pa.int64()})


def _mean(values: Any) -> float | None:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None
