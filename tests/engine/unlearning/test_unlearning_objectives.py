"""Unlearning steps with other objectives, retained samples, caps of their own and a measure, by hand and by resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import distance, in_float64, loss_by_hand, same_bits, tiny_model, weights
from tiny import random_samples, tiny_llama
from torch import Tensor
from trainers import Poison, Snapshots, StopAt, StoppedError, trainer
from transformers import PreTrainedModel

from lwf_assets.engine.samples import Sample, seeded_batch
from lwf_assets.engine.unlearning.ledger import Ledger
from lwf_assets.engine.unlearning.objectives import NPO, Nothing, Objective, SimNPO
from lwf_assets.engine.unlearning.periodic import STATE_FILE, LedgerEntry, PeriodicUnlearning
from lwf_assets.engine.unlearning.retention import Retention
from lwf_assets.engine.unlearning.saved_state import SavedState
from lwf_assets.errors import LwfError

FORGOTTEN, RETAINED = random_samples(9, seed=7), random_samples(7, seed=8)
NO_CAP = 1e9
RATE = 0.2


class _WeightsAfter:
    """The weights after each unlearning step."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.at: dict[int, dict[str, Tensor]] = {0: weights(model)}

    def __call__(self, step: int, entries: list[LedgerEntry]) -> None:
        self.at[len(self.at)] = weights(self.model)


def _upfront(folder: Path, steps: int = 2, **settings: Any) -> tuple[dict[int, dict[str, Tensor]], PeriodicUnlearning]:
    """The weights before and after each of the first steps, of plain unclipped gradient descent on the objective."""
    model = tiny_llama()
    after = _WeightsAfter(model)
    defaults = {"optimizer": "sgd", "forgetting_rate": RATE, "max_gradient_norm": 1e9, "per_sample_cap": NO_CAP}
    unlearning = PeriodicUnlearning(
        FORGOTTEN, interval=1, timing="upfront", batch_size=4, on_unlearn=after, **defaults | settings
    )
    trainer(folder, model, [unlearning], max_steps=steps).train()
    return after.at, unlearning


def _moved(start: dict[str, Tensor], loss: Callable[[PreTrainedModel], Tensor]) -> dict[str, Tensor]:
    """One step of gradient descent on `loss` from `start`, in double precision."""
    model = tiny_llama()
    model.load_state_dict(start, strict=False)
    precise = in_float64(model)
    loss(precise).backward()
    return {name: (value - RATE * value.grad).detach() for name, value in precise.named_parameters()}


def _names(unlearning: PeriodicUnlearning, step: int) -> list[int]:
    return [int(entry.sample_id) for entry in unlearning.ledger if entry.step == step]


def _likelihoods(state: dict[str, Tensor]) -> list[float]:
    model = tiny_llama()
    model.load_state_dict(state, strict=False)
    precise = in_float64(model)
    with torch.no_grad():
        return [loss_by_hand(precise, sample, "sum").item() for sample in FORGOTTEN]


def _npo_by_hand(model: PreTrainedModel, sample: Sample, reference: float, beta: float) -> Tensor:
    ratio = torch.exp(reference - loss_by_hand(model, sample, "sum"))
    return 2 / beta * torch.log(1 + ratio**beta)


def _simnpo_by_hand(model: PreTrainedModel, sample: Sample, reference: float, beta: float) -> Tensor:
    return -2 / beta * torch.log(torch.sigmoid(beta * loss_by_hand(model, sample) - 0.5))


@pytest.mark.parametrize(
    ("objective", "by_hand"),
    [(NPO(0.7), _npo_by_hand), (SimNPO(0.7, 0.5), _simnpo_by_hand)],
    ids=["npo", "simnpo"],
)
def test_steps_descend_the_mean_of_the_objective(
    tmp_path: Path, objective: Objective, by_hand: Callable[..., Tensor]
) -> None:
    """Two steps: at the first, the model is its own reference; the second tells whether the reference stayed there."""
    at, unlearning = _upfront(tmp_path, objective=objective)
    reference = _likelihoods(at[0])
    for number, step in enumerate((-1, 0)):
        chosen = _names(unlearning, step)
        expected = _moved(
            at[number],
            lambda model, chosen=chosen: sum(by_hand(model, FORGOTTEN[n], reference[n], 0.7) for n in chosen) / 4,
        )
        length = distance(at[number + 1], at[number])
        assert length > 0.005
        assert distance(at[number + 1], expected) < 1e-4 * length


