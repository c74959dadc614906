"""Scoring a model on test rows against one forward pass a choice, and a model that has learned its rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from by_hand import in_float64, loss_by_hand
from tiny import tiny_llama, tiny_tokenizer

from lwf_assets.engine.evaluation.answers import greedy_responses, likeliest_choices
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.samples import Context, Sample, encode_sample
from lwf_assets.engine.training.fine_tune import fine_tune
from lwf_assets.errors import LwfError
from lwf_assets.measuring.answered_items import evaluate
from lwf_assets.progress import Silent
from lwf_assets.study.sections import TrainingSettings
from lwf_assets.tasks.rows import TestRow
from lwf_assets.tasks.settings import TaskSettings

CONTEXT = Context(256)


def _task(scorer: str, choices: tuple[str, ...] = ()) -> TaskSettings:
    source = {"kind": "file", "prompts": "unused.jsonl"}
    return TaskSettings(source=source, scorer=scorer, choices=list(choices), max_new_tokens=6)


def _row(number: int, prompt: str, target: str, choices: tuple[str, ...] = ()) -> TestRow:
    return TestRow(f"row-{number}", prompt, target, target, choices, json.dumps({"stop": []}))


CHOICES = ("no", "perhaps", "certainly not", "y", "yes")
ROWS = [
    _row(n, prompt, "no", CHOICES) for n, prompt in enumerate(["Is it?", "a much longer question: is it?", "b", "?"])
]
ASKED = [(row.id, row.prompt) for row in ROWS], [row.choices for row in ROWS]


@torch.no_grad()
@pytest.mark.parametrize("token_budget", [1, 100, 3000])
def test_the_likeliest_choice_is_that_of_single_rows(token_budget: int) -> None:
    """Log-likelihoods are summed over a choice's tokens, the end of the text not among them."""
    model, tokenizer = tiny_llama(seed=3), tiny_tokenizer()
    precise, expected = in_float64(model), []
    for row in ROWS:
        prompt = tokenizer(row.prompt)["input_ids"]
        samples = {choice: Sample(prompt, tokenizer(f" {choice}")["input_ids"]) for choice in CHOICES}
        losses = {choice: loss_by_hand(precise, sample, "sum").item() for choice, sample in samples.items()}
        expected.append(min(losses, key=losses.__getitem__))
    assert likeliest_choices(model, tokenizer, *ASKED, context=CONTEXT, token_budget=token_budget) == expected


@torch.no_grad()
def test_a_choice_need_not_end_the_text() -> None:
    """A model to which the end is out of the question after one choice, and certain after none."""
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    plain = likeliest_choices(model, tokenizer, *ASKED, context=CONTEXT)
    end = tokenizer.eos_token_id
    untied = tiny_llama(tied=False)
    untied.load_state_dict(model.state_dict() | {"lm_head.weight": model.get_input_embeddings().weight.clone()})
    untied.lm_head.weight[end] *= 100
    assert likeliest_choices(untied, tokenizer, *ASKED, context=CONTEXT) == plain


def test_choices_are_judged() -> None:
    model, tokenizer = tiny_llama(seed=3), tiny_tokenizer()
    taken = likeliest_choices(model, tokenizer, *ASKED, context=CONTEXT)
    rows = [_row(n, row.prompt, taken[n] if n < 2 else "perhaps", CHOICES) for n, row in enumerate(ROWS)]
    results = evaluate(model, tokenizer, rows, _task("choice", CHOICES), context=CONTEXT, batch_size=3)
    assert [result.response for result in results] == taken
    assert [result.score.correct for result in results] == [float(taken[n] == row.answer) for n, row in enumerate(rows)]
    assert [result.score.correct for result in results[:2]] == [1, 1]


class _Counts(Silent):
    def __init__(self) -> None:
        self.advanced = 0

    def advance(self, amount: int = 1) -> None:
        self.advanced += amount


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_a_model_that_has_learned_its_rows_answers_them(tmp_path: Path, batch_size: int) -> None:
    """From text to score: what the fine-tune teaches is what the evaluation asks for, end of text included."""
    tokenizer = tiny_tokenizer()
    rows = [_row(0, "two", "2"), _row(1, "and eleven", "11"), _row(2, "ten?", "10"), _row(3, "x", "5")]
    model = tiny_llama()
    samples = [encode_sample(tokenizer, row.prompt, row.target, context=CONTEXT, row_id=row.id) for row in rows[:3]]
    settings = TrainingSettings(max_steps=60, batch_size=3, learning_rate=1e-2, autocast="off")
    fine_tune(model, samples, **settings.arguments(), seed=0, folder=tmp_path)
    progress = _Counts()
    results = evaluate(
        model.eval(), tokenizer, rows, _task("exact"), context=CONTEXT, batch_size=batch_size, progress=progress
    )
    assert [result.id for result in results] == [row.id for row in rows]
    assert [result.score.correct for result in results] == [1, 1, 1, 0]
    assert [result.response for result in results[:3]] == [" 2", " 11", " 10"]
    assert all(result.target_nll < 0.3 for result in results[:3])
    assert results[3].target_nll > 1
    assert [result.target_nll for result in results[:3]] == pytest.approx(
        negative_log_likelihoods(model, samples), rel=1e-4
    )
    assert progress.advanced == 4


def test_prompts_are_cut_when_asked_so_that_the_answer_fits() -> None:
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    prompts = [("row-0", "a long prompt that ends so")]
    with pytest.raises(LwfError, match="row 'row-0'"):
        greedy_responses(model, tokenizer, prompts, max_new_tokens=6, context=Context(16))
    cut = greedy_responses(model, tokenizer, prompts, max_new_tokens=6, context=Context(16, truncate_prompts=True))
    end = [("row-0", prompts[0][1][-10:])]
    assert cut == greedy_responses(model, tokenizer, end, max_new_tokens=6, context=Context(16))
