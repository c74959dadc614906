"""What `auto` makes of a model and of the memory that is free, and what a GPU that is too small says."""

from __future__ import annotations

import pytest
import torch
from tiny import random_samples, tiny_llama

from lwf_assets.engine import token_budget as module
from lwf_assets.engine.activation_memory import TOKEN_BUDGET
from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.evaluation.memorization import memorisation
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.gradients import per_sample
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.token_budget import LARGEST, tokens_that_fit
from lwf_assets.errors import LwfError

GB = 10**9


@pytest.fixture
def _free(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if on a GPU with so many bytes free."""
    monkeypatch.setattr(module, "_free_bytes", lambda device: request.param)


def test_on_a_cpu_it_is_the_number_that_it_always_was() -> None:
    assert tokens_that_fit(tiny_llama(), "auto", differentiated=True) == TOKEN_BUDGET == 2048
    assert tokens_that_fit(tiny_llama(), 300, differentiated=True) == 300


@pytest.mark.parametrize("_free", [2 * GB], indirect=True)
@pytest.mark.usefixtures("_free")
def test_what_fits_by_the_models_dimensions() -> None:
    model = tiny_llama(hidden=32, layers=2)
    values = 2 * (4 * 64 + 9 * 32 + 5 * 32 + 2 * 16)  # two layers: MLP, norms, attention, keys and values
    expected = int(0.7 * 2 * GB / (4 * values + 3.3 * 4 * 259))
    assert tokens_that_fit(model, "auto", differentiated=True) == min(LARGEST, expected)
    wide = tiny_llama(hidden=2048, layers=1)
    fits = tokens_that_fit(wide, "auto", differentiated=True)
    assert 2048 < fits < LARGEST
    assert tokens_that_fit(wide.to(torch.bfloat16), "auto", differentiated=True) == pytest.approx(2 * fits, rel=0.1)
    assert tokens_that_fit(wide, 100, differentiated=True) == 100


@pytest.mark.parametrize("_free", [1], indirect=True)
@pytest.mark.usefixtures("_free")
def test_where_nothing_is_free_one_row_is_tried() -> None:
    assert tokens_that_fit(tiny_llama(), "auto", differentiated=True) == 1
    assert len(negative_log_likelihoods(tiny_llama(), random_samples(3), token_budget="auto")) == 3


@pytest.mark.parametrize("_free", [GB], indirect=True)
@pytest.mark.usefixtures("_free")
def test_a_model_of_unknown_dimensions_has_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama()
    monkeypatch.setattr(model.config, "to_dict", lambda: {"width": 3})
    assert tokens_that_fit(model, "auto", differentiated=True) == TOKEN_BUDGET


def test_it_is_asked_when_fisher_and_difference_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what they take would be counted as free."""
    model, samples, asked = tiny_llama(), random_samples(4), []

    def noted(model: object, budget: object, *, differentiated: bool) -> int:
        asked.append((budget, differentiated))
        return 40

    monkeypatch.setattr(per_sample, "tokens_that_fit", noted)
    fisher = fisher_diagonal(model, samples)
    confidence_terms(model, samples, fisher=fisher, delta=fisher)
    assert asked == [("auto", True)] * 2


@pytest.fixture
def _full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is full as soon as a model runs."""
    model = type(tiny_llama())

    def forward(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(model, "forward", forward)


@pytest.mark.usefixtures("_full")
@pytest.mark.parametrize("call", [fisher_diagonal, negative_log_likelihoods, memorisation])
def test_a_batch_that_does_not_fit_names_the_key(call: object) -> None:
    with pytest.raises(LwfError, match=r"^model.token_budget: .* set a smaller number \(CUDA out of memory"):
        call(tiny_llama(), random_samples(3))