def test_npo_ends_where_ascent_goes_on(tmp_path: Path) -> None:
    """Without a cap, ascent runs away; the push of NPO fades."""
    settings = {"steps": 40, "forgetting_rate": 0.2, "max_gradient_norm": 1.0, "measure_updates": True}
    _, npo = _upfront(tmp_path, objective=NPO(1.0), **settings)
    _, ascent = _upfront(tmp_path, **settings)
    assert npo.ledger[-1].update_norm < 0.05 * npo.ledger[0].update_norm
    assert ascent.ledger[-1].nll_before > 3 * npo.ledger[-1].nll_before


@pytest.mark.parametrize("objective", [NPO(0.7), SimNPO(0.7, 0.5)], ids=["npo", "simnpo"])
def test_the_cap_goes_for_every_objective_and_may_differ_by_sample(tmp_path: Path, objective: Objective) -> None:
    model = in_float64(tiny_llama())
    with torch.no_grad():
        nll = [loss_by_hand(model, sample).item() for sample in FORGOTTEN]
    caps = [value + (0.01 if n % 3 else -0.01) for n, value in enumerate(nll)]
    at, unlearning = _upfront(tmp_path, steps=1, objective=objective, per_sample_cap=caps)
    chosen = _names(unlearning, 0)
    pushing = [n for n in chosen if n % 3]
    assert 0 < len(pushing) < 4
    assert [entry.pushed for entry in unlearning.ledger] == [n in pushing for n in chosen]
    reference, by_hand = _likelihoods(at[0]), _npo_by_hand if isinstance(objective, NPO) else _simnpo_by_hand
    expected = _moved(at[0], lambda model: sum(by_hand(model, FORGOTTEN[n], reference[n], 0.7) for n in pushing) / 4)
    assert distance(at[1], expected) < 1e-4 * distance(at[1], at[0])


def _kl_by_hand(model: PreTrainedModel, reference: PreTrainedModel, sample: Sample) -> Tensor:
    """Token by token, word by word of the vocabulary."""
    row = torch.tensor([sample.prompt_ids + sample.response_ids])
    ours = model(input_ids=row, use_cache=False).logits[0].softmax(-1)
    with torch.no_grad():
        theirs = reference(input_ids=row, use_cache=False).logits[0].softmax(-1)
    divergences = []
    for position in range(len(sample.prompt_ids) - 1, len(sample) - 1):
        terms = [p * (p.log() - q.log()) for p, q in zip(theirs[position], ours[position], strict=True)]
        divergences.append(sum(terms))
    return sum(divergences) / len(sample.response_ids)


@pytest.mark.parametrize("kind", ["nll", "kl"])
def test_retained_samples_pull_in_the_same_step(tmp_path: Path, kind: str) -> None:
    other, weight = tiny_llama(seed=3), 2.5 if kind == "nll" else 25.0
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(3)  # so that it is far from the model
    retain = Retention(RETAINED, kind, weight=weight, batch_size=3, reference=other if kind == "kl" else None)
    at, unlearning = _upfront(tmp_path, steps=1, retain=retain)
    plain, _ = _upfront(tmp_path, steps=1)
    forgotten, retained, reference = _names(unlearning, 0), retain.batch(0, seed=0), in_float64(other)
    assert len({id(sample) for sample in retained}) == 3

    def loss(model: PreTrainedModel) -> Tensor:
        kept = [loss_by_hand(model, s) if kind == "nll" else _kl_by_hand(model, reference, s) for s in retained]
        return -sum(loss_by_hand(model, FORGOTTEN[n]) for n in forgotten) / 4 + weight * sum(kept) / 3

    expected = _moved(at[0], loss)
    assert distance(at[1], plain[1]) > 0.1 * distance(at[1], at[0])  # so that retention matters here
    assert distance(at[1], expected) < 1e-4 * distance(at[1], at[0])


def test_without_an_objective_only_the_retained_samples_pull(tmp_path: Path) -> None:
    retain = Retention(RETAINED, weight=2.5, batch_size=3)
    at, _ = _upfront(tmp_path, steps=1, objective=Nothing(), retain=retain)
    retained = retain.batch(0, seed=0)
    expected = _moved(at[0], lambda model: 2.5 * sum(loss_by_hand(model, sample) for sample in retained) / 3)
    assert distance(at[1], expected) < 1e-4 * distance(at[1], at[0])


