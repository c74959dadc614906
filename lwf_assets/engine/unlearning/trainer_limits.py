"""What a Trainer must not be set to while its model unlearns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from transformers import TrainingArguments


def refuse_what_spoils_unlearning(args: TrainingArguments) -> None:
    """Stop before the first step where unlearning would go wrong without a word.

    Raises:
        LwfError: the argument at fault, and what would do.
    """
    if args.fp16:
        # Its gradients are far below what fp16 can hold, and the learner's loss scaler does not know of them.
        raise LwfError(
            "fp16: unlearning has no loss scaler, so its gradients would vanish; train with bf16, or in fp32"
        )
    if getattr(args, "deepspeed_plugin", None) is not None:
        # It overwrites the weights from copies of its own after each step.
        raise LwfError("deepspeed: would undo each unlearning step, for it keeps the weights itself; use DDP or FSDP2")
    if getattr(args, "fsdp", None) and int((args.fsdp_config or {}).get("version", 2)) < 2:
        raise LwfError("fsdp_config.version: unlearning needs FSDP2, where parameters keep their shapes; take 2")
