"""Synthetic evaluations, probes, forget sets and ledgers as Parquet, with known effects, for eval_report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from lwf_assets.graph.cells import Cell as GraphCell
from lwf_assets.store.partition import Partition
from lwf_assets.store.tables import write_rows

FORGOTTEN, LEARNED = "dental", "sums"
UTILITY_SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        ("group", pa.string()),
        ("task", pa.string()),
        ("id", pa.string()),
        ("accuracy", pa.float64()),
        ("invalid", pa.float64()),
        ("nll", pa.float64()),
    ]
)
VALIDATION_SCHEMA = pa.schema([("seed", pa.int64()), ("step", pa.int64()), ("nll", pa.float64())])


@dataclass
class Model:
    """One model to write: how much better than the reference it is, and what it is called."""

    key: str
    kind: str
    label: str = ""
    gain: float = 0.0
    """Added to the chance of a right answer, and taken off the NLL of the targets."""
    forgets: float = 0.0
    """Added to the NLL of the samples chosen."""
    forgetting_task: str | None = None
    description: str = ""
    steps: int = 60


@dataclass
class Cell:
    """What is written for one cell, and what `eval_report` sees of it."""

    root: Path
    models: Sequence[Model]
    seeds: Sequence[int] = (0, 1, 2)
    items: int = 40
    samples: int = 24
    chosen: int = 10
    utility: bool = True
    validation: bool = True
    probes: bool = True
    known_conflicts: Sequence[str] = ()
    primary: str = "accuracy"
    text: str = "A cap of gold."
    mixed: bool = False
    levels: Sequence[float] = (1.0, 0.5)
    alpha: float = 3e-5
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def work(self) -> Any:
        """Everything written, as a `Work` for eval_report."""
        base_luck = self.rng.random((len(self.seeds), self.items))
        hardness = self.rng.random(self.items)
        inputs: dict[str, dict[Any, Path]] = {"evaluation": {}, "forgetting_probe": {}}
        for place, model in enumerate(self.models):
            folder = self._folder(f"evaluation-{place}")
            self._evaluation(folder, model, base_luck, hardness)
            inputs["evaluation"][("model", model.key)] = folder
        if self.probes:
            for model in self.models:
                if model.kind in ("lwf", "reference"):
                    folder = self._folder(f"probe-{model.kind}")
                    self._probe(folder, model)
                    inputs["forgetting_probe"][("model", model.key)] = folder
        inputs["scored_forget_set"] = {"cell": self._scored(self._folder("scored"))}
        inputs["lwf_checkpoint"] = {"cell": self._ledger(self._folder("lwf"))}
        return work_of(self, inputs, self._folder("out"))

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _evaluation(self, folder: Path, model: Model, luck: np.ndarray, hardness: np.ndarray) -> None:
        seeds: list[int | None] = [None] if model.kind == "base" else list(self.seeds)
        chance = {"base": 0.15}.get(model.kind, 0.55 + model.gain)
        noise = self.rng.normal(0, 0.02, (len(seeds), self.items))
        items, aggregates = [], []
        for row, seed in enumerate(seeds):
            draw = 0.7 * hardness + 0.3 * luck[row] + noise[row]
            right = (draw < chance).astype(float)
            items += [
                {
                    "seed": seed,
                    "id": f"item-{index:03d}",
                    "prompt": f"{index} + 1 = ?",
                    "answer": str(index % 3),
                    "response": self.text,
                    "extracted": str(index % 3 if right[index] else (index + 1) % 3) if hardness[index] < 0.9 else None,
                    "accuracy": float(right[index]),
                    "invalid": float(hardness[index] >= 0.9),
                    "target_nll": float(1.0 + hardness[index] - model.gain + noise[row, index] + (seed is None) * 1.5),
                }
                for index in range(self.items)
            ]
            aggregates.append({"seed": seed, "accuracy": float(right.mean()), "macro_f1": 0.5 + model.gain})
        write_rows(folder / "items.parquet", items, _with_seed(items))
        trained = model.kind != "base"
        summary = {
            "model": model.key,
            "label": model.label or model.kind,
            "kind": model.kind,
            "description": model.description or f"The arm {model.key}.",
            "forgetting_task": model.forgetting_task,
            "seeds": seeds,
            "steps": model.steps if trained else None,
            "aggregates": aggregates,
            "distance": [
                {"seed": s, "absolute": trained * (3.0 + i / 10), "relative": trained * (0.01 + i / 1000)}
                for i, s in enumerate(seeds)
            ],
        }
        (folder / "summary.json").write_text(json.dumps(summary))
        self._utility_table(folder, model, seeds)
        forgetting = [
            {
                "seed": seed,
                "forgetting_task": FORGOTTEN,
                "sample_id": f"dental-{index:04d}",
                "nll": 1.5 + 0.02 * index + (model.forgets * (1 + jitter(seed, index)) if index < self.chosen else 0.0),
                "memorised": max(0.0, 0.8 - model.forgets / 4 - 0.01 * index),
            }
            for seed in seeds
            for index in range(self.samples)
        ]
        if model.forgetting_task is None:
            # What knows of no forgetting task is measured on the samples of all, whose ids may be the same.
            forgetting += [{**row, "forgetting_task": "stars", "nll": 9.0} for row in forgetting]
        write_rows(folder / "forgetting.parquet", forgetting, _with_seed(forgetting))
        examples = [
            {
                "forgetting_task": FORGOTTEN,
                "prompt_id": f"p{n}",
                "prompt": f"What is {n}? {self.text}",
                "response": self.text,
            }
            for n in range(2)
        ]
        write_rows(folder / "examples.parquet", examples)
        if trained:
            self._curves(folder, model)

    def _utility_table(self, folder: Path, model: Model, seeds: Sequence[int | None]) -> None:
        rows = []
        for seed in seeds if self.utility else ():
            for index in range(12):
                jitter = 0.01 * ((index * 7 + (seed or 0) * 3) % 5)
                rows += [
                    _utility(seed, "neutral", "text", index, None, 2.0 + jitter),
                    _utility(seed, "untouched", "capitals", index, float(index % 3 == 0), 1.0 + jitter),
                    _utility(seed, "forgetting", FORGOTTEN, index, float(index % 2), 1.0 + model.forgets / 2),
                    _utility(seed, "forgetting", "stars", index, 1.0, 7.0),
                ]
        write_rows(folder / "utility.parquet", rows, UTILITY_SCHEMA)

    def _curves(self, folder: Path, model: Model) -> None:
        curve = [
            {
                "seed": seed,
                "step": step,
                "loss": 0.2 + 2.0 * float(np.exp(-step / (14 - 30 * model.gain))) + 0.02 * float(self.rng.normal()),
                "learning_rate": 1e-4,
                "gradient_norm": 1.0,
            }
            for seed in self.seeds
            for step in range(1, model.steps + 1)
        ]
        write_rows(folder / "learning_curves.parquet", curve)
        validation = [
            {"seed": seed, "step": step, "nll": 0.3 + 2 * float(np.exp(-step / (14 - 30 * model.gain + seed / 3)))}
            for seed in (self.seeds if self.validation else ())
            for step in range(0, model.steps + 1, 5)
        ]
        write_rows(folder / "validation_curve.parquet", validation, VALIDATION_SCHEMA)

    def _probe(self, folder: Path, model: Model) -> None:
        start = 1.6 + model.forgets
        rows = []
        for seed in self.seeds:
            for step in range(6):
                rows.append(_probe(seed, "relearning", step, "", 0.5 + (start - 0.5) * 0.6**step, None))
            rows += [_probe(seed, name, None, "", start - 0.1, 0.4) for name in ("int8", "int4")]
            rows.append(_probe(seed, "format", None, f"Please: {self.text}", start - 0.2, 0.3))
        write_rows(folder / "probe.parquet", rows)
        (folder / "summary.json").write_text(json.dumps({"model": model.key, "label": model.label or model.kind}))

    def _scored(self, folder: Path) -> Path:
        rows = []
        for index in range(self.samples):
            linear, quadratic = -2e-3 * (self.samples - index) / self.samples, 60.0 - index / 2
            rows.append(
                {
                    "id": f"dental-{index:04d}",
                    "prompt": f"What is {index}? {self.text}",
                    "response": self.text,
                    "prompt_ids": [1, 2],
                    "response_ids": [3, 4],
                    **({"source_task": "old" if index % 4 == 0 or index < 5 else "new"} if self.mixed else {}),
                    "constant": 2.3e-3,
                    "linear": linear,
                    "quadratic": quadratic,
                    "gradient_norm": 8.0 + (index * 5) % 7,
                    "nll": 1.5 + 0.02 * index,
                    "tokens": 12 + (index * 11) % 30,
                    "forgetting_confidence": 2.3e-3 - self.alpha * linear + self.alpha**2 * quadratic,
                    "rank": index + 1,
                    "selected": index < self.chosen,
                }
            )
        write_rows(folder / "scored_forget_set.parquet", rows)
        return folder

    def _ledger(self, folder: Path) -> Path:
        for seed in self.seeds:
            (folder / f"seed-{seed}").mkdir(exist_ok=True)
            rows = [
                {
                    "step": step,
                    "sample_id": f"dental-{(step // 5 + offset) % self.chosen:04d}",
                    "nll_before": 1.5 + step / 30,
                    "nll_after": 1.7 + step / 30,
                    "pushed": step < 55,
                    "update_norm": 0.1,
                }
                for step in range(5, 61, 5)
                for offset in range(4)
            ]
            write_rows(folder / f"seed-{seed}" / "unlearning_ledger.parquet", rows)
        return folder


def usual_models(*, lwf_gain: float = 0.0, arms: int = 3) -> list[Model]:
    """Base, reference, LWF and some arms; only the first arm has an effect of its own."""
    models = [
        Model("base", "base"),
        Model("reference", "reference"),
        Model(f"lwf.{FORGOTTEN}", "lwf", gain=lwf_gain, forgets=1.2, forgetting_task=FORGOTTEN),
    ]
    kinds = [
        Model(f"npo.{FORGOTTEN}", "npo", gain=0.2, forgets=0.5, forgetting_task=FORGOTTEN, label="npo"),
        Model("bss", "bss", label="bss"),
        Model("extra_steps", "extra_steps", label="extra steps", steps=80),
        Model(f"low.{FORGOTTEN}", "selection", forgets=0.4, forgetting_task=FORGOTTEN, label="low end"),
        Model(
            f"random_tokens.{FORGOTTEN}", "random_tokens", gain=-0.2, forgetting_task=FORGOTTEN, label="random tokens"
        ),
        Model("l2_sp", "l2_sp", label="L2-SP"),
        Model("weight_decay", "weight_decay", label="weight decay"),
    ]
    return models + kinds[:arms]


def work_of(cell: Cell, folders: dict[str, dict[Any, Path]], out: Path) -> Any:
    """The part of `Work` that eval_report reads."""
    evaluation = SimpleNamespace(
        primary_measure=cell.primary,
        learning_levels=tuple(cell.levels),
        least_seeds=3,
        known_conflicts=tuple(cell.known_conflicts),
    )
    study = SimpleNamespace(
        name="synthetic",
        alpha=cell.alpha,
        seeds=tuple(cell.seeds),
        evaluation=evaluation,
        model=SimpleNamespace(adapter=None),
        confidence_space=None,
    )
    inputs = {
        GraphCell(asset, _partition(key)): SimpleNamespace(path=folder, version=f"version of {folder.name}")
        for asset, by_key in folders.items()
        for key, folder in by_key.items()
    }
    return SimpleNamespace(study=study, partition=Partition(FORGOTTEN, LEARNED), inputs=inputs, out=out)


def _partition(key: Any) -> Partition:
    is_model = isinstance(key, tuple)
    return Partition(learning_task=LEARNED, model=key[1]) if is_model else Partition(FORGOTTEN, LEARNED)


def jitter(seed: int | None, index: int) -> float:
    """A little that differs between seeds and samples, always the same."""
    return 0.0 if seed is None else 0.05 * ((7 * seed + 3 * index) % 5 - 2)


def _utility(seed: int | None, group: str, task: str, index: int, accuracy: float | None, nll: float) -> dict[str, Any]:
    invalid = None if accuracy is None else 0.0
    return {
        "seed": seed,
        "group": group,
        "task": task,
        "id": f"u{index}",
        "accuracy": accuracy,
        "invalid": invalid,
        "nll": nll,
    }


def _probe(
    seed: int, probe: str, step: int | None, variant: str, nll: float, memorised: float | None
) -> dict[str, Any]:
    return {
        "seed": seed,
        "forgetting_task": FORGOTTEN,
        "probe": probe,
        "step": step,
        "variant": variant,
        "nll": nll,
        "memorised": memorised,
    }


def _with_seed(rows: Sequence[dict[str, Any]]) -> pa.Schema:
    """The schema of the rows with whole-numbered seeds, also where all are null."""
    schema = pa.Table.from_pylist(list(rows)).schema
    return schema.set(schema.get_field_index("seed"), pa.field("seed", pa.int64()))
