"""Sample by sample, what was scored and what became of it: FC and its terms, when it was unlearned, its NLL."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from lwf_assets.comparison.evaluations import BASE, LWF, REFERENCE, Evaluation, of_kind
from lwf_assets.comparison.records import NAN, Curve, CurvePoint, ForgottenSample, SourceShare
from lwf_assets.engine.forgetting_confidence import weighted_terms
from lwf_assets.statistics import shares_of_variance

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source_task", pa.string()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("forgetting_confidence", pa.float64()),
        ("constant", pa.float64()),
        ("linear", pa.float64()),
        ("quadratic", pa.float64()),
        ("rank", pa.int64()),
        ("selected", pa.bool_()),
        ("tokens", pa.int64()),
        ("nll_base", pa.float64()),
        ("nll_reference", pa.float64()),
        ("nll_lwf", pa.float64()),
        ("times_unlearned", pa.int64()),
        ("steps_unlearned", pa.list_(pa.int64())),
    ]
)


def forgotten_samples(
    scored: Sequence[Mapping[str, Any]], ledger: Sequence[Mapping[str, Any]], evaluations: Sequence[Evaluation]
) -> list[ForgottenSample]:
    """Every scored sample, in the order of `scored`, with what the ledger and the evaluations say of it."""
    first = min((entry["seed"] for entry in ledger), default=None)
    entries: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    times: dict[str, int] = defaultdict(int)
    for entry in ledger:
        times[entry["sample_id"]] += bool(entry["pushed"])
        if entry["seed"] == first:
            entries[entry["sample_id"]].append(entry)
    end = max((entry["step"] for entry in ledger if entry["seed"] == first), default=0)
    means = {
        kind: of_kind(evaluations, kind).sample_nll.mean(axis="index", skipna=False) for kind in (BASE, REFERENCE, LWF)
    }
    return [
        ForgottenSample(
            id=row["id"],
            prompt=row["prompt"],
            response=row["response"],
            forgetting_confidence=row["forgetting_confidence"],
            linear=row["linear"],
            quadratic=row["quadratic"],
            tokens=row["tokens"],
            selected=row["selected"],
            # The base model's NLL came with its gradients already.
            nll={kind: float(mean[row["id"]]) for kind, mean in means.items()} | _known_nll(row, means[BASE]),
            times_unlearned=times[row["id"]],
            constant=row["constant"],
            rank=row["rank"],
            source_task=row.get("source_task") or "",
            steps_unlearned=tuple(entry["step"] for entry in entries[row["id"]] if entry["pushed"]),
            history=_history(entries[row["id"]], end, start=row.get("nll")),
        )
        for row in scored
    ]


def shares_of_terms(rows: Sequence[Mapping[str, Any]], alpha: float) -> dict[str, float | None]:
    """The share of FC's variance over scored `rows` that comes from the linear and from the quadratic term."""
    terms = [weighted_terms(row["linear"], row["quadratic"], alpha) for row in rows]
    return shares_of_variance({"linear": [pull for pull, _ in terms], "quadratic": [push for _, push in terms]})


def source_shares(samples: Sequence[ForgottenSample], known_conflicts: Sequence[str]) -> list[SourceShare]:
    """How many samples of each source task were scored and chosen, in the order of the task's name."""
    tasks = sorted({sample.source_task for sample in samples} - {""})
    return [
        SourceShare(
            task,
            scored=sum(sample.source_task == task for sample in samples),
            selected=sum(sample.source_task == task and sample.selected for sample in samples),
            known_conflict=task in known_conflicts,
        )
        for task in tasks
    ]


def unlearning_curves(ledger: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Mean NLL of each unlearning batch, just before its update and when its samples were next evaluated."""
    curves = []
    for label in ("before", "after"):
        for seed in sorted({entry["seed"] for entry in ledger}):
            by_step: dict[int, list[float]] = defaultdict(list)
            for entry in ledger:
                if entry["seed"] == seed and entry[f"nll_{label}"] is not None:
                    by_step[entry["step"]].append(entry[f"nll_{label}"])
            points = [CurvePoint(step, math.fsum(values) / len(values)) for step, values in sorted(by_step.items())]
            curves.append(Curve(label, seed, points))
    return curves


def sample_rows(samples: Sequence[ForgottenSample]) -> list[dict[str, Any]]:
    """The rows of samples.parquet; of NLL and terms that were not measured there is null."""
    names = set(SCHEMA.names)
    return [
        {
            **{name: value for name, value in vars(sample).items() if name in names},
            **{f"nll_{model}": value for model, value in sample.nll.items() if math.isfinite(value)},
            "steps_unlearned": list(sample.steps_unlearned),
        }
        for sample in samples
    ]


def _known_nll(row: Mapping[str, Any], measured: Any) -> dict[str, float]:
    return {} if math.isfinite(measured[row["id"]]) else {BASE: row.get("nll", NAN)}


def _history(entries: Sequence[Mapping[str, Any]], end: int, *, start: float | None) -> tuple[CurvePoint, ...]:
    """NLL under the base model, from which the run begins, just before each turn, and once more after the last."""
    ordered = sorted(entries, key=lambda entry: entry["step"])
    begin = [CurvePoint(0, start)] if ordered and ordered[0]["step"] > 0 and start is not None else []
    points = begin + [CurvePoint(entry["step"], entry["nll_before"]) for entry in ordered]
    if ordered and ordered[-1]["nll_after"] is not None:
        points.append(CurvePoint(max(end, ordered[-1]["step"] + 1), ordered[-1]["nll_after"]))
    return tuple(points)
