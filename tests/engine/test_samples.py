"""Samples, their batches, and how texts become samples."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import random_samples, tiny_llama, tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lwf_assets.engine.samples import IGNORED, Context, Sample, batches_by_length, collate, encode_sample
from lwf_assets.errors import LwfError

_ids = st.lists(st.integers(0, 99), min_size=1, max_size=9)
_samples = st.lists(st.builds(Sample, _ids, _ids), min_size=1, max_size=6)


@given(samples=_samples, pad_id=st.integers(0, 99))
def test_collate_labels_the_response_alone(samples: list[Sample], pad_id: int) -> None:
    batch = collate(samples, pad_id=pad_id)
    longest = max(len(sample) for sample in samples)
    for row, sample in enumerate(samples):
        padding = longest - len(sample)
        assert batch.input_ids[row].tolist() == sample.prompt_ids + sample.response_ids + [pad_id] * padding
        assert batch.attention_mask[row].tolist() == [1] * len(sample) + [0] * padding
        expected = [IGNORED] * len(sample.prompt_ids) + sample.response_ids + [IGNORED] * padding
        assert batch.labels[row].tolist() == expected


@given(
    samples=st.lists(st.builds(Sample, _ids, _ids), max_size=20),
    token_budget=st.integers(1, 60),
    batch_size=st.none() | st.integers(1, 8),
)
def test_batches_by_length(samples: list[Sample], token_budget: int, batch_size: int | None) -> None:
    batches = [[len(samples[i]) for i in batch] for batch in batches_by_length(samples, token_budget, batch_size)]
    flat = [i for batch in batches_by_length(samples, token_budget, batch_size) for i in batch]
    assert sorted(flat) == list(range(len(samples)))
    assert [len(samples[i]) for i in flat] == sorted(map(len, samples), reverse=True)
    most = batch_size or len(samples)
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len(batch) * batch[0] <= token_budget or len(batch) == 1
        assert 2 * batch[-1] >= batch[0]
    for batch, following in pairwise(batches):  # none ends early
        fits = (len(batch) + 1) * batch[0] <= token_budget and len(batch) < most
        assert not fits or 2 * following[0] < batch[0]


def test_a_sample_needs_a_loss() -> None:
    with pytest.raises(ValueError, match="at least one response token"):
        Sample([1, 2], [])
    with pytest.raises(ValueError, match="nothing stands before"):
        Sample([], [1])
    assert len(Sample([], [1, 2])) == 2


def _merging_tokenizer() -> PreTrainedTokenizerFast:
    """Characters, the merge of a space with a following x, and a token that begins every text."""
    alphabet = ["<begin>", "<end>", *"abx:", "Ġ", "Ġx"]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(alphabet)}, merges=[("Ġ", "x")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="<begin> $A", special_tokens=[("<begin>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<begin>", eos_token="<end>")


def test_prompt_and_target_are_tokenised_together() -> None:
    """By itself the target would be `x`, which the model never writes after a space; and it would begin a text."""
    tokenizer = _merging_tokenizer()
    sample = encode_sample(tokenizer, "ab:", "xa", context=Context(100), row_id="r")
    assert tokenizer.convert_ids_to_tokens(sample.prompt_ids) == ["<begin>", "a", "b", ":"]
    assert tokenizer.convert_ids_to_tokens(sample.response_ids) == ["Ġx", "a", "<end>"]


@given(prompt=st.text(min_size=1, max_size=20), target=st.text(min_size=1, max_size=20))
def test_a_sample_reads_as_its_text_and_ends(prompt: str, target: str) -> None:
    tokenizer = tiny_tokenizer()
    sample = encode_sample(tokenizer, prompt, target, context=Context(1000), row_id="r")
    assert sample.response_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(sample.prompt_ids) == prompt
    assert tokenizer.decode(sample.response_ids[:-1]) == f" {target}"


def test_a_prompt_that_does_not_fit_is_an_error_with_its_row_and_lengths() -> None:
    context = Context(max_length=10)
    assert context.fit([1] * 7, room=3, row_id="r") == [1] * 7
    with pytest.raises(LwfError, match=r"row 'sums-12'.* 8 tokens and 3 more .* context is 10") as error:
        context.fit([1] * 8, room=3, row_id="sums-12")
    assert "model.truncate_prompts" in str(error.value)


def test_a_prompt_is_cut_from_the_left_when_asked() -> None:
    context = Context(max_length=10, truncate_prompts=True)
    assert context.fit(list(range(8)), room=3, row_id="r") == [1, 2, 3, 4, 5, 6, 7]
    assert context.fit(list(range(8)), room=9, row_id="r") == [7]
    with pytest.raises(LwfError, match="row 'r'"):
        context.fit(list(range(8)), room=10, row_id="r")


@given(length=st.integers(1, 40), target=st.integers(1, 20), limit=st.integers(2, 30))
def test_no_sample_is_longer_than_the_context(length: int, target: int, limit: int) -> None:
    """The response and its end always stay whole."""
    tokenizer, text = tiny_tokenizer(), "y" * target
    context = Context(limit, truncate_prompts=True)
    if target + 3 > limit:
        with pytest.raises(LwfError, match="row 'r'"):
            encode_sample(tokenizer, "p" * length + "!" * 40, text, context=context, row_id="r")
    else:
        sample = encode_sample(tokenizer, "p" * length + "!", text, context=context, row_id="r")
        assert len(sample) == min(length + 1 + target + 2, limit)
        assert tokenizer.decode(sample.prompt_ids).endswith("!")
        assert tokenizer.decode(sample.response_ids) == f" {text}<end>"


def test_the_context_is_the_models_or_a_shorter_one() -> None:
    model = tiny_llama()
    assert Context.of_model(model, max_length=None, truncate_prompts=True) == Context(256, truncate_prompts=True)
    assert Context.of_model(model, max_length=256, truncate_prompts=False) == Context(256)
    assert Context.of_model(model, max_length=30, truncate_prompts=False).max_length == 30
    with pytest.raises(LwfError, match=r"model.max_length: 257 .* 256"):
        Context.of_model(model, max_length=257, truncate_prompts=False)


def test_random_samples_hold_one_token_responses() -> None:
    """The other tests rely on it."""
    assert any(len(sample.response_ids) == 1 for sample in random_samples(3))
