"""Asset fisher_diagonal: the diagonal of the empirical Fisher information of D_L at theta_L*.

The numerics are in `lwf_assets/engine/fisher.py`. With adapters it is over what `confidence.space` says: the weights
that carry one, which are frozen and named as in the base, or the adapter's own parameters.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from lwf_assets.graph.work import encode_rows
from lwf_assets.store.layout import FISHER_DIAGONAL, TRAIN_ROWS, optimum_folder

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Write the Fisher diagonal of the learning task at its reference optimum."""
    from safetensors.torch import save_file

    from lwf_assets.engine import processes
    from lwf_assets.engine.adapter import base_name
    from lwf_assets.engine.checkpoint import load_model, load_tokenizer
    from lwf_assets.engine.fisher import fisher_diagonal
    from lwf_assets.fine_tuning.confidence_space import parameters_of_space

    settings = work.study.fisher
    path = optimum_folder(work.input("reference_checkpoint"))
    model = load_model(path, work.base_of("reference_checkpoint"))
    samples = encode_rows(work, work.input("learning_data") / TRAIN_ROWS, model, load_tokenizer(path))
    if settings.samples is not None and settings.samples < len(samples):
        samples = random.Random(settings.seed).sample(samples, settings.samples)
    work.progress.begin("Fisher information", len(samples))
    fisher = fisher_diagonal(
        model,
        samples,
        only=parameters_of_space(model, work.study.confidence_space),
        reduction=settings.loss_reduction,
        token_budget=work.study.model.token_budget,
        progress=work.progress,
    )
    fisher = {base_name(name): value for name, value in fisher.items()}
    if processes.here().is_first:
        save_file({name: value.cpu().contiguous() for name, value in fisher.items()}, work.out / FISHER_DIAGONAL)
    total = sum(value.double().sum().item() for value in fisher.values())
    count = sum(value.numel() for value in fisher.values())
    largest = max(fisher, key=lambda name: fisher[name].mean().item())
    return {
        "samples": len(samples),
        "parameters": count,
        "trace": total,
        "mean": total / count,
        "share_of_zeros": sum((value == 0).sum().item() for value in fisher.values()) / count,
        "most_informative_parameter": largest,
    }
