"""Reads `evaluation` artifacts: what one model did, as one table of seeds by items for each measure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from lwf_assets.errors import LwfError

BASE, REFERENCE, LWF = "base", "reference", "lwf"
NO_SEED = -1
"""Stands for the seed of the base model, which has none, because a table cannot be indexed by null."""

# The columns of the items table that are not measures.
_DESCRIPTION = {"seed", "id", "prompt", "answer", "response", "extracted"}


@dataclass(frozen=True)
class Evaluation:
    """One model over all its seeds."""

    key: str
    name: str
    """The key without the cell's forgetting task: "base", "reference", "lwf" or the arm's name."""
    label: str
    kind: str
    description: str
    seeds: list[int]
    """None for the base model."""
    steps: int | None
    values: dict[str, pd.DataFrame]
    """By measure: seeds (index) by items (columns). A measure that has one value per seed has the one column ""."""
    sample_nll: pd.DataFrame
    """Seeds by scored samples, nats per token; columns without any value where it was not measured."""
    training: pd.DataFrame
    """Learning steps (index) by seeds (columns): training loss."""
    validation: pd.DataFrame
    """The same of the NLL of the validation split; empty where it was not followed."""
    answers: pd.DataFrame
    """Seeds by test items: what was read from each response, "" where nothing could be."""
    labels: dict[str, str]
    """The right answer of each test item."""
    examples: dict[tuple[str, str], str]
    """The answer to each forgetting prompt, by its id and text."""


def read_evaluations(folders: Iterable[Path], forgetting_task: str, scored: pd.DataFrame) -> list[Evaluation]:
    """The models to compare in a cell: base, reference and LWF first, then the arms in the order given.

    Args:
        folders: of the artifacts. Models that belong to another forgetting task are left out.
        forgetting_task: of the cell.
        scored: the scored forget set, with the columns id, selected and, if known, source_task.

    Raises:
        LwfError: there is no base, reference or LWF among them.
    """
    read = [(folder, json.loads((folder / "summary.json").read_text())) for folder in folders]
    fitting = [
        read_evaluation(folder, forgetting_task, scored)
        for folder, summary in read
        if summary["forgetting_task"] in (None, forgetting_task)
    ]
    for kind in (BASE, REFERENCE, LWF):
        if sum(evaluation.kind == kind for evaluation in fitting) != 1:
            found = ", ".join(sorted(evaluation.key for evaluation in fitting)) or "none"
            raise LwfError(f"eval_report: needs exactly one evaluation of kind {kind!r}; found {found}")
    order = {BASE: 0, REFERENCE: 1, LWF: 2}
    return sorted(fitting, key=lambda evaluation: order.get(evaluation.kind, 3))


def of_kind(evaluations: Iterable[Evaluation], kind: str) -> Evaluation:
    """The one model of a kind that a cell has once."""
    return next(evaluation for evaluation in evaluations if evaluation.kind == kind)


def by_seed_and_item(table: pd.DataFrame, item: str, value: str) -> pd.DataFrame:
    """Rows as a table of seeds by items.

    Raises:
        LwfError: an item appears twice for one seed.
    """
    numbers = table.assign(seed=table["seed"].fillna(NO_SEED).astype("int64"))
    if numbers.duplicated(["seed", item]).any():
        twice = numbers.loc[numbers.duplicated(["seed", item]), item].iloc[0]
        raise LwfError(f"evaluation: {item} {twice!r} appears twice for one seed")
    return numbers.pivot(index="seed", columns=item, values=value).astype("float64")


def read_evaluation(folder: Path, forgetting_task: str, scored: pd.DataFrame) -> Evaluation:
    """One model's evaluation, as a cell of that forgetting task sees it; for `scored` see `read_evaluations`."""
    summary = json.loads((folder / "summary.json").read_text())
    items = _table(folder / "items.parquet")
    values = {
        name: by_seed_and_item(items, "id", name)
        for name in items.columns
        if name not in _DESCRIPTION and pd.api.types.is_float_dtype(items[name])
    }
    for entries in (summary["aggregates"], summary["distance"]):
        values |= _of_whole_models(entries, known=values)
    values |= _utility(_table(folder / "utility.parquet"), forgetting_task, scored)
    forgetting = _table(folder / "forgetting.parquet")
    own = forgetting[forgetting["forgetting_task"] == forgetting_task]
    sample_nll = by_seed_and_item(own, "sample_id", "nll").reindex(columns=list(scored["id"]))
    memorised = by_seed_and_item(own, "sample_id", "memorised").reindex(columns=list(scored["id"]))
    for word, chosen in (("forgotten", scored["selected"]), ("kept", ~scored["selected"])):
        for name, table in (("nll", sample_nll), ("memorised", memorised)):
            values[f"{word}_{name}"] = table[list(scored.loc[chosen, "id"])].dropna(axis="columns", how="any")
    examples = _table(folder / "examples.parquet")
    examples = examples[examples["forgetting_task"] == forgetting_task]
    return Evaluation(
        key=summary["model"],
        name=summary["model"].removesuffix(f".{forgetting_task}"),
        label=summary["label"],
        kind=summary["kind"],
        description=summary["description"],
        seeds=[seed for seed in summary["seeds"] if seed is not None],
        steps=summary["steps"],
        values={name: table for name, table in values.items() if table.size},
        sample_nll=sample_nll,
        training=_curve(folder / "learning_curves.parquet", "loss"),
        validation=_curve(folder / "validation_curve.parquet", "nll"),
        answers=_answers(items),
        labels={str(item): str(answer) for item, answer in zip(items["id"], items["answer"], strict=True)},
        examples={
            (str(prompt_id), str(prompt)): str(response)
            for prompt_id, prompt, response in zip(
                examples["prompt_id"], examples["prompt"], examples["response"], strict=True
            )
        },
    )


