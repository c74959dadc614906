"""theta_L* as one step along the averaged gradient, against one step of torch's SGD on the whole data."""

from __future__ import annotations

import pytest
import torch
from by_hand import in_float64, loss_by_hand, relative_error, samples_of_all_lengths, tiny_model, weights

from lwf_assets.engine.mean_gradient import step_along_mean_gradient


@pytest.mark.parametrize("token_budget", [1, 100, 1000])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral"])
def test_is_one_sgd_step_on_all_samples(architecture: str, token_budget: int) -> None:
    model, samples = tiny_model(architecture), samples_of_all_lengths(8)
    start, precise = weights(model), in_float64(model)
    optimizer = torch.optim.SGD(precise.parameters(), lr=0.3)
    (sum(loss_by_hand(precise, sample) for sample in samples) / len(samples)).backward()
    optimizer.step()

    step_along_mean_gradient(model, samples, length=0.3, token_budget=token_budget)

    moved = {name: value.double() - start[name].double() for name, value in weights(model).items()}
    expected = {name: value - start[name].double() for name, value in weights(precise).items()}
    # A weight of size 0.1 is stored to 4e-9, a step is about 1e-3.
    assert (
        relative_error(
            {"all": torch.cat([value.flatten() for value in moved.values()])},
            {"all": torch.cat([value.flatten() for value in expected.values()])},
        )
        <= 1e-4
    )
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_weights_stay() -> None:
    model = tiny_model("llama")
    frozen = "model.layers.0.mlp.up_proj.weight"
    model.get_parameter(frozen).requires_grad_(False)
    start = weights(model)
    step_along_mean_gradient(model, samples_of_all_lengths(3), length=0.1, token_budget=100)
    after = weights(model)
    assert torch.equal(after[frozen], start[frozen])
    assert not torch.equal(after["model.layers.1.mlp.up_proj.weight"], start["model.layers.1.mlp.up_proj.weight"])
