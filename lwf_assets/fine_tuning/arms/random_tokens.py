"""Arm `random_tokens`: a control that unlearns noise instead of knowledge."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lwf_assets.study.arms import RandomTokensArm

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work
    from lwf_assets.study.arms import RandomTokensArm


def fine_tune(work: Work, arm: RandomTokensArm) -> dict[str, Any]:
    """Put random tokens in the place of D_U. Each sample may rise as far above its own start as the one whose place it
    takes: random tokens begin above any sensible cap."""
    from lwf_assets.engine.checkpoint import load_model, load_tokenizer
    from lwf_assets.engine.loss import negative_log_likelihoods
    from lwf_assets.engine.samples import Sample
    from lwf_assets.fine_tuning.forgetting import choose_forget_set, learn_with_forgetting

    rows = choose_forget_set(work, arm.confidence_settings(work.study.confidence))
    base = work.input("base_model")
    model, tokenizer = load_model(base), load_tokenizer(base)
    ordinary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    draw = random.Random(arm.seed)
    drawn = [row if not row["selected"] else {**row, **_redrawn(row, ordinary, draw), "response": None} for row in rows]
    chosen = [row for row in drawn if row["selected"]]
    own = negative_log_likelihoods(model, [Sample(row["prompt_ids"], row["response_ids"]) for row in chosen])
    del model
    settings = arm.unlearning_settings(work.study.unlearning)
    caps = [settings.per_sample_cap + nll - row["nll"] for nll, row in zip(own, chosen, strict=True)]
    return learn_with_forgetting(work, drawn, settings, caps=caps)


def _redrawn(row: dict[str, Any], ordinary: Sequence[int], draw: random.Random) -> dict[str, list[int]]:
    return {key: draw.choices(ordinary, k=len(row[key])) for key in ("prompt_ids", "response_ids")}
