"""What per-sample gradients hold in memory, and that model and gradients stay as found."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from by_hand import (
    error_of_fisher,
    error_of_terms,
    loss_by_hand,
    samples_of_all_lengths,
    tiny_model,
)
from odd_models import KINDS, positions, tied
from odd_models.causal import build, samples_of
from reductions import EIGHT_TOKENS, EXACT, REFUSED, Nothing
from tiny import random_samples, tiny_llama
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from lwf_assets.engine.fisher import SquaredGradients, fisher_diagonal
from lwf_assets.engine.gradients import blocks as gradient_blocks
from lwf_assets.engine.gradients.blocks import GradientsOfSamples, RowsOfParameter
from lwf_assets.engine.gradients.per_sample import gradients_handed_to, reduce_per_sample_gradients
from lwf_assets.errors import LwfError
from lwf_assets.progress import Silent


class _LargestTensor(TorchDispatchMode):
    """The largest tensor that any operation gives, in elements."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_gradients_of_a_batch_never_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gradient_blocks.BLOCK_ELEMENTS, "cpu", 500)
    model, samples = tiny_llama(), samples_of(*[(2, 2)] * 8)
    reduction = SquaredGradients(model, len(samples))
    with _LargestTensor() as largest:
        reduce_per_sample_gradients(model, samples, reduction)
    matrix = model.model.embed_tokens.weight.numel()
    assert largest.elements < 2 * matrix  # activations and logits are smaller, gradients of the batch eight times


class _Watching(Nothing):
    """Notes how large blocks are, and that no gradients are around when the next ones come."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = dict(model.named_parameters())
        self.largest: dict[str, int] = {}
        self.alive = 0
        self.calls = 0

    def add(self, name: str, rows: RowsOfParameter, gradients: Iterable[GradientsOfSamples]) -> None:
        for samples, some in gradients:
            self.calls += 1
            self.largest[name] = max(self.largest.get(name, 0), some.numel() // len(samples))
            self.alive = max(self.alive, sum(p.grad is not None for p in self.parameters.values()))


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_no_gradient_is_kept_by_a_parameter(architecture: str) -> None:
    model = tiny_model(architecture)
    watching = _Watching(model)
    reduce_per_sample_gradients(model, samples_of_all_lengths(4), watching)
    assert watching.calls >= 4
    assert watching.alive == 0


def test_blocks_are_as_small_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gradient_blocks.BLOCK_ELEMENTS, "cpu", 64)
    model = tiny_model("llama")
    watching = _Watching(model)
    reduce_per_sample_gradients(model, samples_of_all_lengths(4), watching)
    assert max(watching.largest.values()) <= 64


@pytest.mark.parametrize("limit", [7, 64])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_small_blocks_give_the_same(architecture: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gradient_blocks.BLOCK_ELEMENTS, "cpu", limit)
    model = tiny_model(architecture)
    assert error_of_fisher(model, samples_of_all_lengths(3)) <= 1e-5
    assert error_of_terms(model, samples_of_all_lengths(3)) <= 1e-5


def test_nothing_of_a_batch_lives_on() -> None:
    """Neither activations nor factors: tensors alive are those from before."""
    model = build(positions.Positions)
    fisher_diagonal(model, EIGHT_TOKENS)  # what is made once and kept
    gc.collect()
    before = _tensors()
    reduce_per_sample_gradients(model, EIGHT_TOKENS, Nothing())
    assert _tensors() == before  # without the collector's help


def _tensors() -> int:
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


@contextmanager
def _as_found(model: nn.Module) -> Iterator[None]:
    """Some parameters have a gradient, some are frozen; afterwards it is the same, bit for bit."""
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, number) if number % 2 else None
        parameter.requires_grad_(number % 3 != 0)
    found = {name: (p.grad, p.requires_grad) for name, p in model.named_parameters()}
    copies = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    yield
    for name, parameter in model.named_parameters():
        gradient, required = found[name]
        assert parameter.grad is gradient
        assert parameter.requires_grad == required
        assert gradient is None or torch.equal(gradient, copies[name])
        assert not parameter._post_accumulate_grad_hooks
        assert not parameter._backward_hooks


@pytest.mark.parametrize("kind", ["Shared", "Merged", "OwnFunction"])
def test_gradients_stay_as_found(kind: str) -> None:
    model = build(EXACT[kind])
    with _as_found(model):
        fisher_diagonal(model, EIGHT_TOKENS, batch_size=2)


class _Failing(Nothing):
    """Fails when the gradient of the parameter `name` comes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def add(self, name: str, rows: RowsOfParameter, gradients: Iterable[GradientsOfSamples]) -> None:
        for _ in gradients:
            if name == self.name:
                raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["head.weight", "back.bias", "a", "weight"])
def test_gradients_stay_as_found_after_an_interruption_in_the_backward_pass(name: str) -> None:
    model = build(tied.Merged)
    with _as_found(model), pytest.raises(KeyboardInterrupt):
        reduce_per_sample_gradients(model, EIGHT_TOKENS, _Failing(name), batch_size=2)


def test_gradients_stay_as_found_after_an_interruption_between_batches() -> None:
    class Interrupting(Silent):
        def advance(self, amount: int = 1) -> None:
            raise KeyboardInterrupt

    model = build(tied.Merged)
    with _as_found(model), pytest.raises(KeyboardInterrupt):
        reduce_per_sample_gradients(model, EIGHT_TOKENS, Nothing(), batch_size=2, progress=Interrupting())


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_gradients_stay_as_found_after_a_refusal(kind: str) -> None:
    model = build(KINDS[kind])
    with _as_found(model), pytest.raises(LwfError):
        fisher_diagonal(model, EIGHT_TOKENS)


def test_gradients_are_handed_over_one_at_a_time() -> None:
    model, told = tiny_llama(), []
    names = dict(model.named_parameters())

    def receive(name: str, gradient: Tensor) -> None:
        told.append(name)
        assert gradient.shape == names[name].shape
        assert all(parameter.grad is None for parameter in names.values())

    (sample,) = random_samples(1)
    with gradients_handed_to(receive, names):
        loss_by_hand(model, sample).backward()
    assert sorted(told) == sorted(names)


def test_a_real_forward_pass_is_not_changed() -> None:
    """The logits that a caller gets inside are those that it gets outside."""
    model: PreTrainedModel = tiny_model("gpt2")
    samples = samples_of_all_lengths(4)
    losses = reduce_per_sample_gradients(model, samples, Nothing())
    with torch.no_grad():
        expected = [loss_by_hand(model, sample).item() for sample in samples]
    assert losses == pytest.approx(expected, rel=1e-5)
