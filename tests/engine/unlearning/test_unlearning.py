"""Periodic unlearning inside a real Trainer: what it does to the weights, when, and what it leaves alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import distance, loss_by_hand, same_bits, tiny_model, weights
from tiny import random_samples, tiny_llama
from torch import Tensor
from trainers import Poison, Snapshots, collate_for_trainer, trainer
from transformers import PreTrainedModel, Trainer, TrainingArguments

from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.samples import Sample, collate
from lwf_assets.engine.unlearning.periodic import LedgerEntry, PeriodicUnlearning
from lwf_assets.errors import LwfError

FORGOTTEN = random_samples(9, seed=7)
NO_CAP = 1e9


def _likelihoods(model: PreTrainedModel, samples: list[Sample] = FORGOTTEN) -> dict[str, float]:
    """NLL per token by ledger name, by hand."""
    with torch.no_grad():
        return {str(n): loss_by_hand(model, sample).item() for n, sample in enumerate(samples)}


def _ascent_gradient(model: PreTrainedModel, names: list[str], divisor: int) -> dict[str, Tensor]:
    """Gradient of the sum of the named samples' losses over `divisor`, from the weights as they are."""
    model.zero_grad(set_to_none=True)
    (sum(loss_by_hand(model, FORGOTTEN[int(name)]) for name in names) / divisor).backward()
    gradient = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return gradient


def _norm(tensors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in tensors.values()))