def test_retained_batches_are_dealt_apart_from_the_forgotten_ones() -> None:
    """With as many samples in both, the two would else be paired off, the same pairs throughout."""
    retain = Retention(FORGOTTEN, batch_size=4)
    for number in range(4):
        chosen = [FORGOTTEN[index] for index in seeded_batch(9, 4, number, seed=0)]
        assert retain.batch(number, seed=0) != chosen
        assert retain.batch(number, seed=0) == retain.batch(number, seed=0)
    assert retain.batch(0, seed=0) != retain.batch(0, seed=1)


def test_a_skipped_step_skips_the_retention_too(tmp_path: Path) -> None:
    at, unlearning = _upfront(
        tmp_path, per_sample_cap=0.01, retain=Retention(RETAINED, weight=5.0), measure_updates=True
    )
    assert same_bits(at[0], at[2])
    assert {entry.update_norm for entry in unlearning.ledger} == {0.0}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_measure_is_how_far_the_stored_weights_moved(tmp_path: Path, optimizer: str, dtype: torch.dtype) -> None:
    """In bfloat16 much of an update is lost to rounding, and what is lost is not counted."""
    model = tiny_llama().to(dtype)
    after, before = _WeightsAfter(model), Snapshots()
    unlearning = PeriodicUnlearning(
        FORGOTTEN,
        interval=2,
        forgetting_rate=1e-4 if optimizer == "adam" else 0.3,
        optimizer=optimizer,
        batch_size=4,
        per_sample_cap=NO_CAP,
        measure_updates=True,
        on_unlearn=after,
    )
    trainer(tmp_path, model, [before, unlearning]).train()
    norms = {entry.step: entry.update_norm for entry in unlearning.ledger}
    assert list(norms) == [2, 4, 6]
    for number, (step, norm) in enumerate(norms.items(), start=1):
        assert norm == pytest.approx(distance(after.at[number], before.at[step]), rel=1e-9)
        assert norm > 0
    assert len({(entry.step, entry.update_norm) for entry in unlearning.ledger}) == 3


def test_measuring_changes_nothing_else(tmp_path: Path) -> None:
    measured, unmeasured = (_upfront(tmp_path, measure_updates=measure) for measure in (True, False))
    assert same_bits(measured[0][2], unmeasured[0][2])
    assert all(entry.update_norm is None for entry in unmeasured[1].ledger)
    assert all(entry.update_norm > 0 for entry in measured[1].ledger)


def test_frozen_weights_count_in_no_measure_and_stay(tmp_path: Path) -> None:
    model = tiny_llama()
    model.model.embed_tokens.weight.requires_grad_(False)
    before = weights(model)
    after = _WeightsAfter(model)
    unlearning = PeriodicUnlearning(
        FORGOTTEN, interval=1, timing="upfront", objective=NPO(), measure_updates=True, on_unlearn=after
    )
    trainer(tmp_path, model, [unlearning], max_steps=1).train()
    assert torch.equal(after.at[1]["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert unlearning.ledger[0].update_norm == pytest.approx(distance(after.at[1], before), rel=1e-9)


def test_dropout_is_off_and_its_draws_are_not_disturbed(tmp_path: Path) -> None:
    results = []
    for rate in (None, 1e-30):
        model = tiny_model("gpt2").train()
        kept = random_samples(4, seed=3, vocabulary=60)
        retain = Retention(kept, "kl", reference=tiny_model("gpt2", seed=1).train())
        unlearning = [
            PeriodicUnlearning(
                random_samples(4, vocabulary=60), interval=2, forgetting_rate=rate, objective=NPO(), retain=retain
            )
        ]
        used = trainer(tmp_path, model, unlearning if rate else [])
        used.train_dataset = random_samples(8, vocabulary=60)
        used.train()
        assert retain.reference.training
        results.append(weights(model))
    assert same_bits(*results)


SAVING = {"max_steps": 8, "save_strategy": "steps", "save_steps": 3, "lr_scheduler_type": "cosine"}


def _resumable(model: PreTrainedModel, **settings: Any) -> PeriodicUnlearning:
    defaults = {"interval": 2, "forgetting_rate": 1e-3, "batch_size": 4, "per_sample_cap": [7.0 + n for n in range(9)]}
    return PeriodicUnlearning(FORGOTTEN, **defaults | settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": NPO(0.5), "measure_updates": True},
        {"objective": NPO(0.5), "timing": "upfront"},
        {"objective": SimNPO(), "retain": Retention(RETAINED, batch_size=3)},
        {"objective": NPO(2.0), "retain": Retention(RETAINED, "kl", reference=tiny_llama(), batch_size=3)},
    ],
    ids=["npo", "npo-upfront", "simnpo-nll", "npo-kl"],
)
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, settings: dict[str, Any]) -> None:
    whole, cut, resumed = tiny_llama(), tiny_llama(), tiny_llama(seed=5)
    uninterrupted, unlearning = _resumable(whole, **settings), _resumable(resumed, **settings)
    trainer(tmp_path / "whole", whole, [uninterrupted], **SAVING).train()
    with pytest.raises(StoppedError):
        trainer(tmp_path / "cut", cut, [_resumable(cut, **settings), StopAt(7)], **SAVING).train()
    trainer(tmp_path / "cut", resumed, [unlearning], **SAVING).train(
        resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-6")
    )
    assert unlearning.ledger == uninterrupted.ledger
    assert same_bits(weights(resumed), weights(whole))


