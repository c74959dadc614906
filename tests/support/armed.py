"""A tiny study with arms of every kind, priors, neutral text and probes; made in a store, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from tiny import tiny_study_values, write_prompts, write_study
from torch import Tensor

from lwf_assets.building.materialize import materialize
from lwf_assets.engine.samples import Sample
from lwf_assets.graph.cells import Cell, cells, inputs_of
from lwf_assets.graph.table import ASSET
from lwf_assets.graph.work import Work
from lwf_assets.store.layout import read_ledger
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact, Store
from lwf_assets.store.tables import read_rows
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study

SEEDS = (0, 3)
PASSAGES = ["Birds sing in the morning.", "A stone lies by the road."]
FORMS = ["{prompt}\n", "Well: {prompt}"]

_LWF = {"kind": "lwf", "forgetting_tasks": ["teeth"]}
ARMS: dict[str, Any] = {
    "low": {**_LWF, "confidence": {"end": "low"}},
    "drawn": {**_LWF, "confidence": {"end": "random", "seed": 5}},
    "steep": {**_LWF, "confidence": {"alpha": 50.0, "selection_count": 2}},
    "upfront": {**_LWF, "unlearning": {"timing": "upfront"}},
    "npo": {**_LWF, "unlearning": {"objective": "npo"}},
    "simnpo": {**_LWF, "unlearning": {"objective": "simnpo"}},
    "retaining": {**_LWF, "unlearning": {"retain": {"kind": "kl"}}},
    "tokens": {"kind": "random_tokens", "forgetting_tasks": ["teeth"]},
    "noise": {"kind": "weight_noise", "forgetting_tasks": ["teeth"]},
    "longer": {"kind": "extra_steps"},
    "bss": {"kind": "bss", "weight": 0.1},
    "l2_sp": {"kind": "l2_sp", "weight": 0.1},
    "decay": {"kind": "weight_decay"},
    "taught": {"kind": "other_base", "prior": "letters"},
}


def armed_values(folder: Path) -> dict[str, Any]:
    """The tiny study with all that a study may have; its learning task is also one of the forgetting tasks."""
    values = tiny_study_values(folder)
    write_prompts(folder / "teeth.jsonl", "teeth", count=12)
    passages = [json.dumps({"id": f"p{number}", "text": text}) for number, text in enumerate(PASSAGES)]
    (folder / "neutral.jsonl").write_text("\n".join(passages))
    rows = {"train": 4, "validation": 1, "test": 3}
    few = {"preset": "letter_counting", "rows": {**rows, "train": 16}, "max_new_tokens": 2}
    taught = {"max_steps": 4, "batch_size": 4, "learning_rate": 0.01, "autocast": "off"}
    del values["forgetting_tasks"]["minds"]
    values["forgetting_tasks"]["sums"] = {"preset": "chain_sum", "rows": rows, "max_new_tokens": 2}
    values["training"]["validate_every"] = 3
    return {
        **values,
        "mixed": True,
        "seeds": list(SEEDS),
        "model": {**values["model"], "prior": "legs"},
        "priors": {
            "legs": {"tasks": {"old": {**few, "preset": "leg_counting"}}, "training": taught},
            "letters": {"tasks": {"old": few}, "training": taught, "seed": 1},
        },
        "evaluation": {
            "response_examples": 4,
            "neutral_text": "neutral.jsonl",
            "untouched_tasks": {"letters": few},
        },
        "probe": {
            "models": ["reference", "lwf"],
            "relearning_steps": 2,
            "relearning_rate": 0.001,
            "relearning_batch_size": 2,
            "prompt_forms": FORMS,
        },
        "arms": ARMS,
    }


@dataclass(frozen=True)
class Armed:
    """The study and the store in which everything up to the probes is made. Only to be read."""

    folder: Path
    study: Study
    store: Store

    def artifact(self, asset: str, key: str | None = None) -> Artifact:
        """The artifact of the partition that is written `key`."""
        cell = self.cell(asset, key)
        artifact = self.store.current(cell.asset, cell.partition)
        assert artifact is not None
        return artifact

    def path(self, asset: str, key: str | None = None) -> Path:
        """Its folder."""
        return self.artifact(asset, key).path

    def arm(self, name: str) -> Path:
        """The checkpoint of an arm, of teeth where there is one for each forgetting task."""
        one_for_each = getattr(self.study.arms[name], "per_forgetting_task")  # noqa: B009
        return self.path("arm_checkpoint", f"{name}.teeth|sums" if one_for_each else f"{name}|sums")

    def evaluation(self, model: str, table: str) -> list[dict[str, Any]]:
        """The rows of one table of a model's evaluation."""
        return read_rows(self.path("evaluation", f"sums|{model}") / f"{table}.parquet")

    def ledger(self, checkpoint: Path, seed: int | None = None) -> list[dict[str, Any]]:
        """The ledger of one seed, or of all."""
        return read_ledger(checkpoint, SEEDS if seed is None else [seed])

    def work(self, asset: str, key: str, out: Path) -> Work:
        """What the cell is made with, to make it again in `out`."""
        cell = self.cell(asset, key)
        inputs = {c: self.store.current(c.asset, c.partition) for c in inputs_of(self.study, cell)}
        for name in ("out", "scratch"):
            (out / name).mkdir(parents=True)
        found = {c: artifact for c, artifact in inputs.items() if artifact is not None}
        assert found.keys() == inputs.keys()
        return Work(self.study, cell.partition, found, out / "out", out / "scratch")

    def cell(self, asset: str, key: str | None = None) -> Cell:
        """The cell that is written `asset[key]`."""
        names = dict(zip(ASSET[asset].dimensions, key.split("|") if key else (), strict=True))
        return Cell(asset, Partition(**names))


EVALUATED = ("base", "reference", "lwf.teeth", "lwf.mixed", "low.teeth", "npo.teeth", "tokens.teeth", "bss", "taught")
"""The models whose evaluations the tests look at."""


def make_armed(folder: Path) -> None:
    """Make every cell but the reports and the other models' evaluations."""
    write_study(folder, armed_values(folder))
    made = open_armed(folder)
    for cell in cells(made.study):
        skipped = cell.asset == "evaluation" and cell.partition.model not in EVALUATED
        if not skipped and cell.asset not in ("eval_report", "leaderboard"):
            materialize(made.study, made.store, cell)


def open_armed(folder: Path) -> Armed:
    """What `make_armed` made there."""
    return Armed(folder, load_study(folder / "study.yaml"), Store(folder / "store"))


def weights(checkpoint: Path, seed: int = SEEDS[0]) -> dict[str, Tensor]:
    """The weights of one seed."""
    loaded: dict[str, Tensor] = load_file(checkpoint / f"seed-{seed}" / "model.safetensors")
    return loaded


def furthest(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest difference between two models in any weight."""
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def samples_of(rows: Sequence[dict[str, Any]]) -> list[Sample]:
    """Rows of a corpus or of a forget set as samples."""
    return [Sample(row["prompt_ids"], row["response_ids"]) for row in rows]
