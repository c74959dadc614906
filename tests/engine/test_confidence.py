"""The three terms of the forgetting confidence against the literal formula in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from by_hand import (
    ARCHITECTURES,
    error_of_terms,
    gradients_by_hand,
    in_float64,
    loss_by_hand,
    samples_of_all_lengths,
    tiny_model,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import random_samples, tiny_llama
from torch import Tensor
from transformers import PreTrainedModel

from lwf_assets.engine import confidence
from lwf_assets.engine.checkpoint import parameter_difference
from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.samples import Sample


def _fisher_and_delta(model: PreTrainedModel, *, seed: int = 1) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Positive weights of very different sizes, and a difference of about the size that a fine-tune makes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    fisher = {name: torch.randn(shape, generator=generator).mul(2).exp() for name, shape in shapes.items()}
    delta = {name: torch.randn(shape, generator=generator) * 1e-2 for name, shape in shapes.items()}
    return fisher, delta


def _close(actual: object, expected: list[float]) -> bool:
    """Relative error of the whole vector, in the L2 norm."""
    return bool(np.linalg.norm(np.asarray(actual) - expected) <= 1e-5 * np.linalg.norm(expected))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equal_the_loop(architecture: str, tied: bool, reduction: str) -> None:
    model, samples = tiny_model(architecture, tied=tied), samples_of_all_lengths()
    fisher, delta = _fisher_and_delta(model)
    gradients = gradients_by_hand(model, samples, reduction)

    terms = confidence_terms(model, samples, fisher=fisher, delta=delta, reduction=reduction, batch_size=4)

    def total(of: object) -> float:
        return sum(of(name).double().sum().item() for name in fisher)

    assert terms.constant == pytest.approx(total(lambda n: 0.5 * fisher[n].double() * delta[n].double() ** 2), rel=1e-5)
    assert _close(
        terms.linear, [total(lambda n, g=g: fisher[n].double() * delta[n].double() * g[n]) for g in gradients]
    )
    assert _close(terms.quadratic, [total(lambda n, g=g: 0.5 * fisher[n].double() * g[n] ** 2) for g in gradients])
    assert _close(terms.gradient_norm, [total(lambda n, g=g: g[n] ** 2) ** 0.5 for g in gradients])
    precise = in_float64(model)
    assert _close(terms.losses, [loss_by_hand(precise, sample, reduction).item() for sample in samples])


# The two terms nearly cancel.
@example(lengths=[(18, 7)], hidden=8, tied=False, batch_size=1, exponent=-5, seed=53)
@settings(max_examples=30)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=4),
    hidden=st.sampled_from([8, 16]),
    tied=st.booleans(),
    batch_size=st.integers(1, 5),
    exponent=st.integers(-5, 0),
    seed=st.integers(0, 99),
)
def test_confidence_is_the_literal_formula(
    lengths: list[tuple[int, int]], hidden: int, tied: bool, batch_size: int, exponent: int, seed: int
) -> None:
    """1/2 sum F (theta_base - alpha g - theta_L)^2, from two real models, at any alpha."""
    base = tiny_llama(tied=tied, seed=seed, hidden=hidden, layers=1)
    learned = tiny_llama(tied=tied, seed=seed, hidden=hidden, layers=1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in learned.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=3e-3)
    samples = [
        Sample(*(torch.randint(256, (length,), generator=generator).tolist() for length in pair)) for pair in lengths
    ]
    alpha = 10.0**exponent
    fisher = fisher_diagonal(learned, samples)
    terms = confidence_terms(
        base, samples, fisher=fisher, delta=parameter_difference(base, learned), batch_size=batch_size
    )

    theta_base, theta_learned = (dict(in_float64(model).named_parameters()) for model in (base, learned))

    def literal(gradient: dict[str, Tensor], step: float) -> float:
        return sum(
            (0.5 * fisher[n].double() * (theta_base[n] - step * gradient[n] - theta_learned[n]) ** 2).sum().item()
            for n in fisher
        )

    gradients = gradients_by_hand(base, samples, "mean")
    expected = [literal(gradient, alpha) for gradient in gradients]
    assert _close(terms.forgetting_confidence(alpha), expected)
    # What tells samples apart is a tiny part of the whole at a small alpha; it has to be right by itself. The linear
    # term is a small difference of large sums, which bounds what single precision can give; and it may nearly cancel
    # the quadratic one, so each is measured by its own size.
    constant = literal(gradients[0], 0.0)
    backwards = np.array([literal(gradient, -alpha) for gradient in gradients])
    linear, quadratic = (np.array(expected) - backwards) / 2, (np.array(expected) + backwards) / 2 - constant
    computed = terms.forgetting_confidence(alpha) - terms.constant
    size = np.linalg.norm(np.abs(linear) + np.abs(quadratic))
    assert np.linalg.norm(computed - linear - quadratic) <= 1e-4 * size


def test_equal_the_loop_for_large_tensors() -> None:
    """Long sums in single precision would lose the linear term."""
    model, samples = tiny_llama(hidden=200, layers=1), random_samples(2)
    fisher, delta = _fisher_and_delta(model)
    gradients = gradients_by_hand(model, samples, "sum")
    terms = confidence_terms(model, samples, fisher=fisher, delta=delta, reduction="sum")
    for found, weights in (
        (terms.linear, {name: value.double() * delta[name].double() for name, value in fisher.items()}),
        (2 * terms.quadratic, [{name: fisher[name].double() * g[name] for name in fisher} for g in gradients]),
        (terms.gradient_norm**2, gradients),
    ):
        by_sample = weights if isinstance(weights, list) else [weights] * 2
        assert _close(
            found, [sum((w[n] * g[n]).sum().item() for n in g) for w, g in zip(by_sample, gradients, strict=True)]
        )


def test_results_are_in_the_order_of_the_samples() -> None:
    model, samples = tiny_llama(), random_samples(7)
    fisher, delta = _fisher_and_delta(model)
    forward = confidence_terms(model, samples, fisher=fisher, delta=delta, batch_size=2)
    backward = confidence_terms(model, samples[::-1], fisher=fisher, delta=delta, batch_size=3)
    assert _close(backward.linear[::-1], list(forward.linear))
    assert _close(backward.losses[::-1], list(forward.losses))
    assert len(set(forward.losses)) == 7


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral"])
def test_batch_size_does_not_matter(architecture: str) -> None:
    model, samples = tiny_model(architecture), samples_of_all_lengths(8)
    fisher, delta = _fisher_and_delta(model)
    results = [
        confidence_terms(model, samples, fisher=fisher, delta=delta, batch_size=batch_size)
        for batch_size in (1, 3, 100)
    ]
    for result in results[1:]:
        assert _close(result.linear, list(results[0].linear))
        assert _close(result.quadratic, list(results[0].quadratic))


def test_bfloat16_weights_are_reduced_in_float32() -> None:
    model, samples = tiny_llama().to(torch.bfloat16), random_samples(4)
    fisher, delta = _fisher_and_delta(model)
    gradients = gradients_by_hand(model, samples, "mean")
    terms = confidence_terms(model, samples, fisher=fisher, delta=delta)
    quadratic = [sum((0.5 * fisher[n].double() * g[n] ** 2).sum().item() for n in fisher) for g in gradients]
    assert terms.quadratic == pytest.approx(quadratic, rel=0.05)
    # Half the elements of a sum in bfloat16 would be lost: the constant holds no gradient and must be exact.
    constant = sum((0.5 * fisher[n].double() * delta[n].double() ** 2).sum().item() for n in fisher)
    assert terms.constant == pytest.approx(constant, rel=1e-5)


def test_difference_of_two_models_is_in_float32() -> None:
    base, learned = tiny_llama(seed=0).to(torch.bfloat16), tiny_llama(seed=1).to(torch.bfloat16)
    difference = parameter_difference(base, learned)
    assert list(difference) == [name for name, _ in base.named_parameters()]
    for name, value in difference.items():
        expected = base.get_parameter(name).double() - learned.get_parameter(name).double()
        assert value.dtype == torch.float32
        assert torch.equal(value.double(), expected)


@pytest.mark.parametrize("which", ["fisher", "delta"])
def test_tensors_that_do_not_fit_the_model(which: str) -> None:
    model, samples = tiny_llama(), random_samples(2)
    fisher, delta = _fisher_and_delta(model)
    tensors = {"fisher": fisher, "delta": delta}
    name = "model.layers.0.mlp.up_proj.weight"

    kept = tensors[which].pop(name)
    with pytest.raises(ValueError, match=rf"{which} does not fit the model: see {name}"):
        confidence_terms(model, samples, **tensors)
    tensors[which][name] = kept.T
    with pytest.raises(ValueError, match=rf"{which} does not fit the model: see {name}"):
        confidence_terms(model, samples, **tensors)
    tensors[which] |= {name: kept, "lm_head.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=rf"{which} does not fit the model: see lm_head.weight"):
        confidence_terms(model, samples, **tensors)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_fisher_and_difference_in_bfloat16_are_used_as_they_are(architecture: str) -> None:
    """Their rounding is all that is lost: with the rounded values in fp32 the terms are the same."""
    model, samples = tiny_model(architecture), samples_of_all_lengths(4)
    fisher, delta = _fisher_and_delta(model)
    half_fisher, half_delta = ({n: value.bfloat16() for n, value in of.items()} for of in (fisher, delta))
    rounded_fisher, rounded_delta = ({n: value.float() for n, value in of.items()} for of in (half_fisher, half_delta))
    found = confidence_terms(model, samples, fisher=half_fisher, delta=half_delta)
    expected = confidence_terms(model, samples, fisher=rounded_fisher, delta=rounded_delta)
    exact = confidence_terms(model, samples, fisher=fisher, delta=delta)
    assert found.constant == pytest.approx(expected.constant, rel=1e-6)
    for name in ("linear", "quadratic", "gradient_norm"):
        assert _close(getattr(found, name), list(getattr(expected, name)))
    assert found.quadratic == pytest.approx(exact.quadratic, rel=1e-2)
    assert all(value.dtype == torch.bfloat16 for value in half_fisher.values())


@pytest.mark.parametrize("from_length", [1, 2**30])
def test_long_and_short_rows_are_summed_alike(from_length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dot product for each row, and one product for several, against float64."""
    monkeypatch.setattr(confidence, "LONG_ROW", from_length)
    model = tiny_llama()
    assert error_of_terms(model, random_samples(5)) < 1e-5
