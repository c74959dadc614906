"""A Trainer that would undo the unlearning is refused before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import random_samples, tiny_llama
from trainers import trainer

from lwf_assets.engine.unlearning.periodic import PeriodicUnlearning
from lwf_assets.errors import LwfError


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"fp16": True}, r"^fp16: .*bf16"),
        ({"deepspeed_plugin": object()}, r"^deepspeed: .*FSDP2"),
        ({"fsdp": True, "fsdp_config": {"version": 1}}, r"^fsdp_config\.version: .*take 2"),
    ],
)
def test_is_refused(changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    unlearning = PeriodicUnlearning(random_samples(2))
    training = trainer(tmp_path, tiny_llama(), [unlearning])
    for name, value in changes.items():
        setattr(training.args, name, value)  # on a CPU a Trainer cannot be made with them
    with pytest.raises(LwfError, match=match):
        unlearning.on_train_begin(training.args, training.state, training.control, model=training.model)
    assert unlearning.ledger == []
