"""Asset eval_report: base, reference and LWF side by side, item by item, and what became of D_self."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lwf_assets import lwf_checkpoint, scored_forget_set
from lwf_assets.report import (
    CellReport,
    Curve,
    CurvePoint,
    Difference,
    Example,
    ForgottenSample,
    Interval,
    ModelFigures,
    Source,
)
from lwf_assets.report_page import cell_page
from lwf_assets.seeded_fine_tunes import CURVES, seed_folder, seeds_of
from lwf_assets.statistics import bootstrap_interval, rank_correlation, shares_of_variance
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

BASE, REFERENCE, LWF = "base", "reference", "lwf"
MODELS = (BASE, REFERENCE, LWF)
PRIMARY = "accuracy"


@dataclass(frozen=True)
class _Evaluated:
    """Everything measured on one model directory."""

    items: list[dict[str, Any]]
    forgetting_nll: list[float]
    responses: list[str]
    aggregates: dict[str, float]


def materialize(work: Work) -> dict[str, Any]:
    """Evaluate every seed of every model and write items, summary and a self-contained page."""
    rows = read_test_rows(work.input("test_data"))
    scored = read_rows(work.input("scored_forget_set") / scored_forget_set.FILE)
    prompts = _example_prompts(work)
    work.progress.begin("Evaluation", len(_model_folders(work)))
    evaluated: dict[str, dict[int | None, _Evaluated]] = {model: {} for model in MODELS}
    for model, seed, folder in _model_folders(work):
        evaluated[model][seed] = _evaluate(work, folder, rows, scored, prompts)
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
    report = _report(work, evaluated, scored, prompts)
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
) -> _Evaluated:
    from lwf_assets.engine.checkpoint import load_model, load_tokenizer
    from lwf_assets.engine.evaluation import evaluate, greedy_responses
    from lwf_assets.engine.loss import negative_log_likelihoods
    from lwf_assets.engine.samples import Context, Sample
    from lwf_assets.tasks.scorers import aggregate

    model, tokenizer = load_model(folder), load_tokenizer(folder)
    settings = work.study.model
    context = Context.of_model(model, max_length=settings.max_length, truncate_prompts=settings.truncate_prompts)
    task = work.study.learning_tasks[work.learning_task]
    batch_size = work.study.evaluation.batch_size
    results = evaluate(model, tokenizer, rows, task, context=context, batch_size=batch_size)
    forgetting = [Sample(row["prompt_ids"], row["response_ids"]) for row in scored]
    return _Evaluated(
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
        forgetting_nll=negative_log_likelihoods(model, forgetting, batch_size=batch_size),
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


def _labelled(evaluated: Mapping[str, Mapping[int | None, _Evaluated]], take: Any) -> list[dict[str, Any]]:
    return [
        {"model": model, "seed": seed, **row}
        for model, by_seed in evaluated.items()
        for seed, result in by_seed.items()
        for row in take(result)
    ]


def _report(
    work: Work,
    evaluated: Mapping[str, Mapping[int | None, _Evaluated]],
    scored: Sequence[dict[str, Any]],
    prompts: Sequence[dict[str, Any]],
) -> CellReport:
    alpha = work.study.alpha
    nll = {
        model: _mean_over_seeds([r.forgetting_nll for r in by_seed.values()]) for model, by_seed in evaluated.items()
    }
    ledger = lwf_checkpoint.read_ledger(work.input("lwf_checkpoint"), work.study.seeds)
    times = Counter(entry["sample_id"] for entry in ledger if entry["pushed"])
    confidence = [row["forgetting_confidence"] for row in scored]
    shares = shares_of_variance(
        {"linear": [-alpha * row["linear"] for row in scored], "quadratic": [alpha**2 * r["quadratic"] for r in scored]}
    )
    return CellReport(
        study=work.study.name,
        learning_task=work.learning_task,
        forgetting_task=work.forgetting_task,
        alpha=alpha,
        primary_measure=PRIMARY,
        models=[_figures(model, evaluated[model], scored) for model in MODELS],
        difference=_difference(evaluated),
        learning_curves=[
            *learning_curves(REFERENCE, work.input("reference_checkpoint")),
            *learning_curves(LWF, work.input("lwf_checkpoint")),
        ],
        unlearning_curves=_unlearning_curves(ledger),
        samples=[
            ForgottenSample(
                id=row["id"],
                prompt=row["prompt"],
                response=row["response"],
                forgetting_confidence=row["forgetting_confidence"],
                linear=row["linear"],
                quadratic=row["quadratic"],
                tokens=row["tokens"],
                selected=row["selected"],
                nll={model: nll[model][index] for model in MODELS},
                times_unlearned=times[row["id"]],
            )
            for index, row in enumerate(scored)
        ],
        examples=[
            Example(
                prompt=prompt["prompt"],
                responses={model: next(iter(evaluated[model].values())).responses[index] for model in MODELS},
            )
            for index, prompt in enumerate(prompts)
        ],
        linear_share=_number(shares["linear"]),
        quadratic_share=_number(shares["quadratic"]),
        length_correlation=_number(rank_correlation(confidence, [row["tokens"] for row in scored])),
        nll_correlation=_number(rank_correlation(confidence, [row["nll"] for row in scored])),
        notes=[],
        made_from=[
            Source(cell.asset, cell.partition.key, artifact.version) for cell, artifact in sorted(work.inputs.items())
        ],
    )


def _figures(model: str, by_seed: Mapping[int | None, _Evaluated], scored: Sequence[dict[str, Any]]) -> ModelFigures:
    """Each measure's mean over items (and seeds), with an interval over the items."""
    first = next(iter(by_seed.values()))
    names = [name for name, value in first.items[0].items() if isinstance(value, float)]
    measures = {
        name: bootstrap_interval(_mean_over_seeds([[i[name] for i in r.items] for r in by_seed.values()]))
        for name in names
    }
    for name in sorted(first.aggregates.keys() - measures.keys() - {"invalid_share"}):
        # A measure of the whole test set, such as macro-F1, has no value per item to draw an interval from.
        mean = sum(result.aggregates[name] for result in by_seed.values()) / len(by_seed)
        measures[name] = Interval(mean, math.nan, math.nan)
    nll = _mean_over_seeds([result.forgetting_nll for result in by_seed.values()])
    for name, chosen in (("forgotten_nll", True), ("kept_nll", False)):
        measures[name] = bootstrap_interval(
            [value for value, row in zip(nll, scored, strict=True) if row["selected"] == chosen]
        )
    return ModelFigures(model, [seed for seed in by_seed if seed is not None], measures)


