"""Looking into a model leaves no trace in it, also when the look ends in an exception."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from by_hand import relative_error, samples_of_all_lengths, tiny_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.model_state import left_as_found
from lwf_assets.engine.samples import Sample
from lwf_assets.progress import SILENT, Progress, Silent


def _terms(model: PreTrainedModel, samples: list[Sample], *, progress: Progress = SILENT) -> Any:
    ones = {name: torch.ones_like(parameter) for name, parameter in model.named_parameters()}
    return confidence_terms(model, samples, fisher=ones, delta=ones, batch_size=2, progress=progress)


LOOKS: dict[str, Callable[..., Any]] = {
    "fisher_diagonal": partial(fisher_diagonal, token_budget=80),
    "confidence_terms": _terms,
    "negative_log_likelihoods": partial(negative_log_likelihoods, token_budget=80),
}


def _traces(model: nn.Module) -> dict[str, Any]:
    """All that must not change: modes, hooks, patched attributes, requires_grad, gradients and weights."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        hooks = {key: list(value) for key, value in vars(module).items() if key.endswith("hooks") and value}
        found[f"module {name}"] = (module.training, hooks, sorted(vars(module)))
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        found[f"parameter {name}"] = (
            id(parameter),
            parameter.requires_grad,
            parameter._version,
            list(parameter._backward_hooks or ()),
            parameter.detach().sum().item(),
            None if gradient is None else (id(gradient), gradient._version, gradient.tolist()),
        )
    return found


def _untidy(architecture: str) -> PreTrainedModel:
    """A model in the middle of something: mixed modes, some parameters frozen, some with a gradient."""
    model = tiny_model(architecture).train()
    for number, module in enumerate(model.modules()):
        module.training = number % 3 != 1
    for number, parameter in enumerate(model.parameters()):
        if number % 2:
            parameter.grad = torch.full_like(parameter, 0.5)
        if number % 3 == 0:
            parameter.requires_grad_(False)
    return model


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral"])
@pytest.mark.parametrize("look", LOOKS)
def test_no_trace_after_the_end(look: str, architecture: str) -> None:
    model = _untidy(architecture)
    before = _traces(model)
    LOOKS[look](model, samples_of_all_lengths(4))
    assert _traces(model) == before


class _FailsAtTheSecond(Silent):
    def __init__(self) -> None:
        self.calls = 0

    def advance(self, amount: int = 1) -> None:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("the watcher failed")


@pytest.mark.parametrize("look", LOOKS)
def test_no_trace_after_a_failure_between_samples(look: str) -> None:
    model = _untidy("gpt2")
    before = _traces(model)
    with pytest.raises(RuntimeError, match="the watcher failed"):
        LOOKS[look](model, samples_of_all_lengths(8) + samples_of_all_lengths(8), progress=_FailsAtTheSecond())
    assert _traces(model) == before


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("look", ["fisher_diagonal", "confidence_terms"])
def test_no_trace_after_a_failure_inside_the_model(look: str, where: str) -> None:
    model = _untidy("llama")
    layer = model.model.layers[1].mlp

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    # The test's own hook is there before and after, and so is part of what must not change.
    if where == "forward":
        layer.register_forward_hook(fail)
    else:
        layer.register_full_backward_hook(fail)
    before = _traces(model)
    with pytest.raises(RuntimeError, match="out of memory"):
        LOOKS[look](model, samples_of_all_lengths(4))
    assert _traces(model) == before


def _figures(result: Any) -> Mapping[str, Tensor]:
    if isinstance(result, dict):
        return result
    values = result if isinstance(result, list) else [*result.linear, *result.quadratic, *result.losses]
    return {"all": torch.tensor(values)}


@pytest.mark.parametrize("look", LOOKS)
def test_dropout_is_off_and_draws_nothing(look: str) -> None:
    """GPT-2 has dropout at four places, attention among them."""
    model, samples = tiny_model("gpt2"), samples_of_all_lengths(4)
    expected = _figures(LOOKS[look](model, samples))
    state = torch.get_rng_state()
    result = _figures(LOOKS[look](model.train(), samples))
    assert relative_error(result, expected) == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def test_inside_every_parameter_is_differentiable_and_every_module_evaluates() -> None:
    model = _untidy("gpt2")
    with left_as_found(model) as parameters:
        assert list(parameters) == [name for name, _ in model.named_parameters()]
        assert all(parameter.requires_grad for parameter in parameters.values())
        assert not any(module.training for module in model.modules())
