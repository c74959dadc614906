"""What a model predicts where a response stands, and nowhere else."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from lwf_assets.engine.samples import IGNORED, Batch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def response_logits(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits that predict the response tokens, fp32, [tokens, vocabulary]; the tokens, [tokens]; their rows, [tokens].

    Tokens come row by row, in the order of the text. Logits, the widest tensor of all, are formed only at positions in
    which some row has a response token.
    """
    labels = batch.labels[:, 1:]  # the logits at t predict the token at t + 1
    positions = (labels != IGNORED).any(dim=0).nonzero().squeeze(1)
    labels = labels[:, positions]
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        logits = model(**inputs, logits_to_keep=positions).logits
    else:
        logits = model(**inputs).logits[:, positions]
    counted = labels != IGNORED
    return logits[counted].float(), labels[counted], counted.nonzero()[:, 0]
