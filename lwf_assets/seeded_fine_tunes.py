"""One fine-tune of the base model on D_L per seed: what the reference and the LWF checkpoint have in common."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwf_assets import learning_data
from lwf_assets.tables import write_rows

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from lwf_assets.work import Work

CURVES = "learning_curves.parquet"
SEEDS = "seeds.json"

Callbacks = Callable[[int], Sequence["TrainerCallback"]]
"""The callbacks of the fine-tune with the given seed."""
Keep = Callable[[Path, Sequence["TrainerCallback"]], None]
"""Writes what the callbacks gathered into the finished seed's folder."""


def seed_folder(checkpoint: Path, seed: int) -> Path:
    """The model directory of one seed in a reference or LWF checkpoint."""
    return checkpoint / f"seed-{seed}"


def seeds_of(checkpoint: Path) -> list[int]:
    """The seeds of a checkpoint, in the study's order."""
    return [entry["seed"] for entry in json.loads((checkpoint / SEEDS).read_text())]


def fine_tune_per_seed(work: Work, callbacks: Callbacks, keep: Keep, *, label: str) -> dict[str, Any]:
    """Train every seed into `work.out`: a model directory each, the loss curves, and the validation NLL before and
    after.

    A seed that is finished stays in scratch until all are, so that a killed run trains none of them twice.
    """
    outcomes = []
    for seed in work.study.seeds:
        finished = work.scratch / f"finished-{seed}"
        if not finished.exists():
            _fine_tune_one(work, seed, finished, callbacks, keep, label=label)
        outcome = json.loads((finished / "outcome.json").read_text())
        outcomes.append(outcome)
        # Hard links: the finished seed stays in scratch, and nothing is copied.
        shutil.copytree(finished / "model", seed_folder(work.out, seed), copy_function=os.link)
    points = [{"seed": outcome["seed"], **point} for outcome in outcomes for point in outcome["curve"]]
    write_rows(work.out / CURVES, points)
    figures = [{key: value for key, value in outcome.items() if key != "curve"} for outcome in outcomes]
    (work.out / SEEDS).write_text(json.dumps(figures, indent=2) + "\n")
    return {
        "seeds": len(outcomes),
        "steps": outcomes[0]["curve"][-1]["step"],
        "precision": outcomes[0]["precision"],
        "first_loss": _mean(outcome["curve"][0]["loss"] for outcome in outcomes),
        "last_loss": _mean(outcome["curve"][-1]["loss"] for outcome in outcomes),
        "validation_nll_before": _mean(outcome["validation_nll_before"] for outcome in outcomes),
        "validation_nll_after": _mean(outcome["validation_nll_after"] for outcome in outcomes),
    }


def _fine_tune_one(work: Work, seed: int, finished: Path, callbacks: Callbacks, keep: Keep, *, label: str) -> None:
    from lwf_assets.engine.checkpoint import load_model, load_tokenizer, save_model
    from lwf_assets.engine.loss import negative_log_likelihoods
    from lwf_assets.engine.precision import use_bfloat16
    from lwf_assets.engine.training import fine_tune

    base = work.input("base_model")
    model, tokenizer = load_model(base), load_tokenizer(base)
    train = learning_data.encode_rows(work, work.input("learning_data") / learning_data.TRAIN, model, tokenizer)
    validation = learning_data.encode_rows(
        work, work.input("learning_data") / learning_data.VALIDATION, model, tokenizer
    )
    before = negative_log_likelihoods(model, validation)
    training = work.scratch / f"training-{seed}"
    used = callbacks(seed)
    curve = fine_tune(
        model,
        train,
        work.study.training,
        seed=seed,
        folder=training,
        pad_id=tokenizer.pad_token_id,
        callbacks=used,
        progress=work.progress,
        label=f"{label}, seed {seed}" if len(work.study.seeds) > 1 else label,
    )
    after = negative_log_likelihoods(model, validation)
    unfinished = finished.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    save_model(model, tokenizer, unfinished / "model")
    keep(unfinished / "model", used)
    outcome = {
        "seed": seed,
        "validation_nll_before": _mean(before),
        "validation_nll_after": _mean(after),
        "precision": "bfloat16 autocast" if use_bfloat16(work.study.training.autocast, model.device) else "full",
        "curve": [asdict(point) for point in curve],
    }
    (unfinished / "outcome.json").write_text(json.dumps(outcome))
    unfinished.rename(finished)
    shutil.rmtree(training, ignore_errors=True)


def _mean(values: Any) -> float | None:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers and None not in numbers else None
