"""Asset eval_report: base, reference and LWF side by side, item by item, and what became of D_self."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lwf_assets import scored_forget_set
from lwf_assets.reports.cell_report import BASE, LWF, MODELS, PRIMARY, REFERENCE, Evaluated, cell_report
from lwf_assets.reports.report import (
    CellReport,
)
from lwf_assets.reports.page import cell_page
from lwf_assets.seeded_fine_tunes import seed_folder, seeds_of
from lwf_assets.tables import read_rows, write_rows
from lwf_assets.test_data import read_test_rows

if TYPE_CHECKING:
    from lwf_assets.tasks.rows import TestRow
    from lwf_assets.work import Work

ITEMS = "items.parquet"
FORGETTING = "forgetting.parquet"
EXAMPLES = "examples.parquet"
SUMMARY = "summary.json"
PAGE = "report.html"


def materialize(work: Work) -> dict[str, Any]:
    """Evaluate every seed of every model and write items, summary and a self-contained page."""
    rows = read_test_rows(work.input("test_data"))
    scored = read_rows(work.input("scored_forget_set") / scored_forget_set.FILE)
    prompts = _example_prompts(work)
    work.progress.begin("Evaluation", len(_model_folders(work)))
    evaluated: dict[str, dict[int | None, Evaluated]] = {model: {} for model in MODELS}
    for model, seed, folder in _model_folders(work):
        # The base model's NLL of its own samples came with their gradients.
        known = [row["nll"] for row in scored] if model == BASE else None
        evaluated[model][seed] = _evaluate(work, folder, rows, scored, prompts, known)
        work.progress.advance()
    write_rows(work.out / ITEMS, _labelled(evaluated, lambda result: result.items))
    write_rows(
        work.out / FORGETTING,
        _labelled(
            evaluated,
            lambda result: [
                {"sample_id": row["id"], "selected": row["selected"], "nll": nll}
                for row, nll in zip(scored, result.forgetting_nll, strict=True)
            ],
        ),
    )
    report = cell_report(work, evaluated, scored, prompts)
    write_rows(
        work.out / EXAMPLES,
        [
            {"prompt": example.prompt, "model": model, "response": response}
            for example in report.examples
            for model, response in example.responses.items()
        ],
        pa.schema([("prompt", pa.string()), ("model", pa.string()), ("response", pa.string())]),
    )
    (work.out / SUMMARY).write_text(json.dumps(_finite(_summary(report)), indent=2, sort_keys=True) + "\n")
    (work.out / PAGE).write_text(cell_page(report), encoding="utf-8")
    return {
        "test_items": len(rows),
        **{f"{figures.model}_{PRIMARY}": figures.measures[PRIMARY].mean for figures in report.models},
        "difference": report.difference.interval.mean,
        "difference_low": report.difference.interval.low,
        "difference_high": report.difference.interval.high,
        **{f"{figures.model}_forgotten_nll": figures.measures["forgotten_nll"].mean for figures in report.models},
    }


def read_summary(folder: Path) -> dict[str, Any]:
    """The figures of an eval_report artifact: models with their measures, and the difference of LWF and reference."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    return summary


def _model_folders(work: Work) -> list[tuple[str, int | None, Path]]:
    reference, lwf = work.input("reference_checkpoint"), work.input("lwf_checkpoint")
    return [
        (BASE, None, work.input("base_model")),
        *((REFERENCE, seed, seed_folder(reference, seed)) for seed in seeds_of(reference)),
        *((LWF, seed, seed_folder(lwf, seed)) for seed in seeds_of(lwf)),
    ]


def _example_prompts(work: Work) -> list[dict[str, Any]]:
    """Evenly spread over the file, which may be in the order of its subjects; never the learning task's own."""
    from lwf_assets import forgetting_prompts

    rows = read_rows(work.input("forgetting_prompts") / forgetting_prompts.FILE)
    rows = [row for row in rows if row["source_task"] != work.learning_task]
    count = min(work.study.evaluation.response_examples, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


def _evaluate(
    work: Work,
    folder: Path,
    rows: Sequence[TestRow],
    scored: Sequence[dict[str, Any]],
    prompts: Sequence[dict[str, Any]],
    known_nll: list[float] | None,
) -> Evaluated:
    from lwf_assets.engine.checkpoint import load_model, load_tokenizer
    from lwf_assets.engine.evaluation import evaluate, greedy_responses
    from lwf_assets.engine.loss import negative_log_likelihoods
    from lwf_assets.engine.samples import Sample
    from lwf_assets.tasks.scorers import aggregate

    model, tokenizer = load_model(folder), load_tokenizer(folder)
    context = work.context(model)
    task = work.study.learning_tasks[work.learning_task]
    batch_size, token_budget = work.study.evaluation.batch_size, work.study.model.token_budget
    results = evaluate(model, tokenizer, rows, task, context=context, batch_size=batch_size, token_budget=token_budget)
    own_samples = [Sample(row["prompt_ids"], row["response_ids"]) for row in scored]
    return Evaluated(
        items=[
            {
                "id": result.id,
                "prompt": row.prompt,
                "answer": row.answer,
                "response": result.response,
                "extracted": result.score.extracted,
                PRIMARY: result.score.correct,
                "invalid": float(result.score.extracted is None),
                "target_nll": result.target_nll,
                **result.score.measures,
            }
            for row, result in zip(rows, results, strict=True)
        ],
        forgetting_nll=known_nll or negative_log_likelihoods(model, own_samples, token_budget=token_budget),
        responses=greedy_responses(
            model,
            tokenizer,
            [(prompt["id"], prompt["prompt"]) for prompt in prompts],
            max_new_tokens=work.study.generation.max_new_tokens,
            context=context,
            batch_size=batch_size,
        ),
        aggregates=aggregate([result.score for result in results], rows),
    )


def _labelled(evaluated: Mapping[str, Mapping[int | None, Evaluated]], take: Any) -> list[dict[str, Any]]:
    return [
        {"model": model, "seed": seed, **row}
        for model, by_seed in evaluated.items()
        for seed, result in by_seed.items()
        for row in take(result)
    ]


def _summary(report: CellReport) -> dict[str, Any]:
    return {
        "study": report.study,
        "learning_task": report.learning_task,
        "forgetting_task": report.forgetting_task,
        "alpha": report.alpha,
        "primary_measure": report.primary_measure,
        "models": [asdict(figures) for figures in report.models],
        "difference": asdict(report.difference),
    }


def _finite(value: Any) -> Any:
    """NaN as null: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
