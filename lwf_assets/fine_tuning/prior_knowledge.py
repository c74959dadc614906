"""Knowledge that a model is taught before the study begins.

What a real pre-trained model knows can only be guessed at. A study of negative transfer must know it, so it may teach
its bases first: one what will be contradicted, another as much of the same form that will not.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from lwf_assets.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lwf_assets.graph.work import Work
    from lwf_assets.study.sections import PriorSettings


def teach(
    work: Work, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prior: PriorSettings
) -> dict[str, Any]:
    """Fine-tune `model` in place on the prior's tasks, validation rows and all; returns figures for people."""
    from lwf_assets.engine import processes
    from lwf_assets.engine.loss import negative_log_likelihoods
    from lwf_assets.engine.samples import encode_sample
    from lwf_assets.engine.training.fine_tune import fine_tune

    context = work.context(model)
    splits = [Task(name, task).learning_rows() for name, task in prior.tasks.items()]
    rows = [row for train, validation in splits for row in (*train, *validation)]
    samples = [encode_sample(tokenizer, row.shown, row.target, context=context, row_id=row.id) for row in rows]
    folder = work.scratch / "prior"
    fine_tune(
        model,
        samples,
        **prior.training.arguments(),
        seed=prior.seed,
        folder=folder,
        progress=work.progress,
        label="Prior knowledge",
    )
    nll = negative_log_likelihoods(model, samples, token_budget=work.study.model.token_budget)
    if processes.here().is_first:
        shutil.rmtree(folder, ignore_errors=True)
    return {"prior_rows": len(rows), "prior_nll": sum(nll) / len(nll)}
