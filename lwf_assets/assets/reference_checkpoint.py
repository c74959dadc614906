"""Asset reference_checkpoint: the vanilla fine-tune on D_L, per seed: the baseline, and where theta_L* is read off.

How the paper approximates theta_L* is not known. The study names one of three: the end of the first seed's fine-tune,
its state after some steps, or the base model after one step along the gradient averaged over D_L.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from lwf_assets.disk.sums import SUMS, is_as_summed, write_sums
from lwf_assets.engine import processes
from lwf_assets.engine.checkpoint import save_weights
from lwf_assets.engine.mean_gradient import step_along_mean_gradient
from lwf_assets.engine.sharding import whole_model
from lwf_assets.errors import LwfError
from lwf_assets.fine_tuning.per_seed import Treatment, begin_seed_anew, fine_tune_per_seed
from lwf_assets.fine_tuning.starting_model import starting_model
from lwf_assets.graph.work import encode_rows
from lwf_assets.store.layout import OPTIMUM, TRAIN_ROWS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Fine-tune each seed, and write theta_L* where it is not simply the end of the first."""
    from lwf_assets.engine.checkpoint import load_tokenizer

    reference = work.study.reference
    first, early = work.study.seeds[0], work.scratch / OPTIMUM

    def treat(seed: int, model: PreTrainedModel) -> Treatment:
        if reference.steps is None or seed != first:
            return Treatment()
        return Treatment((_SaveAt(reference.steps, early, base=work.name_of(work.input("base_model"))),))

    together = processes.here()
    if reference.optimum == "steps" and together.of_first(not is_as_summed(early)):
        begin_seed_anew(work, first)  # a killed run that had passed the step would not come by it again
    summary = fine_tune_per_seed(work, treat, label="Reference fine-tune")
    if reference.optimum == "steps":
        if not is_as_summed(early):
            raise LwfError(
                f"reference.steps: {reference.steps} is more than the {summary['steps']} steps of the training"
            )
        shutil.copytree(early, work.out / OPTIMUM, copy_function=os.link, ignore=shutil.ignore_patterns(SUMS))
        load_tokenizer(work.input("base_model")).save_pretrained(work.out / OPTIMUM)
    elif reference.optimum == "gradient_step":
        _gradient_step(work)
    return {**summary, "optimum": reference.optimum}


class _SaveAt(TrainerCallback):  # type: ignore[misc]
    """Saves the model after one given step."""

    def __init__(self, step: int, folder: Path, *, base: str) -> None:
        self.step = step
        self.folder = folder
        self.base = base

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: PreTrainedModel, **kwargs: Any) -> None:
        if state.global_step != self.step:
            return
        model = whole_model(model)
        if state.is_world_process_zero:
            unfinished = self.folder.with_suffix(".unfinished")
            save_weights(model, unfinished, base=self.base)
            write_sums(unfinished)
            shutil.rmtree(self.folder, ignore_errors=True)
            unfinished.rename(self.folder)


def _gradient_step(work: Work) -> None:
    from lwf_assets.engine.checkpoint import load_tokenizer, save_model

    base = work.input("base_model")
    model, tokenizer = starting_model(work.study, base, work.study.seeds[0]), load_tokenizer(base)
    samples = encode_rows(work, work.input("learning_data") / TRAIN_ROWS, model, tokenizer)
    step_along_mean_gradient(
        model, samples, length=work.study.training.learning_rate, token_budget=work.study.model.token_budget
    )
    if processes.here().is_first:
        save_model(model, tokenizer, work.out / OPTIMUM, base=work.name_of(base))
