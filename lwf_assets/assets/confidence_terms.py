"""Asset confidence_terms: the three terms of the forgetting confidence of every sample of D_self.

The numerics are in `lwf_assets/engine/confidence.py`. The terms are kept apart, so that any alpha can be tried by a
query without a new gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lwf_assets.engine.confidence import confidence_terms, squared_norm
from lwf_assets.errors import LwfError
from lwf_assets.store.layout import CONFIDENCE_TERMS, CORPUS, FISHER_DIAGONAL
from lwf_assets.store.tables import read_rows, write_rows
from lwf_assets.tasks.rows import with_turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Write the terms of every sample of D_self that says something, with the sample itself."""
    import torch

    from lwf_assets.engine.checkpoint import load_tensors
    from lwf_assets.engine.samples import Sample
    from lwf_assets.fine_tuning.confidence_space import base_and_difference

    corpus = read_rows(work.input("self_generated_corpus") / CORPUS)
    # In a mixed cell the learning task's own prompts are no forgetting task.
    rows = [row for row in corpus if row["response"].strip() and row["source_task"] != work.learning_task]
    if not rows:
        raise LwfError(
            f"self_generated_corpus[{work.forgetting_task}] has no response to score for {work.learning_task}"
        )
    held = {"float32": torch.float32, "bfloat16": torch.bfloat16}[work.study.confidence.precision]
    model, delta = base_and_difference(work, held)
    work.progress.begin("Confidence terms", len(rows))
    terms = confidence_terms(
        model,
        [Sample(row["prompt_ids"], row["response_ids"]) for row in rows],
        fisher=load_tensors(work.input("fisher_diagonal") / FISHER_DIAGONAL, held),
        delta=delta,
        only=None if work.study.confidence_space is None else delta.keys(),
        reduction=work.study.confidence.loss_reduction,
        token_budget=work.study.model.token_budget,
        progress=work.progress,
    )
    by_token = terms.losses if work.study.confidence.loss_reduction == "mean" else terms.losses / _lengths(rows)
    scored = [
        {
            "id": row["id"],
            "source_task": row["source_task"],
            "prompt": row["prompt"],
            "messages": row.get("messages"),
            "response": row["response"],
            "prompt_ids": row["prompt_ids"],
            "response_ids": row["response_ids"],
            "tokens": row["tokens"],
            "constant": terms.constant,
            "linear": float(terms.linear[index]),
            "quadratic": float(terms.quadratic[index]),
            "gradient_norm": float(terms.gradient_norm[index]),
            "nll": float(by_token[index]),
        }
        for index, row in enumerate(rows)
    ]
    write_rows(work.out / CONFIDENCE_TERMS, with_turns(scored))
    return {
        "samples": len(rows),
        "left_out": len(corpus) - len(rows),
        "constant": terms.constant,
        "linear_mean": float(terms.linear.mean()),
        "linear_spread": float(terms.linear.std()),
        "quadratic_mean": float(terms.quadratic.mean()),
        "quadratic_spread": float(terms.quadratic.std()),
        "distance_to_optimum": float(np.sqrt(sum(squared_norm(d[...]) for d in delta.values()))),
    }


def _lengths(rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    return np.array([len(row["response_ids"]) for row in rows], dtype=np.float64)
