"""Batched, padded, sharded generation against token-by-token decoding of one prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from by_hand import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
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


def _drawn(prompts: Sequence[list[int]], *, model: PreTrainedModel | None = None, **settings: Any) -> list[list[int]]:
    arguments = {"max_new_tokens": NEW, "pad_id": 257, "end_ids": [256], "temperature": 1.0}
    return generate(model or tiny_llama(), prompts, **arguments | settings)


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    batch_size=st.integers(1, 8),
    top_p=st.sampled_from([1.0, 0.7]),
    order=st.randoms(use_true_random=False),
)
def test_a_response_does_not_depend_on_the_batch_the_order_or_the_other_prompts(
    lengths: list[int], batch_size: int, top_p: float, order: Random
) -> None:
    prompts = [[length, *range(10 + n, 10 + n + length)] for n, length in enumerate(lengths)]
    model = tiny_llama()
    alone = [_drawn([prompt], model=model, top_p=top_p)[0] for prompt in prompts]
    shuffled = order.sample(range(len(prompts)), len(prompts))
    responses = _drawn([prompts[n] for n in shuffled], model=model, batch_size=batch_size, top_p=top_p)
    assert responses == [alone[n] for n in shuffled]


def test_a_shorter_response_is_the_beginning_of_a_longer_one() -> None:
    longer = _drawn(_prompts())
    assert _drawn(_prompts(), max_new_tokens=4) == [response[:4] for response in longer]


def test_equal_prompts_are_drawn_for_one_by_one() -> None:
    """The n-th time that a prompt stands in the list, it gets its n-th response, whatever stands between."""
    responses = _drawn([[5, 6]] * 4, batch_size=1)
    assert len({tuple(response) for response in responses}) == 4
    mixed = _drawn([[5, 6], [7], [5, 6], [9, 9, 9], [5, 6], [5, 6]], batch_size=4)
    assert [mixed[n] for n in (0, 2, 4, 5)] == responses
    assert _drawn([[5, 6]]) == responses[:1]


def test_greedy_responses_to_equal_prompts_are_equal() -> None:
    first, second = _drawn([[5, 6]] * 2, temperature=None)
    assert first == second


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.8), (1.7, 0.5)])
def test_draws_follow_the_models_distribution(temperature: float, top_p: float) -> None:
    """Chi-square of 4,000 first tokens, drawn for one prompt, against the model's own probabilities, warped the slow
    way."""
    model, prompt = tiny_model("llama", spread=0.4), [3, 9, 4]
    with torch.no_grad():
        chances = torch.softmax(model(torch.tensor([prompt])).logits[0, -1].double() / temperature, -1).tolist()
    nucleus, mass = set[int](), 0.0
    for token in sorted(range(len(chances)), key=lambda token: -chances[token]):
        if mass < top_p:
            nucleus.add(token)
            mass += chances[token]
    draws = 4000
    responses = _drawn(
        [prompt] * draws,
        model=model,
        max_new_tokens=1,
        temperature=temperature,
        top_p=top_p,
        batch_size=500,
        end_ids=[],
    )
    counts = Counter(token for (token,) in responses)
    assert set(counts) <= nucleus
    frequent = [token for token in nucleus if chances[token] / mass * draws >= 8]
    observed = [counts[token] for token in frequent]
    expected = [chances[token] / mass * draws for token in frequent]
    if len(frequent) < len(nucleus):
        observed, expected = [*observed, draws - sum(observed)], [*expected, draws - sum(expected)]
    assert len(frequent) > 3
    assert chisquare(observed, expected).pvalue > 0.001


class _StopsAfter(Silent):
    def __init__(self, shards: int) -> None:
        self.left = shards

    def advance(self, amount: int = 1) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class _Counts(Silent):
    def __init__(self) -> None:
        self.advanced = 0

    def advance(self, amount: int = 1) -> None:
        self.advanced += amount


@pytest.mark.parametrize("batch_size", [3, 2, 5])
@pytest.mark.parametrize("temperature", [None, 1.0])
def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temperature: float | None, batch_size: int
) -> None:
    """Also with batches of another size, and past what a kill left half-written."""
    model = tiny_llama()
    expected = _sampled(model, temperature=temperature)
    with pytest.raises(KeyboardInterrupt):
        _sampled(model, temperature=temperature, shards=tmp_path, progress=_StopsAfter(1))
    assert len(list(tmp_path.glob("*.json"))) == 1
    (tmp_path / "shard-000003.unfinished").write_text("[[1, 2")  # what a kill in the middle of writing leaves

    rows: list[int] = []
    original = model.generate

    def counted(*, input_ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
        rows.append(len(input_ids))
        return original(input_ids=input_ids, **arguments)

    monkeypatch.setattr(model, "generate", counted)
    progress = _Counts()
    again = _sampled(model, temperature=temperature, shards=tmp_path, batch_size=batch_size, progress=progress)
    assert again == expected
    assert rows == {3: [3, 1], 2: [2, 2], 5: [4]}[batch_size]  # of seven prompts, the first three were there
    assert progress.advanced == 7
    rows.clear()
    assert _sampled(model, temperature=temperature, shards=tmp_path) == expected
    assert rows == []
    damaged = tmp_path / "shard-000001.json"  # named by its first prompt, the longest
    damaged.write_text(damaged.read_text().replace("[", "[9, ", 1))
    assert _sampled(model, temperature=temperature, shards=tmp_path) == expected
    assert rows == [3]


class _Full:
    """A device on which only so many rows fit."""

    def __init__(self, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, *, fit: int) -> None:
        self.rows: list[int] = []
        original = model.generate

        def limited(*, input_ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
            self.rows.append(len(input_ids))
            if len(input_ids) > fit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(input_ids=input_ids, **arguments)

        monkeypatch.setattr(model, "generate", limited)


def test_a_batch_that_does_not_fit_is_halved_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_llama()
    expected = _sampled(model)
    device = _Full(model, monkeypatch, fit=3)
    assert _sampled(model, batch_size=lambda longest: 6 if longest == 20 + NEW else 1) == expected
    assert device.rows == [6, 3, 3, 1]
    assert [record.message for record in caplog.records if "do not fit" in record.message] == [
        "6 prompts at once do not fit into the device's memory; going on with 3"
    ]


@pytest.mark.parametrize(("fit", "tried"), [(2, [6, 3]), (0, [1])])
def test_one_that_still_does_not_fit_ends_the_work(fit: int, tried: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama()
    device = _Full(model, monkeypatch, fit=fit)
    with pytest.raises(torch.OutOfMemoryError, match=rf"a batch of {tried[-1]} .*generation\.batch_size"):
        _sampled(model, batch_size=tried[0])
    assert device.rows == tried


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