class _After:
    """Keeps the weights right after each unlearning step."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.at: dict[int, dict[str, Tensor]] = {}

    def __call__(self, step: int, entries: list[LedgerEntry]) -> None:
        self.at[step] = weights(self.model)


def _first_ascent(folder: Path, **settings: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], PeriodicUnlearning]:
    """The weights before and after one unlearning step that comes before all learning."""
    model = tiny_llama()
    before, after = weights(model), _After(model)
    defaults = {"interval": 1, "timing": "upfront", "per_sample_cap": NO_CAP, "batch_size": 4}
    unlearning = PeriodicUnlearning(FORGOTTEN, on_unlearn=after, **defaults | settings)
    trainer(folder, model, [unlearning], max_steps=1).train()
    assert list(after.at) == [0]
    return before, after.at[0], unlearning


def test_one_line_in_a_trainer(tmp_path: Path) -> None:
    """As the documentation shows it, with every default; bf16 off, as the CPU may lack it."""
    model, samples = tiny_llama(), FORGOTTEN
    arguments = TrainingArguments(
        str(tmp_path), max_steps=10, report_to="none", remove_unused_columns=False, use_cpu=True, disable_tqdm=True
    )
    unlearning = PeriodicUnlearning(samples)
    Trainer(
        model, arguments, data_collator=collate_for_trainer, train_dataset=random_samples(8), callbacks=[unlearning]
    ).train()
    assert {entry.step for entry in unlearning.ledger} == {5, 10}


def test_forgotten_samples_become_less_likely(tmp_path: Path) -> None:
    plain, forgetting = tiny_llama(), tiny_llama()
    trainer(tmp_path, plain, max_steps=12).train()
    unlearning = PeriodicUnlearning(
        FORGOTTEN, interval=2, forgetting_rate=2e-3, batch_size=9, per_sample_cap=NO_CAP, max_gradient_norm=10
    )
    trainer(tmp_path, forgetting, [unlearning], max_steps=12).train()
    without = negative_log_likelihoods(plain, FORGOTTEN)
    with_it = negative_log_likelihoods(forgetting, FORGOTTEN)
    assert sum(with_it) / 9 > sum(without) / 9 + 0.1
    steps = {entry.step for entry in unlearning.ledger}
    for step in steps:
        entries = [entry for entry in unlearning.ledger if entry.step == step]
        assert sum(entry.nll_after for entry in entries) > sum(entry.nll_before for entry in entries)
    final = negative_log_likelihoods(forgetting, FORGOTTEN)
    last = {int(entry.sample_id): entry.nll_after for entry in unlearning.ledger if entry.step == max(steps)}
    assert [last[n] for n in range(9)] == pytest.approx(final, rel=1e-5)


def _timed(folder: Path, **settings: Any) -> list[int]:
    unlearning = PeriodicUnlearning(FORGOTTEN, batch_size=2, per_sample_cap=NO_CAP, **settings)
    trainer(folder, tiny_llama(), [unlearning], max_steps=11).train()
    return list(dict.fromkeys(entry.step for entry in unlearning.ledger))


def test_periodic_steps_come_at_the_multiples_of_the_interval(tmp_path: Path) -> None:
    assert _timed(tmp_path, interval=3) == [3, 6, 9]
    assert _timed(tmp_path, interval=1) == list(range(1, 12))
    assert _timed(tmp_path, interval=12) == []


def test_upfront_steps_are_as_many_and_come_first(tmp_path: Path) -> None:
    assert _timed(tmp_path, interval=3, timing="upfront") == [-2, -1, 0]
    model = tiny_llama()
    snapshots = Snapshots()
    after = _After(model)
    unlearning = PeriodicUnlearning(
        FORGOTTEN, interval=3, timing="upfront", forgetting_rate=1e-2, per_sample_cap=NO_CAP, on_unlearn=after
    )
    trainer(tmp_path, model, [unlearning, snapshots]).train()
    assert list(after.at) == [-1, 0]
    assert same_bits(after.at[0], snapshots.at[0])


def test_random_steps_are_as_many_and_follow_from_the_seed(tmp_path: Path) -> None:
    chosen = [_timed(tmp_path, interval=3, timing="random", seed=seed) for seed in range(4)]
    assert all(len(steps) == 3 and set(steps) <= set(range(1, 12)) for steps in chosen)
    assert len({tuple(steps) for steps in chosen}) > 1
    assert _timed(tmp_path, interval=3, timing="random", seed=2) == chosen[2]


def _batch_at(folder: Path, step: int, **settings: Any) -> list[str]:
    unlearning = PeriodicUnlearning(FORGOTTEN, per_sample_cap=NO_CAP, **{"batch_size": 4} | settings)
    trainer(folder, tiny_llama(), [unlearning]).train()
    return [entry.sample_id for entry in unlearning.ledger if entry.step == step]


def test_the_batch_follows_from_seed_and_step_alone(tmp_path: Path) -> None:
    batch = _batch_at(tmp_path, 6, interval=2)
    assert _batch_at(tmp_path, 6, interval=2, forgetting_rate=1e-2, optimizer="sgd") == batch
    assert _batch_at(tmp_path, 6, interval=2, seed=1) != batch
    assert len(set(batch)) == 4
    # Nine samples make two full batches of four: nobody has a second turn in them.
    assert not set(_batch_at(tmp_path, 2, interval=2)) & set(_batch_at(tmp_path, 4, interval=2))
    assert sorted(_batch_at(tmp_path, 6, interval=6, batch_size=100)) == [str(n) for n in range(9)]


def test_names_in_the_ledger(tmp_path: Path) -> None:
    names = [f"teeth-{n}" for n in range(9)]
    model = tiny_llama()
    unlearning = PeriodicUnlearning(FORGOTTEN, sample_ids=names, interval=6, batch_size=9, per_sample_cap=NO_CAP)
    snapshots = Snapshots()
    trainer(tmp_path, model, [snapshots, unlearning]).train()
    model.load_state_dict(snapshots.at[6], strict=False)
    expected = {f"teeth-{name}": loss for name, loss in _likelihoods(model).items()}
    assert {entry.sample_id: entry.nll_before for entry in unlearning.ledger} == pytest.approx(expected, rel=1e-5)


def _optimizer_bits(used: Trainer) -> list[Tensor]:
    states = used.optimizer.state_dict()["state"].values()
    return [value for state in states for value in state.values() if torch.is_tensor(value)]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_learner_feels_nothing_of_the_ascent_but_the_weights(
    tmp_path: Path, optimizer: str, accumulation: int
) -> None:
    """At a rate that moves no weight, a run with unlearning is the run without it, moments included."""
    plain, forgetting = tiny_llama(), tiny_llama()
    settings = {"max_steps": 8, "gradient_accumulation_steps": accumulation, "weight_decay": 0.1}
    without = trainer(tmp_path, plain, **settings)
    without.train()
    unlearning = PeriodicUnlearning(
        FORGOTTEN, interval=2, forgetting_rate=1e-30, optimizer=optimizer, per_sample_cap=NO_CAP
    )
    with_it = trainer(tmp_path, forgetting, [unlearning], **settings)
    with_it.train()
    assert len(unlearning.ledger) == 32
    assert all(entry.pushed for entry in unlearning.ledger)
    assert same_bits(weights(plain), weights(forgetting))
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(_optimizer_bits(without), _optimizer_bits(with_it), strict=True)
    )
    assert all(parameter.grad is None for parameter in forgetting.parameters())


def test_the_learners_dropout_is_not_disturbed(tmp_path: Path) -> None:
    """The ascent draws nothing, so reference and LWF differ in the forgetting alone."""
    results = []
    for rate in (None, 1e-30):
        model = tiny_model("gpt2")
        callbacks = (
            [PeriodicUnlearning(random_samples(4, vocabulary=60), interval=2, forgetting_rate=rate)] if rate else []
        )
        used = trainer(tmp_path, model, callbacks)
        used.train_dataset = random_samples(8, vocabulary=60)
        used.train()
        assert model.training
        results.append(weights(model))
    assert same_bits(*results)


@pytest.mark.parametrize("timing", ["periodic", "upfront"])
def test_the_ledger_holds_the_models_likelihood_and_not_a_draws(tmp_path: Path, timing: str) -> None:
    """Trainer leaves dropout on between its steps."""
    model, samples = tiny_model("gpt2"), random_samples(4, vocabulary=60)
    unlearning = PeriodicUnlearning(samples, interval=3, forgetting_rate=1e-30, timing=timing, per_sample_cap=NO_CAP)
    used = trainer(tmp_path, model, [unlearning], max_steps=3, learning_rate=1e-30)
    used.train_dataset = random_samples(8, vocabulary=60)
    used.train()
    assert len(unlearning.ledger) == 4
    assert all(entry.nll_after == pytest.approx(entry.nll_before, rel=1e-6) for entry in unlearning.ledger)


def test_frozen_weights_stay(tmp_path: Path) -> None:
    model = tiny_llama()
    frozen = [name for name, _ in model.named_parameters() if "mlp" in name]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    before = weights(model)
    unlearning = PeriodicUnlearning(FORGOTTEN, interval=2, forgetting_rate=1e-2, per_sample_cap=NO_CAP)
    trainer(tmp_path, model, [unlearning]).train()
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) == (name in frozen) for name in before)
    assert all(model.get_parameter(name).grad is None for name in frozen)
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == frozen


def test_a_first_sgd_step_is_the_clipped_gradient_upwards(tmp_path: Path) -> None:
    before, after, unlearning = _first_ascent(tmp_path, optimizer="sgd", forgetting_rate=0.5, max_gradient_norm=0.7)
    names = [entry.sample_id for entry in unlearning.ledger]
    gradient = _ascent_gradient(tiny_llama(), names, divisor=4)
    assert _norm(gradient) > 0.7  # so that it is clipped
    expected = {name: before[name] + 0.5 * 0.7 / _norm(gradient) * value for name, value in gradient.items()}
    assert distance(after, expected) <= 1e-5 * 0.35


def test_a_first_adam_step_is_the_sign_of_the_gradient_upwards(tmp_path: Path) -> None:
    rate = 1e-3
    before, after, unlearning = _first_ascent(tmp_path, forgetting_rate=rate, max_gradient_norm=1e9)
    gradient = _ascent_gradient(tiny_llama(), [entry.sample_id for entry in unlearning.ledger], divisor=4)
    expected = {name: before[name] + rate * value / (value.abs() + 1e-8) for name, value in gradient.items()}
    assert distance(after, expected) <= 1e-3 * distance(after, before)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_forgetting_rate_scales_the_update(tmp_path: Path, optimizer: str) -> None:
    updates = []
    for rate in (1e-3, 1e-2):
        before, after, _ = _first_ascent(tmp_path, optimizer=optimizer, forgetting_rate=rate)
        updates.append(distance(before, after))
    assert updates[1] / updates[0] == pytest.approx(10, rel=1e-3)


def test_the_cap_is_per_sample(tmp_path: Path) -> None:
    """A batch of forgotten and unforgotten samples: only the latter push, and each as hard as without the others."""
    likelihoods = _likelihoods(tiny_llama())
    ordered = sorted(likelihoods.values())
    cap = (ordered[3] + ordered[4]) / 2
    low = {name for name, loss in likelihoods.items() if loss < cap}
    before, after, unlearning = _first_ascent(
        tmp_path, optimizer="sgd", forgetting_rate=0.1, batch_size=9, max_gradient_norm=1e9, per_sample_cap=cap
    )
    assert {entry.sample_id for entry in unlearning.ledger if entry.pushed} == low
    gradient = _ascent_gradient(tiny_llama(), sorted(low), divisor=9)
    expected = {name: before[name] + 0.1 * value for name, value in gradient.items()}
    assert distance(after, expected) <= 1e-4 * distance(after, before)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_batch_that_is_forgotten_leaves_the_weights_alone(tmp_path: Path, optimizer: str) -> None:
    plain, forgetting = tiny_llama(), tiny_llama()
    trainer(tmp_path, plain).train()
    unlearning = PeriodicUnlearning(
        FORGOTTEN, interval=1, forgetting_rate=0.1, optimizer=optimizer, per_sample_cap=0.01
    )
    trainer(tmp_path, forgetting, [unlearning]).train()
    assert same_bits(weights(plain), weights(forgetting))
    assert len(unlearning.ledger) == 6 * 8
    assert not any(entry.pushed for entry in unlearning.ledger)
    assert all(entry.nll_before > 0.01 for entry in unlearning.ledger)


def test_momentum_does_not_move_the_weights_once_all_is_forgotten(tmp_path: Path) -> None:
    """Adam steps on a zero gradient too, by its moments; a skipped step must not."""
    model = tiny_llama()
    after, snapshots = _After(model), Snapshots()
    unlearning = PeriodicUnlearning(
        FORGOTTEN, interval=1, forgetting_rate=1e-3, per_sample_cap=NO_CAP, on_unlearn=after
    )

    class _LowersTheCap(Snapshots):
        def on_step_end(self, args: Any, state: Any, control: Any, *, model: PreTrainedModel, **kwargs: Any) -> None:
            super().on_step_end(args, state, control, model=model)
            unlearning.per_sample_cap = NO_CAP if state.global_step <= 3 else 0.01

    snapshots = _LowersTheCap()
    trainer(tmp_path, model, [snapshots, unlearning]).train()
    moved = [step for step in range(1, 7) if not same_bits(snapshots.at[step], after.at[step])]
    assert moved == [1, 2, 3]


def _update_lengths(folder: Path, **settings: Any) -> dict[int, float]:
    """SGD on a gradient that is always clipped: a step's length is its rate times the clip."""
    model = tiny_llama()
    snapshots, after = Snapshots(), _After(model)
    unlearning = PeriodicUnlearning(
        FORGOTTEN,
        interval=2,
        forgetting_rate=0.5,
        optimizer="sgd",
        max_gradient_norm=0.1,
        per_sample_cap=NO_CAP,
        on_unlearn=after,
    )
    trainer(folder, model, [snapshots, unlearning], max_steps=8, **settings).train()
    return {step: distance(found, snapshots.at[step]) for step, found in after.at.items()}