def _answers(items: pd.DataFrame) -> pd.DataFrame:
    read = items.assign(seed=items["seed"].fillna(NO_SEED).astype("int64"))
    return read.pivot(index="seed", columns="id", values="extracted").fillna("").astype(str)


def _of_whole_models(entries: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measures with one value per seed. What has a value per item already is not taken again."""
    if not entries:
        return {}
    table = pd.DataFrame(entries)
    table = table.assign(seed=table["seed"].fillna(NO_SEED).astype("int64")).set_index("seed")
    table = table.rename(columns={"absolute": "distance", "relative": "relative_distance"})
    taken = [name for name in table.columns if name not in known and name != "invalid_share"]
    return {name: table[[name]].astype("float64").set_axis([""], axis="columns") for name in taken}


def _utility(table: pd.DataFrame, forgetting_task: str, scored: pd.DataFrame) -> dict[str, pd.DataFrame]:
    sources = set(scored["source_task"]) if "source_task" in scored else set()
    found: dict[str, pd.DataFrame] = {}
    if table.empty:
        return found
    for group, prefix in (("forgetting", "forgetting_task"), ("untouched", "untouched"), ("neutral", "neutral")):
        rows = table[table["group"] == group]
        if group == "forgetting":
            rows = rows[rows["task"].isin(sources | {forgetting_task})]
        rows = rows.assign(item=rows["task"].astype(str) + "/" + rows["id"].astype(str))
        for name in ("accuracy", "nll"):
            of_measure = rows.dropna(subset=[name])
            if len(of_measure):
                found[f"{prefix}_{name}"] = by_seed_and_item(of_measure, "item", name)
    return found


def _curve(path: Path, value: str) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame()
    table = _table(path)
    if table.empty:
        return pd.DataFrame()
    return table.pivot(index="step", columns="seed", values=value).astype("float64").sort_index()


def _table(path: Path) -> pd.DataFrame:
    table: pd.DataFrame = pq.read_table(path).to_pandas()
    return table
