"""Asset evaluation: what one model of the comparison does, seed by seed.

On the learning task's test set, item by item; on the samples of D_self; on tasks and text that should not suffer. What
follows from it, across models, is eval_report's.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lwf_assets.graph.models import Compared, find
from lwf_assets.measuring.measurement import Measurement, Rows
from lwf_assets.statistics.means import mean
from lwf_assets.store.layout import (
    EVALUATED_ITEMS,
    EVALUATED_SAMPLES,
    EVALUATED_SAMPLES_SCHEMA,
    EVALUATED_UTILITY,
    EVALUATED_UTILITY_SCHEMA,
    EXAMPLES,
    EXAMPLES_SCHEMA,
    LEARNING_CURVES,
    SUMMARY,
    VALIDATION_CURVE,
    seed_folder,
    seeds_of,
)
from lwf_assets.store.tables import read_rows, write_rows
from lwf_assets.study.study import BASE, LWF

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


_SEED = ("seed", pa.int64())


def materialize(work: Work) -> dict[str, Any]:
    """Measure every seed of the model; one table for each kind of measurement, without any interpretation."""
    from lwf_assets.engine.checkpoint import load_model, load_tokenizer

    entry = find(work.study, work.partition)
    checkpoint, base = work.input(entry.checkpoint[0]), work.base_of(entry.checkpoint[0])
    folders = (
        {None: checkpoint} if entry.name == BASE else {s: seed_folder(checkpoint, s) for s in seeds_of(checkpoint)}
    )
    measure = Measurement.of(work)
    items, utility, forgetting, examples, aggregates, distances = ([] for _ in range(6))  # type: ignore[var-annotated]
    work.progress.begin("Evaluation", len(folders))
    for seed, folder in folders.items():
        model, tokenizer = load_model(folder, base), load_tokenizer(folder)
        rows, of_all = measure.items(model, tokenizer)
        items += [{"seed": seed, **row} for row in rows]
        aggregates.append({"seed": seed, **of_all})
        utility += [{"seed": seed, **row} for row in measure.utility(model, tokenizer)]
        forgetting += [{"seed": seed, **row} for row in measure.own_samples(model)]
        distances.append({"seed": seed, **measure.distance(model)})
        examples = examples or measure.examples(model, tokenizer)
        work.progress.advance()
    write_rows(work.out / EVALUATED_ITEMS, items, _items_schema(items))
    write_rows(work.out / EVALUATED_UTILITY, utility, EVALUATED_UTILITY_SCHEMA)
    write_rows(work.out / EVALUATED_SAMPLES, forgetting, EVALUATED_SAMPLES_SCHEMA)
    write_rows(work.out / EXAMPLES, examples, EXAMPLES_SCHEMA)
    for name in (LEARNING_CURVES, VALIDATION_CURVE):
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
        "accuracy": mean(row["accuracy"] for row in items),
        "invalid": mean(row["invalid"] for row in items),
        "target_nll": mean(row["target_nll"] for row in items),
        "own_samples_nll": mean(row["nll"] for row in forgetting),
        "neutral_nll": mean(row["nll"] for row in utility if row["group"] == "neutral"),
        "distance": mean(row["absolute"] for row in distances),
    }


def _description(entry: Compared, checkpoint: Path) -> dict[str, Any]:
    """What the model is, for people."""
    arm: Any = entry.arm
    curves = checkpoint / LEARNING_CURVES
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


def _items_schema(rows: Rows) -> pa.Schema:
    """The seed is null for the base model alone and an answer may be unreadable throughout: types are given, not
    inferred."""
    texts = {"id", "prompt", "answer", "response", "extracted"}
    types = {name: pa.string() if name in texts else pa.float64() for name in rows[0]}
    return pa.schema({**types, "seed": pa.int64()})