def test_the_ascent_follows_the_learners_schedule(tmp_path: Path) -> None:
    constant = _update_lengths(tmp_path)
    assert constant == pytest.approx({2: 0.05, 4: 0.05, 6: 0.05, 8: 0.05}, rel=1e-3)
    falling = _update_lengths(tmp_path, lr_scheduler_type="linear")
    assert falling == pytest.approx({2: 0.04375, 4: 0.03125, 6: 0.01875, 8: 0.00625}, rel=1e-3)
    rising = _update_lengths(tmp_path, lr_scheduler_type="constant_with_warmup", warmup_steps=8)
    assert rising == pytest.approx({2: 0.00625, 4: 0.01875, 6: 0.03125, 8: 0.04375}, rel=1e-3)


@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_the_ledger_can_be_recomputed(tmp_path: Path, bfloat16: bool) -> None:
    """In mixed precision too, where autocast keeps the weights it has cast: stale ones would hide an update. Nine
    samples in batches of four: two have one turn alone, the others two."""
    model = tiny_llama()
    snapshots, after = Snapshots(), _After(model)
    unlearning = PeriodicUnlearning(
        FORGOTTEN, interval=2, forgetting_rate=1e-2, per_sample_cap=NO_CAP, batch_size=4, on_unlearn=after
    )
    trainer(tmp_path, model, [snapshots, unlearning], bf16=bfloat16).train()
    fresh = tiny_llama()

    def recomputed(state: dict[str, Tensor], names: list[str]) -> list[float]:
        fresh.load_state_dict(state, strict=False)
        batch = collate([FORGOTTEN[int(name)] for name in names])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = fresh(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.float()
        chances = logits.log_softmax(-1)
        losses = []
        for row, name in enumerate(names):
            start, response = len(FORGOTTEN[int(name)].prompt_ids), FORGOTTEN[int(name)].response_ids
            picked = [chances[row, start + position - 1, token].item() for position, token in enumerate(response)]
            losses.append(-sum(picked) / len(picked))
        return losses

    for step in (2, 4, 6):
        entries = [entry for entry in unlearning.ledger if entry.step == step]
        names = [entry.sample_id for entry in entries]
        assert [e.nll_before for e in entries] == pytest.approx(recomputed(snapshots.at[step], names), rel=1e-4)
        for entry in entries:
            later = [e.step for e in unlearning.ledger if e.step > step and e.sample_id == entry.sample_id]
            state = snapshots.at[later[0]] if later else after.at[6]
            assert entry.nll_after == pytest.approx(*recomputed(state, [entry.sample_id]), rel=1e-4)
        raised = sum(recomputed(after.at[step], names)) - sum(e.nll_before for e in entries)
        assert raised > 0.3


def test_a_loss_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    for timing, step in (("upfront", 0), ("periodic", 2)):
        poison = Poison(step)
        unlearning = PeriodicUnlearning(FORGOTTEN, interval=2, timing=timing, forgetting_rate=0.125)
        with pytest.raises(LwfError, match=r"unlearning loss became nan at step \S+; .*forgetting_rate \(0.125\)"):
            trainer(tmp_path, tiny_llama(), [poison, unlearning]).train()


def test_settings_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to unlearn"):
        PeriodicUnlearning([])
    with pytest.raises(ValueError, match="at least 1"):
        PeriodicUnlearning(FORGOTTEN, interval=0)
    with pytest.raises(ValueError, match="at least 1"):
        PeriodicUnlearning(FORGOTTEN, batch_size=0)
    with pytest.raises(ValueError, match="must be unique"):
        PeriodicUnlearning(FORGOTTEN, sample_ids=["same"] * 9)
