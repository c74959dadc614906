"""Batched, padded, sharded generation against token-by-token decoding of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import tiny_model
from tiny import tiny_llama
from transformers import GenerationConfig, PreTrainedModel

from lwf_assets.engine.generation import end_token_ids, generate
from lwf_assets.progress import Silent

NEW = 12


def _prompts(lengths: Sequence[int] = (1, 20, 3, 3, 8, 13, 2), *, vocabulary: int = 61) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(2, vocabulary, (length,), generator=generator).tolist() for length in lengths]


@torch.no_grad()
def _greedy_by_hand(model: PreTrainedModel, prompt: list[int], end_ids: Sequence[int] = ()) -> list[int]:
    """The likeliest next token, again and again, with no cache and no padding."""
    row = list(prompt)
    while len(row) < len(prompt) + NEW:
        row.append(int(model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1].argmax()))
        if row[-1] in end_ids:
            break
    return row[len(prompt) :]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "gemma", "opt", "mixtral"])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_greedy_decoding_is_that_of_single_prompts(architecture: str, batch_size: int) -> None:
    """Padding shifts positions; OPT and GPT-2 learn theirs, the others rotate."""
    model = tiny_model(architecture, spread=0.4)
    responses = generate(model, _prompts(), max_new_tokens=NEW, pad_id=1, end_ids=[], batch_size=batch_size)
    assert responses == [_greedy_by_hand(model, prompt) for prompt in _prompts()]
    assert len({tuple(response) for response in responses}) > 3


def test_greedy_decoding_is_that_of_transformers() -> None:
    model = tiny_model("llama", spread=0.4)
    responses = generate(model, _prompts(), max_new_tokens=NEW, pad_id=1, end_ids=[7], batch_size=4)
    for prompt, response in zip(_prompts(), responses, strict=True):
        config = GenerationConfig(do_sample=False, max_new_tokens=NEW, pad_token_id=1, eos_token_id=7)
        row = model.generate(torch.tensor([prompt]), generation_config=config)[0, len(prompt) :].tolist()
        assert response == row


@pytest.mark.parametrize("pad_is_end", [False, True])
def test_a_response_stops_with_its_end_token(pad_is_end: bool) -> None:
    """Also where padding is made of end tokens, as for a tokenizer without a padding token."""
    model, prompts = tiny_model("llama", spread=0.4), _prompts()
    free = [_greedy_by_hand(model, prompt) for prompt in prompts]
    end_ids = [next(token for token in free[0][2:] if sum(token in response for response in free) < len(free))]
    responses = generate(
        model, prompts, max_new_tokens=NEW, pad_id=end_ids[0] if pad_is_end else 1, end_ids=end_ids, batch_size=16
    )
    assert responses == [_greedy_by_hand(model, prompt, end_ids) for prompt in prompts]
    assert any(len(response) < NEW for response in responses)
    assert any(len(response) == NEW and response[-1] not in end_ids for response in responses)


def _sampled(model: PreTrainedModel, *, seed: int = 0, **settings: Any) -> list[list[int]]:
    arguments = {"max_new_tokens": NEW, "pad_id": 257, "end_ids": [], "temperature": 1.0, "batch_size": 3}
    return generate(model, _prompts(), seed=seed, **arguments | settings)


def test_draws_follow_from_the_seed_alone() -> None:
    model = tiny_llama()
    torch.manual_seed(1)
    first = _sampled(model, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert _sampled(model, seed=5) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert _sampled(model, seed=6) != first


def test_batches_draw_differently() -> None:
    model = tiny_llama()
    responses = generate(
        model,
        [[5, 6]] * 4,
        max_new_tokens=NEW,
        pad_id=257,
        end_ids=[],
        temperature=1.0,
        batch_size=1,
    )
    assert len({tuple(response) for response in responses}) == 4


class _StopsAfter(Silent):
    def __init__(self, shards: int) -> None:
        self.left = shards

    def advance(self, amount: int = 1) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("temperature", [None, 1.0])
def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temperature: float | None
) -> None:
    model = tiny_llama()
    expected = _sampled(model, temperature=temperature)
    with pytest.raises(KeyboardInterrupt):
        _sampled(model, temperature=temperature, shards=tmp_path, progress=_StopsAfter(1))
    assert len(list(tmp_path.glob("*.json"))) == 1
    (tmp_path / "shard-00001.unfinished").write_text("[[1, 2")  # what a kill in the middle of writing leaves

    rows: list[int] = []
    original = model.generate

    def counted(*, input_ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
        rows.append(len(input_ids))
        return original(input_ids=input_ids, **arguments)

    monkeypatch.setattr(model, "generate", counted)
    assert _sampled(model, temperature=temperature, shards=tmp_path) == expected
    assert rows == [3, 1]  # of seven prompts in batches of three, the first batch was there
    rows.clear()
    assert _sampled(model, temperature=temperature, shards=tmp_path) == expected
    assert rows == []


def _indifferent() -> PreTrainedModel:
    """A model to which all 259 tokens are as good as equally likely, always: a cut to the likeliest keeps ties."""
    model = tiny_llama(tied=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.get_input_embeddings().weight.fill_(1)
        model.model.norm.weight.fill_(1)
        model.lm_head.weight.copy_(torch.linspace(0, 1e-4, len(model.lm_head.weight))[:, None])
    return model


def _different_tokens(responses: list[list[int]]) -> int:
    return len({token for response in responses for token in response})


def test_temperature_one_draws_from_the_whole_distribution() -> None:
    """350 fair draws of 259 tokens give about 192 different ones; draws of the 50 likeliest would give 50."""
    responses = _sampled(_indifferent(), max_new_tokens=50)
    assert 170 < _different_tokens(responses) < 215


def test_the_nucleus_narrows_the_draws() -> None:
    assert _different_tokens(_sampled(_indifferent(), max_new_tokens=50, top_p=0.1)) <= 27


def test_a_low_temperature_comes_close_to_greedy() -> None:
    model = tiny_llama()
    assert _sampled(model, temperature=1e-4) == _sampled(model, temperature=None)


@pytest.mark.parametrize("temperature", [None, 1.0])
def test_generation_settings_that_come_with_the_model_do_not_count(temperature: float | None) -> None:
    """Published models bring such habits along; the model's own distribution is the one without."""
    model, expected = tiny_llama(), _sampled(tiny_llama(), temperature=temperature)
    habits = GenerationConfig(
        do_sample=True,
        temperature=0.3,
        top_k=5,
        top_p=0.5,
        min_p=0.2,
        repetition_penalty=1.8,
        no_repeat_ngram_size=1,
        suppress_tokens=expected[0][:2],
        max_length=7,
        num_return_sequences=1,
        eos_token_id=expected[0][3],
    )
    model.generation_config = habits
    before = habits.to_dict()
    assert _sampled(model, temperature=temperature) == expected
    assert model.generation_config is habits
    assert habits.to_dict() == before


@pytest.mark.parametrize(("configured", "expected"), [(None, [9]), (4, [4, 9]), ([9, 4, 2], [2, 4, 9])])
def test_end_tokens_are_the_models_and_the_tokenizers(configured: Any, expected: list[int]) -> None:
    model = tiny_llama()
    model.generation_config = GenerationConfig(eos_token_id=configured)
    assert end_token_ids(model, 9) == expected


def test_no_prompts() -> None:
    assert generate(tiny_llama(), [], max_new_tokens=3, pad_id=0, end_ids=[]) == []
