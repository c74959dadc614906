"""Unlearning in a Trainer whose model is a PEFT model: the adapter alone moves, is saved, and is taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import distance, same_bits, weights
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import random_samples, tiny_llama
from torch import Tensor
from trainers import StopAt, StoppedError, trainer

from lwf_assets.engine.loss import negative_log_likelihoods, response_logits
from lwf_assets.engine.samples import collate
from lwf_assets.engine.training.penalties import BatchSpectralShrinkage
from lwf_assets.engine.training.weight_noise import WeightNoise
from lwf_assets.engine.unlearning.periodic import PeriodicUnlearning
from lwf_assets.engine.unlearning.retention import Retention

FORGOTTEN = random_samples(9, seed=7)
SAVING = {"max_steps": 10, "save_strategy": "steps", "save_steps": 3, "lr_scheduler_type": "cosine"}


def _adapted(seed: int = 0) -> PeftModel:
    """As anyone makes one, with dropout, which the ascent must not draw from."""
    model = tiny_llama()
    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.1, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def _unlearning(**settings: Any) -> PeriodicUnlearning:
    defaults = {"interval": 2, "forgetting_rate": 3e-3, "batch_size": 4, "per_sample_cap": 8.0, "measure_updates": True}
    return PeriodicUnlearning(FORGOTTEN, **defaults | settings)


def _frozen(model: PeftModel) -> dict[str, Tensor]:
    return {name: value for name, value in weights(model).items() if "lora_" not in name}


def test_the_ascent_moves_the_adapter_alone(tmp_path: Path) -> None:
    plain, forgetting, before = _adapted(), _adapted(), _frozen(_adapted())
    trainer(tmp_path / "plain", plain, **SAVING).train()
    unlearning = _unlearning()
    trainer(tmp_path / "forgetting", forgetting, [unlearning], **SAVING).train()
    assert same_bits(_frozen(forgetting), before)
    assert all(entry.update_norm > 0 for entry in unlearning.ledger if entry.pushed)
    kept, gone = (sum(negative_log_likelihoods(model, FORGOTTEN)) for model in (plain, forgetting))
    assert gone > kept + 0.01


def test_what_an_arm_adds_works_on_an_adapter(tmp_path: Path) -> None:
    """Retention by KL from the base, the features that BSS shrinks, and noise on what is trained."""
    retain = Retention(random_samples(4, seed=2), kind="kl", reference=tiny_llama())
    plain, retaining = _adapted(), _adapted()
    for name, model, settings in (("plain", plain, {}), ("retaining", retaining, {"retain": retain})):
        trainer(tmp_path / name, model, [_unlearning(**settings)], **SAVING).train()
    assert not same_bits(weights(plain), weights(retaining))

    noisy, before = _adapted(), weights(_adapted())
    WeightNoise({0: 0.5})._add(0, noisy)
    assert same_bits(_frozen(noisy), _frozen(_adapted()))
    assert distance(weights(noisy), before) == pytest.approx(0.5, rel=1e-4)

    shrinkage, batch = BatchSpectralShrinkage(weight=0.1), collate(FORGOTTEN[:4])
    with shrinkage.watching(noisy):
        response_logits(noisy, batch)
    torch.autograd.backward(shrinkage.value(noisy, batch))
    gradients = {name for name, parameter in noisy.named_parameters() if parameter.grad is not None}
    assert gradients
    assert all("lora_" in name for name in gradients)


@pytest.mark.parametrize("settings", [{}, {"timing": "upfront"}, {"optimizer": "sgd"}], ids=["adam", "upfront", "sgd"])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, settings: dict[str, Any]) -> None:
    whole, uninterrupted = _adapted(), _unlearning(**settings)
    trainer(tmp_path / "whole", whole, [uninterrupted], **SAVING).train()
    with pytest.raises(StoppedError):
        trainer(tmp_path / "cut", _adapted(), [_unlearning(**settings), StopAt(8)], **SAVING).train()
    checkpoint = tmp_path / "cut" / "checkpoint-6"
    assert (checkpoint / "adapter_model.safetensors").exists()
    assert not (checkpoint / "model.safetensors").exists()
    resumed, unlearning = _adapted(seed=5), _unlearning(**settings)
    trainer(tmp_path / "cut", resumed, [unlearning], **SAVING).train(resume_from_checkpoint=str(checkpoint))
    assert unlearning.ledger == uninterrupted.ledger
    assert same_bits(weights(resumed), weights(whole))


def test_logits_are_formed_only_where_there_is_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT's forward does not name the argument for it, and passes it on."""
    model, seen = _adapted().eval(), []
    head = model.get_base_model().lm_head
    head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    batch = collate(FORGOTTEN[:3])
    logits, _, counted = response_logits(model, batch)
    assert seen == [counted.shape[1]]
    assert counted.shape[1] < batch.input_ids.shape[1]
    assert len(logits) == int(counted.sum())
