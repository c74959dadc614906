"""Each kind of arm against the obvious: what it forgets, how far it moves, and where it starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from armed import SEEDS, Armed, furthest, samples_of, weights
from tiny import load_tiny, random_samples, tiny_llama

from lwf_assets.engine.checkpoint import load_model, load_tokenizer
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.samples import Context, encode_sample
from lwf_assets.engine.training.fine_tune import fine_tune
from lwf_assets.engine.training.weight_noise import WeightNoise
from lwf_assets.errors import LwfError
from lwf_assets.fine_tuning import forgetting as forgetting_fine_tune
from lwf_assets.fine_tuning.arms import bss, l2_sp, random_tokens, weight_decay
from lwf_assets.fine_tuning.forgetting import choose_forget_set, learn_with_forgetting
from lwf_assets.graph.work import encode_rows
from lwf_assets.store.layout import FORGET_SET, LEARNING_CURVES, TRAIN_ROWS, VALIDATION_CURVE, VALIDATION_ROWS
from lwf_assets.store.tables import read_rows
from lwf_assets.study.arms import RandomTokensArm
from lwf_assets.study.sections import RetentionSettings, TrainingSettings, UnlearningSettings
from lwf_assets.tasks.task import Task

STEPS = [2, 4, 6]
FORGETTING_ARMS = ("low", "drawn", "steep", "upfront", "npo", "simnpo", "retaining", "tokens")


def terms(armed: Armed) -> list[dict[str, Any]]:
    return read_rows(armed.path("confidence_terms", "teeth|sums") / "confidence_terms.parquet")


def confidence(row: dict[str, Any], alpha: float) -> float:
    return float(row["constant"] - alpha * row["linear"] + alpha**2 * row["quadratic"])


def ranked(armed: Armed, alpha: float) -> list[str]:
    """Samples by FC, the highest first."""
    return [row["id"] for row in sorted(terms(armed), key=lambda row: -confidence(row, alpha))]


def chosen(armed: Armed, arm: str) -> list[str]:
    rows = read_rows(armed.arm(arm) / FORGET_SET)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["id"] for row in rows if row["selected"]]


def first_losses(checkpoint: Path) -> dict[int, float]:
    return {row["seed"]: row["loss"] for row in read_rows(checkpoint / LEARNING_CURVES) if row["step"] == 1}


def test_low_unlearns_the_other_end_of_the_ranking(armed: Armed) -> None:
    order = ranked(armed, armed.study.training.learning_rate)
    scored = read_rows(armed.path("scored_forget_set", "teeth|sums") / FORGET_SET)
    half = round(len(order) / 2)
    assert [row["id"] for row in scored if row["selected"]] == order[:half]
    assert chosen(armed, "low") == order[::-1][:half]
    unlearned = {row["sample_id"] for row in armed.ledger(armed.arm("low"))}
    assert unlearned
    assert unlearned <= set(order[-half:])


def test_a_random_choice_follows_from_its_seed(armed: Armed) -> None:
    order = sorted((row["id"] for row in terms(armed)), key=lambda name: hashlib.md5(f"5/{name}".encode()).hexdigest())
    half = round(len(order) / 2)
    assert chosen(armed, "drawn") == order[:half]
    assert {row["sample_id"] for row in armed.ledger(armed.arm("drawn"))} <= set(order[:half])


def test_another_alpha_and_count_choose_anew(armed: Armed) -> None:
    order = ranked(armed, 50.0)
    assert order != ranked(armed, armed.study.training.learning_rate)
    assert chosen(armed, "steep") == order[:2]
    rows = {row["id"]: row for row in terms(armed)}
    for row in read_rows(armed.arm("steep") / FORGET_SET):
        assert row["forgetting_confidence"] == pytest.approx(confidence(rows[row["id"]], 50.0), rel=1e-9)


def test_upfront_unlearns_as_often_and_all_before_the_first_step(armed: Armed) -> None:
    for seed in SEEDS:
        steps = {row["step"] for row in armed.ledger(armed.arm("upfront"), seed)}
        assert steps == {-2, -1, 0}
        assert {row["step"] for row in armed.ledger(armed.path("lwf_checkpoint", "teeth|sums"), seed)} == {*STEPS}


def test_random_tokens_are_unlearned_at_the_steps_of_lwf_and_as_many(armed: Armed) -> None:
    def turns(checkpoint: Path) -> list[tuple[int, int, str]]:
        return sorted((row["seed"], row["step"], row["sample_id"]) for row in armed.ledger(checkpoint))

    lwf = armed.path("lwf_checkpoint", "teeth|sums")
    assert turns(armed.arm("tokens")) == turns(lwf)
    before = {(r["seed"], r["step"], r["sample_id"]): r["nll_before"] for r in armed.ledger(lwf)}
    for row in armed.ledger(armed.arm("tokens")):  # other samples under the same names
        assert abs(row["nll_before"] - before[row["seed"], row["step"], row["sample_id"]]) > 1e-3


def test_random_tokens_have_the_lengths_of_the_samples_and_caps_as_far_above_their_start(
    armed: Armed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [
        {"id": str(n), "prompt_ids": [7] * 200, "response_ids": [9] * (n + 1), "selected": n % 2 == 0, "nll": 0.1 * n}
        for n in range(60)
    ]
    taken: dict[str, Any] = {}

    def take(work: Any, rows: Any, settings: UnlearningSettings, *, caps: Any) -> dict[str, Any]:
        taken.update(rows=rows, settings=settings, caps=caps)
        return {}

    monkeypatch.setattr(forgetting_fine_tune, "choose_forget_set", lambda work, settings: long)
    monkeypatch.setattr(forgetting_fine_tune, "learn_with_forgetting", take)
    work = armed.work("arm_checkpoint", "tokens.teeth|sums", tmp_path)
    arm = armed.study.arms["tokens"]
    assert isinstance(arm, RandomTokensArm)
    random_tokens.fine_tune(work, arm)
    rows = taken["rows"]
    for drawn, row in zip(rows, long, strict=True):
        assert [len(drawn[key]) for key in ("prompt_ids", "response_ids")] == [200, len(row["response_ids"])]
        assert (drawn["prompt_ids"] == row["prompt_ids"]) == (not row["selected"])
    drawn_tokens = {token for row in rows if row["selected"] for token in row["prompt_ids"] + row["response_ids"]}
    tokenizer = load_tokenizer(work.input("base_model"))
    assert set(tokenizer.all_special_ids) == {256, 257}
    assert drawn_tokens == set(range(256))  # the model knows 258 too, which the tokenizer does not
    new = [row for row in rows if row["selected"]]
    own = negative_log_likelihoods(load_model(work.input("base_model")), samples_of(new))
    old = [row["nll"] for row in long if row["selected"]]
    assert [cap - nll for cap, nll in zip(taken["caps"], own, strict=True)] == pytest.approx(
        [taken["settings"].per_sample_cap - nll for nll in old]
    )
    again = dict(taken)
    random_tokens.fine_tune(work, arm)
    assert taken["rows"] == again["rows"]
    random_tokens.fine_tune(work, arm.model_copy(update={"seed": 1}))
    assert taken["rows"] != again["rows"]


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_is_as_large_as_the_update_of_lwf_at_the_same_steps(armed: Armed, seed: int, tmp_path: Path) -> None:
    ledger = armed.ledger(armed.path("lwf_checkpoint", "teeth|sums"), seed)
    norms = {row["step"]: row["update_norm"] for row in ledger}
    assert sorted(norms) == STEPS
    assert all(norm > 0 for norm in norms.values())
    work = armed.work("arm_checkpoint", "noise.teeth|sums", tmp_path)
    model, tokenizer = load_model(work.input("base_model")), load_tokenizer(work.input("base_model"))
    train = encode_rows(work, work.input("learning_data") / TRAIN_ROWS, model, tokenizer)
    noise, pad_id = WeightNoise(norms, seed=seed), tokenizer.pad_token_id
    settings = work.study.training
    fine_tune(
        model, train, **settings.arguments(), seed=seed, folder=tmp_path / "by-hand", pad_id=pad_id, callbacks=[noise]
    )
    model.save_pretrained(tmp_path / f"seed-{seed}")
    assert furthest(weights(tmp_path, seed), weights(armed.arm("noise"), seed)) == 0
    assert furthest(weights(armed.path("reference_checkpoint", "sums"), seed), weights(armed.arm("noise"), seed)) > 0


def test_extra_steps_learn_once_more_for_each_unlearning_step(armed: Armed) -> None:
    curve = read_rows(armed.arm("longer") / LEARNING_CURVES)
    for seed in SEEDS:
        mine = [row for row in curve if row["seed"] == seed]
        assert [row["step"] for row in mine] == list(range(1, 6 + 6 // 2 + 1))
        assert mine[0]["learning_rate"] == 0.01
        assert mine[-1]["learning_rate"] == pytest.approx(0.01 / 9)  # the schedule stretches over all of them


@pytest.mark.parametrize(
    ("rows", "epochs", "batch_size", "accumulation"), [(10, 2.0, 3, 1), (10, 1.5, 3, 2), (7, 0.4, 2, 3), (3, 1.0, 8, 2)]
)
def test_steps_of_a_training_by_epochs_are_counted_as_the_trainer_counts(
    rows: int, epochs: float, batch_size: int, accumulation: int, tmp_path: Path
) -> None:
    settings = TrainingSettings(
        epochs=epochs, batch_size=batch_size, gradient_accumulation=accumulation, autocast="off"
    )
    curve = fine_tune(tiny_llama(layers=1), random_samples(rows), **settings.arguments(), seed=0, folder=tmp_path)
    assert settings.optimizer_steps(rows) == curve[-1].step


BASELINES: dict[str, Callable[..., Any]] = {
    "bss": bss.fine_tune,
    "l2_sp": l2_sp.fine_tune,
    "decay": weight_decay.fine_tune,
}


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_without_weight_is_the_reference(armed: Armed, name: str, tmp_path: Path) -> None:
    reference = armed.path("reference_checkpoint", "sums")
    for seed in SEEDS:
        assert furthest(weights(armed.arm(name), seed), weights(reference, seed)) > 1e-5
    work = armed.work("arm_checkpoint", f"{name}|sums", tmp_path)
    BASELINES[name](work, armed.study.arms[name].model_copy(update={"weight": 1e-12}))
    # Adam turns what is left of the gradients into a step, however small the penalty.
    assert furthest(weights(work.out), weights(reference)) < 0.1 * furthest(
        weights(armed.arm(name)), weights(reference)
    )


def test_weight_decay_pulls_to_zero_and_l2_sp_to_the_base(armed: Armed) -> None:
    def size(checkpoint: Path) -> float:
        return float(sum(value.square().sum().item() for value in weights(checkpoint).values()))

    reference = armed.path("reference_checkpoint", "sums")
    assert size(armed.arm("decay")) < size(reference)
    base = load_tiny(armed.path("base_model")).state_dict()
    moved = {
        name: sum((value - base[key]).square().sum().item() for key, value in weights(path).items())
        for name, path in (("l2_sp", armed.arm("l2_sp")), ("reference", reference))
    }
    assert moved["l2_sp"] < moved["reference"]


def validation_nll(armed: Armed, base: Path, scratch: Path) -> float:
    work = armed.work("arm_checkpoint", "taught|sums", scratch)
    model, tokenizer = load_model(base), load_tokenizer(base)
    rows = encode_rows(work, work.input("learning_data") / VALIDATION_ROWS, model, tokenizer)
    losses = negative_log_likelihoods(model, rows)
    return sum(losses) / len(losses)


def test_another_base_is_where_its_arm_starts(armed: Armed, tmp_path: Path) -> None:
    def start(checkpoint: Path) -> list[float]:
        return [row["nll"] for row in read_rows(checkpoint / VALIDATION_CURVE) if row["step"] == 0]

    control = validation_nll(armed, armed.path("control_base", "letters"), tmp_path / "control")
    base = validation_nll(armed, armed.path("base_model"), tmp_path / "base")
    assert start(armed.arm("taught")) == pytest.approx([control, control])
    assert start(armed.path("reference_checkpoint", "sums")) == pytest.approx([base, base])
    assert abs(control - base) > 1e-3


@pytest.mark.parametrize(
    ("asset", "key", "prior"), [("base_model", None, "legs"), ("control_base", "letters", "letters")]
)
def test_a_base_knows_what_it_was_taught(armed: Armed, asset: str, key: str | None, prior: str) -> None:
    artifact = armed.artifact(asset, key)
    tokenizer = load_tokenizer(artifact.path)
    (task,) = armed.study.priors[prior].tasks.values()
    samples = [
        encode_sample(tokenizer, row.prompt, row.target, context=Context(256), row_id=row.id)
        for rows in Task("old", task).learning_rows()  # nothing is held out: there is nothing to watch
        for row in rows
    ]
    taught = negative_log_likelihoods(load_model(artifact.path), samples)
    before = negative_log_likelihoods(load_model(armed.folder / "model"), samples)
    assert artifact.manifest.summary["prior_nll"] == pytest.approx(sum(taught) / len(taught))
    assert artifact.manifest.summary["prior_rows"] == len(samples) == 16 + 1
    assert sum(taught) < sum(before) - len(samples)


def test_every_model_of_a_seed_learns_from_the_same_batches(armed: Armed) -> None:
    losses = first_losses(armed.path("reference_checkpoint", "sums"))
    assert len(set(losses.values())) == len(SEEDS)
    assert first_losses(armed.path("lwf_checkpoint", "teeth|sums")) == losses
    for name in armed.study.arms:
        own = first_losses(armed.arm(name))
        # Unlearning upfront and another base come before the first step.
        assert (own == losses) == (name not in ("upfront", "taught")), name


def test_every_arm_ends_as_a_model_of_its_own(armed: Armed) -> None:
    checkpoints = {name: armed.arm(name) for name in armed.study.arms}
    checkpoints["reference"] = armed.path("reference_checkpoint", "sums")
    checkpoints["lwf"] = armed.path("lwf_checkpoint", "teeth|sums")
    for seed in SEEDS:
        contents = {(path / f"seed-{seed}" / "model.safetensors").read_bytes() for path in checkpoints.values()}
        assert len(contents) == len(checkpoints)


def test_only_those_that_forget_keep_a_ledger_and_a_forget_set(armed: Armed) -> None:
    for name in armed.study.arms:
        forgets = name in FORGETTING_ARMS
        assert (armed.arm(name) / FORGET_SET).is_file() == forgets
        assert (armed.arm(name) / "seed-0" / "unlearning_ledger.parquet").is_file() == forgets


def test_there_must_be_something_left_to_retain(armed: Armed, tmp_path: Path) -> None:
    work = armed.work("arm_checkpoint", "retaining.teeth|sums", tmp_path)
    rows = choose_forget_set(work, armed.study.confidence.model_copy(update={"selection_ratio": 1.0}))
    settings = armed.study.unlearning.model_copy(update={"retain": RetentionSettings()})
    with pytest.raises(LwfError, match="every scored sample is forgotten, so none is left to retain; lower"):
        learn_with_forgetting(work, rows, settings)
