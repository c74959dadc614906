"""What a model knows of a text, against loops over samples and tokens."""

from __future__ import annotations

import pytest
import torch
from by_hand import loss_by_hand, samples_of_all_lengths, tiny_model
from tiny import random_samples, tiny_llama

from lwf_assets.engine.evaluation.memorization import memorisation
from lwf_assets.engine.row_separation import check_row_separation
from lwf_assets.engine.samples import Sample


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("token_budget", [1, 60, 2048])
def test_what_is_known_of_a_sample(architecture: str, token_budget: int) -> None:
    """Token by token. Half of each response is what the model would say itself, so that shares are between 0 and 1."""
    model, samples = tiny_model(architecture), []
    for number, sample in enumerate(samples_of_all_lengths(8)):
        row = list(sample.prompt_ids)
        for position, token in enumerate(sample.response_ids):
            with torch.no_grad():
                likeliest = model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1].argmax().item()
            row.append(likeliest if (position + number) % 2 else token)
        samples.append(Sample(sample.prompt_ids, row[len(sample.prompt_ids) :]))
    expected = []
    for sample in samples:
        hits = 0
        for length, token in enumerate(sample.response_ids):
            prefix = torch.tensor([sample.prompt_ids + sample.response_ids[:length]])
            with torch.no_grad():
                hits += model(input_ids=prefix, use_cache=False).logits[0, -1].argmax().item() == token
        expected.append(hits / len(sample.response_ids))
    model.train()
    known = memorisation(model, samples, token_budget=token_budget)
    assert model.training
    assert [one.memorised for one in known] == pytest.approx(expected)
    model.eval()
    assert [one.nll for one in known] == pytest.approx([loss_by_hand(model, s).item() for s in samples], rel=1e-5)
    assert 0 in expected
    assert len({round(share, 3) for share in expected}) > 3


def test_samples_that_are_alike_are_looked_at_once() -> None:
    model, samples = tiny_llama(), random_samples(6, seed=3)
    check_row_separation(model, samples)  # once for each model, and not counted
    rows = 0

    def count(module: torch.nn.Module, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        nonlocal rows
        rows += len(kwargs["input_ids"])

    model.register_forward_pre_hook(count, with_kwargs=True)
    doubled = [*samples, *(Sample(list(s.prompt_ids), list(s.response_ids)) for s in reversed(samples))]
    known = memorisation(model, doubled)
    assert rows == len(samples)
    assert known[6:] == known[5::-1]
    assert len(set(known)) == 6
    # The same tokens, of which other ones are the response, are another sample.
    whole = samples[0].prompt_ids + samples[0].response_ids
    assert memorisation(model, [samples[0], Sample(whole[:1], whole[1:])])[1].nll != known[0].nll


def test_nothing_to_look_at() -> None:
    assert memorisation(tiny_llama(), []) == []