def test_a_state_from_before_there_were_objectives(tmp_path: Path) -> None:
    """It has neither reference likelihoods nor norms: it goes on as what it was, and not as something else."""
    whole = tiny_llama()
    uninterrupted = _resumable(whole)
    trainer(tmp_path, whole, [uninterrupted], **SAVING).train()
    checkpoint = tmp_path / "checkpoint-3"
    state = SavedState.read(checkpoint / STATE_FILE, torch.device("cpu"))
    entries = [{k: v for k, v in entry.items() if k != "update_norm"} for entry in state.ledger.to_save()]
    old = SavedState(state.optimizer, Ledger(entries), None)
    old.write(checkpoint / STATE_FILE)
    resumed = tiny_llama(seed=5)
    unlearning = _resumable(resumed)
    trainer(tmp_path, resumed, [unlearning], **SAVING).train(resume_from_checkpoint=str(checkpoint))
    assert unlearning.ledger == uninterrupted.ledger
    assert same_bits(weights(resumed), weights(whole))

    old.write(checkpoint / STATE_FILE)
    with pytest.raises(LwfError, match=rf"{STATE_FILE}: was written without the reference likelihoods"):
        trainer(tmp_path, tiny_llama(), [_resumable(resumed, objective=NPO())], **SAVING).train(
            resume_from_checkpoint=str(checkpoint)
        )


def test_a_second_training_takes_a_reference_of_its_own(tmp_path: Path) -> None:
    unlearning = _resumable(tiny_llama(), objective=NPO(2.0))
    trainer(tmp_path, tiny_llama(seed=9), [unlearning], max_steps=4).train()
    second, fresh, alone = tiny_llama(), tiny_llama(), _resumable(tiny_llama(), objective=NPO(2.0))
    trainer(tmp_path, second, [unlearning], max_steps=4).train()
    trainer(tmp_path, fresh, [alone], max_steps=4).train()
    assert unlearning.ledger == alone.ledger
    assert same_bits(weights(second), weights(fresh))


def test_a_retained_loss_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    reference = tiny_llama()
    Poison(0).on_step_end(None, type("State", (), {"global_step": 0}), None, model=reference)
    retain = Retention(RETAINED, "kl", reference=reference)
    with pytest.raises(LwfError, match=r"retained samples became nan at step 2; .*forgetting_rate \(0.125\)"):
        trainer(tmp_path, tiny_llama(), [_resumable(reference, forgetting_rate=0.125, retain=retain)]).train()


def test_settings_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="one cap for all or one per sample is needed; got 8 for 9"):
        PeriodicUnlearning(FORGOTTEN, per_sample_cap=[1.0] * 8)
    for arguments, message in (
        ({"samples": []}, "nothing to retain"),
        ({"weight": 0.0}, "weight of the retention"),
        ({"weight": math.nan}, "weight of the retention"),
        ({"batch_size": 0}, "batch_size"),
        ({"kind": "mse"}, "'nll' or 'kl'"),
        ({"kind": "kl"}, "reference model goes with kind 'kl'"),
        ({"reference": object()}, "reference model goes with kind 'kl'"),
    ):
        with pytest.raises(ValueError, match=message):
            Retention(**{"samples": RETAINED} | arguments)


def test_a_model_cannot_be_its_own_reference(tmp_path: Path) -> None:
    model = tiny_llama()
    retain = Retention(RETAINED, "kl", reference=model)
    with pytest.raises(ValueError, match="a model of its own"):
        trainer(tmp_path, model, [_resumable(model, retain=retain)]).train()
