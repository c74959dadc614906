"""One fine-tune on D_L per seed: what the reference, the LWF checkpoint and all arms have in common."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwf_assets.disk.sums import is_as_summed, write_sums
from lwf_assets.fine_tuning.starting_model import starting_model
from lwf_assets.graph.work import encode_rows
from lwf_assets.statistics.means import mean
from lwf_assets.store.layout import (
    LEARNING_CURVES,
    SEEDS,
    TRAIN_ROWS,
    VALIDATION_CURVE,
    VALIDATION_ROWS,
    VALIDATION_SCHEMA,
    seed_folder,
)
from lwf_assets.store.tables import write_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

    from lwf_assets.engine.processes import Processes
    from lwf_assets.engine.training.penalties import Penalty
    from lwf_assets.graph.work import Work
    from lwf_assets.study.sections import TrainingSettings


def _keep_nothing(folder: Path) -> None:
    """For fine-tunes of which only the model is kept."""


@dataclass(frozen=True)
class Treatment:
    """What the fine-tune of one seed has in addition to the plain one. `keep` writes what was gathered into the
    finished model's folder."""

    callbacks: tuple[TrainerCallback, ...] = ()
    penalty: Penalty | None = None
    keep: Callable[[Path], None] = _keep_nothing


def _plain(seed: int, model: PreTrainedModel) -> Treatment:
    return Treatment()


Treat = Callable[[int, "PreTrainedModel"], Treatment]
"""The treatment of one seed, from the seed and the model before its first step."""


def fine_tune_per_seed(
    work: Work,
    treat: Treat = _plain,
    *,
    label: str,
    base: Path | None = None,
    training: TrainingSettings | None = None,
) -> dict[str, Any]:
    """Train every seed into `work.out`: a model directory each, the curves, and the validation NLL before and after.

    A seed that is finished stays in scratch until all are, so that a killed run trains none of them twice.

    Args:
        work: the cell, whose learning task is learned.
        treat: what each fine-tune has in addition to the plain one.
        label: name of the phase for progress displays.
        base: the model directory to start from; by default the study's base model.
        training: by default the study's.
    """
    base, training = base or work.input("base_model"), training or work.study.training
    together = _together()
    outcomes = []
    for seed in work.study.seeds:
        finished, _ = _scratch_of(work, seed)
        if not together.of_first(together.is_first and is_as_summed(finished)):
            if together.is_first:
                shutil.rmtree(finished, ignore_errors=True)
            phase = f"{label}, seed {seed}" if len(work.study.seeds) > 1 else label
            _fine_tune_one(work, seed, finished, treat, base, training, label=phase)
        outcome = json.loads((finished / "outcome.json").read_text())
        outcomes.append(outcome)
        # Hard links: the finished seed stays in scratch, and nothing is copied.
        shutil.copytree(finished / "model", seed_folder(work.out, seed), copy_function=os.link)
    points = [{"seed": outcome["seed"], **point} for outcome in outcomes for point in outcome["curve"]]
    write_rows(work.out / LEARNING_CURVES, points)
    validated = [
        {"seed": outcome["seed"], "step": step, "nll": nll}
        for outcome in outcomes
        for step, nll in outcome["validated"]
    ]
    write_rows(work.out / VALIDATION_CURVE, validated, VALIDATION_SCHEMA)
    figures = [{k: v for k, v in outcome.items() if k not in ("curve", "validated")} for outcome in outcomes]
    (work.out / SEEDS).write_text(json.dumps(figures, indent=2) + "\n")
    return {
        "seeds": len(outcomes),
        "steps": outcomes[0]["curve"][-1]["step"],
        "precision": outcomes[0]["precision"],
        "first_loss": mean(outcome["curve"][0]["loss"] for outcome in outcomes),
        "last_loss": mean(outcome["curve"][-1]["loss"] for outcome in outcomes),
        "validation_nll_before": mean(outcome["validation_nll_before"] for outcome in outcomes),
        "validation_nll_after": mean(outcome["validation_nll_after"] for outcome in outcomes),
    }


def begin_seed_anew(work: Work, seed: int) -> None:
    """Throw away what a killed run left of one seed."""
    if _together().is_first:
        for folder in _scratch_of(work, seed):
            shutil.rmtree(folder, ignore_errors=True)


def _together() -> Processes:
    from lwf_assets.engine import processes

    return processes.here()


def _scratch_of(work: Work, seed: int) -> tuple[Path, Path]:
    """Where the finished seed is, and where its training goes on."""
    return work.scratch / f"finished-{seed}", work.scratch / f"training-{seed}"


def _fine_tune_one(
    work: Work, seed: int, finished: Path, treat: Treat, base: Path, training: TrainingSettings, *, label: str
) -> None:
    from lwf_assets.engine.checkpoint import load_tokenizer, save_model
    from lwf_assets.engine.loss import negative_log_likelihoods
    from lwf_assets.engine.precision import use_bfloat16
    from lwf_assets.engine.sharding import whole_model
    from lwf_assets.engine.training.fine_tune import fine_tune
    from lwf_assets.engine.training.validation_curve import ValidationCurve

    model, tokenizer = starting_model(work.study, base, seed), load_tokenizer(base)
    tables = work.input("learning_data")
    train = encode_rows(work, tables / TRAIN_ROWS, model, tokenizer)
    validation = encode_rows(work, tables / VALIDATION_ROWS, model, tokenizer)
    token_budget = work.study.model.token_budget
    before = negative_log_likelihoods(model, validation, token_budget=token_budget)
    _, folder = _scratch_of(work, seed)
    treatment = treat(seed, model)
    watched = []
    if training.validate_every is not None and validation:
        watched = [
            ValidationCurve(
                validation,
                every=training.validate_every,
                token_budget=token_budget,
                on_point=lambda step, nll: work.progress.metrics(step, {"learning/validation_nll": nll}),
            )
        ]
    curve = fine_tune(
        model,
        train,
        **training.arguments(),
        seed=seed,
        folder=folder,
        pad_id=tokenizer.pad_token_id,
        callbacks=[*treatment.callbacks, *watched],
        progress=work.progress,
        label=label,
        penalty=treatment.penalty,
        sharded=work.study.compute.strategy == "fsdp",
    )
    model = whole_model(model)
    after = negative_log_likelihoods(model, validation, token_budget=token_budget)
    together = _together()
    if not together.is_first:
        together.wait()  # until the first has written it
        return
    unfinished = finished.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    save_model(model, tokenizer, unfinished / "model", base=work.name_of(base))
    treatment.keep(unfinished / "model")
    outcome = {
        "seed": seed,
        "validation_nll_before": mean(before),
        "validation_nll_after": mean(after),
        "precision": "bfloat16 autocast" if use_bfloat16(training.autocast, model.device) else "full",
        "curve": [asdict(point) for point in curve],
        "validated": [point for callback in watched for point in callback.points],
    }
    (unfinished / "outcome.json").write_text(json.dumps(outcome))
    write_sums(unfinished)
    unfinished.rename(finished)
    shutil.rmtree(folder, ignore_errors=True)
    together.wait()
