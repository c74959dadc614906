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

from lwf_assets.assets import learning_data
from lwf_assets.errors import LwfError
from lwf_assets.fine_tuning.per_seed import Treatment, fine_tune_per_seed, seed_folder, seeds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from lwf_assets.engine.samples import Sample
    from lwf_assets.graph.work import Work

OPTIMUM = "optimum"


def optimum(checkpoint: Path) -> Path:
    """The model directory of theta_L* in a reference checkpoint."""
    own = checkpoint / OPTIMUM
    return own if own.is_dir() else seed_folder(checkpoint, seeds_of(checkpoint)[0])


def materialize(work: Work) -> dict[str, Any]:
    """Fine-tune each seed, and write theta_L* where it is not simply the end of the first."""
    from lwf_assets.engine.checkpoint import load_tokenizer

    reference = work.study.reference
    first, early = work.study.seeds[0], work.scratch / OPTIMUM

    def treat(seed: int, model: PreTrainedModel) -> Treatment:
        if reference.steps is None or seed != first:
            return Treatment()
        return Treatment((_SaveAt(reference.steps, early),))

    summary = fine_tune_per_seed(work, treat, label="Reference fine-tune")
    if reference.optimum == "steps":
        if not early.is_dir():
            raise LwfError(
                f"reference.steps: {reference.steps} is more than the {summary['steps']} steps of the training"
            )
        shutil.copytree(early, work.out / OPTIMUM, copy_function=os.link)
        load_tokenizer(work.input("base_model")).save_pretrained(work.out / OPTIMUM)
    elif reference.optimum == "gradient_step":
        _gradient_step(work)
    return {**summary, "optimum": reference.optimum}


class _SaveAt(TrainerCallback):  # type: ignore[misc]
    """Saves the model after one given step."""

    def __init__(self, step: int, folder: Path) -> None:
        self.step = step
        self.folder = folder

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: PreTrainedModel, **kwargs: Any) -> None:
        if state.global_step == self.step:
            unfinished = self.folder.with_suffix(".unfinished")
            model.save_pretrained(unfinished)
            shutil.rmtree(self.folder, ignore_errors=True)
            unfinished.rename(self.folder)


def _gradient_step(work: Work) -> None:
    from lwf_assets.engine.checkpoint import load_model, load_tokenizer, save_model

    base = work.input("base_model")
    model, tokenizer = load_model(base), load_tokenizer(base)
    samples = learning_data.encode_rows(work, work.input("learning_data") / learning_data.TRAIN, model, tokenizer)
    step_along_mean_gradient(
        model, samples, length=work.study.training.learning_rate, token_budget=work.study.model.token_budget
    )
    save_model(model, tokenizer, work.out / OPTIMUM)


def step_along_mean_gradient(
    model: PreTrainedModel, samples: Sequence[Sample], *, length: float, token_budget: int
) -> None:
    """Move the weights by -length * (gradient of the mean sample loss), in place."""
    import torch

    from lwf_assets.engine.loss import sample_losses
    from lwf_assets.engine.samples import batches_by_length, collate

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    mean = [torch.zeros_like(parameter) for parameter in parameters]
    for indices in batches_by_length(samples, token_budget):
        loss = sample_losses(model, collate([samples[index] for index in indices]).to(model.device)).sum()
        for total, gradient in zip(
            mean, torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True), strict=True
        ):
            total.add_(gradient, alpha=1 / len(samples))
    with torch.no_grad():
        for parameter, gradient in zip(parameters, mean, strict=True):
            parameter.sub_(gradient, alpha=length)
