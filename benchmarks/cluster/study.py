"""A large study as work for a cluster: how long each cell takes, what it reads, and what it leaves."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import mean, median
from typing import Any

import yaml

from benchmarks.cluster.planner import ManifestsAlone
from benchmarks.cluster.simulation import Work
from benchmarks.load import ROOT, large_study
from benchmarks.plan import FULL, Size
from benchmarks.problem import mixed_lengths
from lwf_assets.cost.disk_space import SMALL, disk_space_of
from lwf_assets.cost.flops import generation, gradients, training
from lwf_assets.cost.model_size import ModelFacts, read_facts
from lwf_assets.cost.row_counts import Amount
from lwf_assets.disk.hashes import hash_file
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, cells, inputs_of, needs_of
from lwf_assets.graph.table import ASSET
from lwf_assets.planning.forecast import foresee
from lwf_assets.planning.plan import make_plan
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.store import Store
from lwf_assets.study.file import load_study
from lwf_assets.study.sections import TrainingSettings
from lwf_assets.study.study import Study


@dataclass(frozen=True)
class ModelSize(Size):
    """A Llama's size; `tied`: its head is its embedding."""

    tied: bool = True


MEASURED = ModelSize(**asdict(next(size for size in FULL.sizes if size.name == "135M")))
"""The model of docs/performance.json."""

_AMOUNTS: dict[str, Any] = {
    "generation": {"max_new_tokens": 128, "batch_size": 64},
    "training": {"epochs": 3, "batch_size": 8, "gradient_accumulation": 2},
    "fisher": {"samples": 512},
    "seeds": [0, 1, 2],
}
"""As much of everything as the study of the paper has (studies/paper_llama3.2_1b.yaml), but for three seeds."""


def write_large_study(folder: Path, side: int, model: ModelSize, dtype: str) -> Study:
    """The study of `large_study`, with the amounts of a real one, on a model of which there is a config and the header
    of its weights."""
    _write_model(folder / "model", model)
    values = large_study(folder, side) | _AMOUNTS
    values["model"]["dtype"] = dtype
    for task in values["learning_tasks"].values():
        task["rows"] = {"train": 4000, "validation": 200, "test": 1000}
    for task in values["forgetting_tasks"].values():
        task["rows"] = {"train": 500, "test": 200}
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    return load_study(folder / "study.yaml")


def _write_model(folder: Path, size: ModelSize) -> None:
    sys.path[:0] = [str(ROOT / "tests" / "support")]
    from header_models import write_header_model

    hidden, narrow = size.hidden, size.hidden // size.heads * size.key_value_heads
    layer = [[hidden, 2 * hidden + 2 * narrow + 3 * size.intermediate + 2]]  # attention, MLP, two norms
    config = {
        "hidden_size": hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_value_heads,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": size.tied,
    }
    ends = [[size.vocabulary, hidden]] * (1 if size.tied else 2)
    write_header_model(folder, *ends, *(layer * size.layers), [hidden], config=config)


@dataclass(frozen=True)
class Earlier:
    """What was measured before: manifests of work with a model, for the forecast, and the seconds of a cell without."""

    manifests: list[Manifest]
    without_model: float


def measured_before(performance: Mapping[str, Any], folder: Path) -> Earlier:
    """The measured sections of docs/performance.json, as the planner's forecast reads earlier work.

    Args:
        performance: the sections; `race`, `training`, `generation` and `orchestration` are read.
        folder: for the measured model's config.
    """
    _write_model(folder, MEASURED)
    facts = read_facts(folder, "float32")
    assert facts is not None
    race, fit = performance["race"]["data"], performance["training"]["data"]
    fisher = next(row for row in race["workloads"][0]["rows"] if row["key"] == "ours_fisher")
    lengths = mixed_lengths(race["workloads"][0]["samples"], 64, 128)
    settings = TrainingSettings(max_steps=fit["counted_steps"], batch_size=fit["batch"])
    answers = performance["generation"]["data"]
    whole = performance["orchestration"]["data"]
    return Earlier(
        [
            _timed("fisher_diagonal", gradients(facts, _rows(mean(lengths)), len(lengths)), median(fisher["seconds"])),
            _timed("reference_checkpoint", _fit_work(settings, facts, fit["tokens"]), median(fit["plain_seconds"])),
            _timed(
                "self_generated_corpus",
                generation(facts, answers["prompts"], mean(answers["prompt_tokens"]), answers["new_tokens"], 8),
                median(answers["rows"][-1]["seconds"]),
            ),
        ],
        whole["work_seconds"] / whole["assets"],
    )


def built_before(store: Store) -> Earlier:
    """The same from the manifests of what was built in a store."""
    manifests = [m for m in store.manifests() if m.provenance.get("wall_seconds") is not None]
    quick = [m.provenance["wall_seconds"] for m in manifests if m.asset in ASSET and not ASSET[m.asset].uses_model]
    if not quick or len(quick) == len(manifests):
        raise LwfError(f"{store.root}: no built study; its manifests are to say how long cells take")
    return Earlier(manifests, median(quick))


def _fit_work(settings: TrainingSettings, facts: ModelFacts, tokens: int) -> float:
    steps = training(settings, facts, _rows(tokens), _rows(tokens, rows=0))
    assert steps is not None
    return steps


def _rows(tokens: float, rows: int | None = None) -> Amount:
    """Rows of the benchmark: there is loss on their last third."""
    return Amount(rows, tokens * 2 / 3, tokens / 3, tokens, False)


def _timed(asset: str, work: float, seconds: float) -> Manifest:
    provenance = {"work": work, "wall_seconds": seconds, "resumed": False, "device": "cpu"}
    return Manifest(asset, None, "", "", "", {}, (), (), provenance=provenance)


def work_of(study: Study, folder: Path, earlier: Earlier, speed: float) -> dict[str, Work]:
    """Every cell of the study, each after all that it needs: its seconds by the planner's own forecast for an empty
    home, on devices that are `speed` times as fast as the measured one; its bytes by what it surely writes.

    A cell that computes with no model takes the same everywhere, and of checkpoints it reads their tables alone.
    """
    store = ManifestsAlone(folder / "empty", earlier.manifests)
    foresight = foresee(study, store, make_plan(study, store, cache(hash_file)))
    sizes = {cell: disk_space_of(study, cell, lambda other: None).kept for cell in cells(study)}

    def of(cell: Cell) -> Work:
        seconds = foresight.steps[cell].seconds if cell.spec.uses_model else None
        read = [other for other in inputs_of(study, cell) if cell.spec.uses_model or sizes[other] <= SMALL]
        return Work(
            earlier.without_model if seconds is None else seconds / speed,
            tuple(str(other) for other in read),
            tuple(str(other) for other in needs_of(study, cell)),
            sizes[cell],
        )

    return {str(cell): of(cell) for cell in cells(study)}
