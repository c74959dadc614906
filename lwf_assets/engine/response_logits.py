"""What a model predicts where a response stands, and nowhere else."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from lwf_assets.engine.samples import IGNORED, Batch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def response_logits(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits that predict the response tokens, fp32, [tokens, vocabulary]; the tokens, [tokens]; where they stand,
    [batch, positions], true at each.

    Tokens come row by row, in the order of the text. `positions` are those in which some row has a response token:
    logits, the widest tensor of all, are formed there alone.
    """
    labels = batch.labels[:, 1:]  # the logits at t predict the token at t + 1
    counted = labels != IGNORED
    positions = counted.any(dim=0).nonzero().squeeze(1)
    labels, counted = labels[:, positions], counted[:, positions]
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        logits = model(**inputs, logits_to_keep=positions).logits
    else:
        logits = model(**inputs).logits[:, positions]
    return logits[counted].float(), labels[counted], counted
