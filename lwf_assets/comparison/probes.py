"""Reads `forgetting_probe` artifacts: whether what was unlearned comes back when the model or the prompt is changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from lwf_assets.comparison.evaluations import LWF, NO_SEED, REFERENCE
from lwf_assets.comparison.records import Curve, CurvePoint, ProbeOutcome

AS_TRAINED, RELEARNING, FORMAT = "as trained", "relearning", "format"


def read_probes(folders: Iterable[Path], forgetting_task: str) -> tuple[list[Curve], list[ProbeOutcome]]:
    """The relearning curves (NLL by step, one a seed, labelled by the model's name) and all other outcomes.

    The outcomes are means over the seeds, LWF and the reference first; "as trained" is relearning's step 0.
    """
    curves: list[Curve] = []
    outcomes: list[ProbeOutcome] = []
    for model, table in sorted(_tables(folders, forgetting_task), key=lambda entry: _place(entry[0])):
        relearning = table[table["probe"] == RELEARNING]
        for seed, of_seed in relearning.groupby("seed"):
            points = [
                CurvePoint(int(step), float(nll))
                for step, nll in sorted(zip(of_seed["step"], of_seed["nll"], strict=True))
            ]
            curves.append(Curve(model, int(str(seed)), points))
        outcomes += _means(model, relearning[relearning["step"] == 0].assign(probe=AS_TRAINED, variant=""))
        outcomes += _means(model, table[table["probe"] != RELEARNING])
    return curves, outcomes


def _tables(folders: Iterable[Path], forgetting_task: str) -> list[tuple[str, pd.DataFrame]]:
    found = []
    for folder in folders:
        key: str = json.loads((folder / "summary.json").read_text())["model"]
        table = pq.read_table(folder / "probe.parquet").to_pandas()
        table = table[table["forgetting_task"] == forgetting_task]
        if len(table):
            table = table.assign(seed=table["seed"].fillna(NO_SEED))
            found.append((key.removesuffix(f".{forgetting_task}"), table))
    return found


def _means(model: str, table: pd.DataFrame) -> list[ProbeOutcome]:
    if table.empty:
        return []
    named = table.assign(variant=table["variant"].fillna("").astype(str))
    means = named.groupby(["probe", "variant"], sort=False)[["nll", "memorised"]].mean()
    return [
        ProbeOutcome(model, str(probe), str(variant), float(row["nll"]), float(row["memorised"]))
        for (probe, variant), row in zip(means.index, means.to_dict("records"), strict=True)
    ]


def _place(model: str) -> int:
    order: Sequence[str] = (LWF, REFERENCE)
    return order.index(model) if model in order else len(order)
