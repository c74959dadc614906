"""Gradient difference: a loss on retained text pulls back while the forgotten text is pushed away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from lwf_assets.engine.loss import response_logits, sample_losses
from lwf_assets.engine.model_state import in_evaluation_mode
from lwf_assets.engine.samples import Batch, Sample, seeded_batch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Retention:
    """Samples whose likelihood an unlearning step is to keep: `weight` times their loss is added to the step's.

    `nll` is gradient difference (Liu, Liu and Stone 2022; Maini et al., TOFU, 2024), `kl` the KL minimization of TOFU.

    Args:
        samples: what should be retained.
        kind: `nll`, the mean over samples of the NLL per response token; `kl`, the mean over samples of the mean over
            response positions of KL(reference || model), over the whole vocabulary. Both in nats per token.
        weight: of the retained samples' loss relative to the forgotten samples'.
        batch_size: retained samples per unlearning step.
        reference: for `kl`, the model to stay close to, on the device of the one that is trained. It is never
            changed, and it is not in the checkpoints: hand in the same one on resume.

    Raises:
        ValueError: no samples, a weight or a batch size that means nothing, or `kl` without a reference.
    """

    samples: Sequence[Sample]
    kind: Literal["nll", "kl"] = "nll"
    weight: float = 1.0
    batch_size: int = 8
    reference: PreTrainedModel | None = None

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError("there is nothing to retain: samples is empty")
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"weight of the retention must be positive and finite; got {self.weight}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size of the retention must be at least 1; got {self.batch_size}")
        if self.kind not in ("nll", "kl"):
            raise ValueError(f"kind of the retention must be 'nll' or 'kl'; got {self.kind!r}")
        if (self.kind == "kl") != (self.reference is not None):
            raise ValueError("a reference model goes with kind 'kl', and only with it")

    def batch(self, number: int, seed: int) -> list[Sample]:
        """The retained samples of the `number`-th unlearning step."""
        chosen = seeded_batch(len(self.samples), self.batch_size, number, f"{seed}/retained")
        return [self.samples[index] for index in chosen]

    def loss(self, model: PreTrainedModel, batch: Batch, *, bfloat16: bool = False) -> Tensor:
        """Loss of the retained `batch` before its weight, a scalar in fp32; differentiable.

        Args:
            bfloat16: whether both models compute under bfloat16 autocast.
        """
        if self.kind == "nll":
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
                return sample_losses(model, batch).mean()
        assert self.reference is not None
        if self.reference is model:
            raise ValueError("the reference of a KL retention must be a model of its own, not the one that is trained")
        with torch.no_grad(), in_evaluation_mode(self.reference):
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
                kept, _, counted = response_logits(self.reference, batch)
            kept = functional.log_softmax(kept, dim=-1)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
            logits, _, _ = response_logits(model, batch)
        now = functional.log_softmax(logits, dim=-1)
        divergences = functional.kl_div(now, kept, reduction="none", log_target=True).sum(dim=-1)
        shares = (1 / counted.sum(dim=1))[counted.nonzero()[:, 0]]  # every sample counts alike
        return (divergences * shares).sum() / len(batch.input_ids)
