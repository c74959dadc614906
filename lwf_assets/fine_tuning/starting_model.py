"""The model before its first step of a fine-tune: the base with all its weights, or with a fresh adapter on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from lwf_assets.study.study import Study


def starting_model(study: Study, base: Path, seed: int) -> PreTrainedModel | PeftModel:
    """The model in the directory `base`; with `model.adapter`, as a PEFT model of which the adapter alone is trainable.
    The adapter's starting weights follow from `seed`: every fine-tune of a seed begins at the same point.

    Raises:
        LwfError: the adapter does not fit the model.
    """
    from lwf_assets.engine.adapter import add_adapter
    from lwf_assets.engine.checkpoint import load_model

    model, adapter = load_model(base), study.model.adapter
    if adapter is None:
        return model
    return add_adapter(
        model, rank=adapter.rank, alpha=adapter.alpha, dropout=adapter.dropout, targets=adapter.targets, seed=seed
    )