def _difference(evaluated: Mapping[str, Mapping[int | None, _Evaluated]]) -> Difference:
    """LWF minus reference on the primary measure, paired item by item (and seed by seed, before averaging)."""
    means = {
        model: _mean_over_seeds([[item[PRIMARY] for item in result.items] for result in evaluated[model].values()])
        for model in (REFERENCE, LWF)
    }
    paired = [lwf - reference for lwf, reference in zip(means[LWF], means[REFERENCE], strict=True)]
    return Difference(PRIMARY, bootstrap_interval(paired), items=len(paired), seeds=len(evaluated[LWF]))


def learning_curves(label: str, checkpoint: Path) -> list[Curve]:
    """The loss curve of each seed of a reference or LWF checkpoint."""
    points = read_rows(checkpoint / CURVES)
    return [
        Curve(label, seed, [CurvePoint(p["step"], p["loss"]) for p in points if p["seed"] == seed])
        for seed in seeds_of(checkpoint)
    ]


def _unlearning_curves(ledger: Sequence[dict[str, Any]]) -> list[Curve]:
    """Mean NLL of each unlearning batch, just before and just after its update."""
    curves = []
    for label in ("before", "after"):
        for seed in sorted({entry["seed"] for entry in ledger}):
            by_step: dict[int, list[float]] = {}
            for entry in ledger:
                if entry["seed"] == seed:
                    by_step.setdefault(entry["step"], []).append(entry[f"nll_{label}"])
            points = [CurvePoint(step, sum(values) / len(values)) for step, values in sorted(by_step.items())]
            curves.append(Curve(label, seed, points))
    return curves


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


def _mean_over_seeds(values: Sequence[Sequence[float]]) -> list[float]:
    return [sum(of_item) / len(of_item) for of_item in zip(*values, strict=True)]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _finite(value: Any) -> Any:
    """NaN as null: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
