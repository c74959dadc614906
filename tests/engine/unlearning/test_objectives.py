"""Unlearning objectives against their formulas in double precision, and how they push."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lwf_assets.engine.unlearning.objectives import NPO, Ascent, Nothing, Objective, SimNPO

NATS = st.floats(0.01, 80, allow_nan=False)
TOKENS = st.integers(1, 50)
BETA = st.floats(0.01, 5)


def _pushes(objective: Objective, nll: list[float], tokens: list[int], reference: list[float]) -> tuple[Tensor, Tensor]:
    """Losses, and their derivatives by the summed NLL."""
    likelihoods = torch.tensor(nll, dtype=torch.float64, requires_grad=True)
    losses = objective.losses(
        likelihoods,
        torch.tensor(tokens),
        torch.tensor(reference, dtype=torch.float64) if objective.needs_reference else None,
    )
    (pushes,) = torch.autograd.grad(losses.sum(), likelihoods)
    return losses.detach(), pushes


@given(nll=NATS, tokens=TOKENS)
def test_ascent_is_minus_the_mean(nll: float, tokens: int) -> None:
    losses, pushes = _pushes(Ascent(), [nll], [tokens], [0.0])
    assert losses.item() == -nll / tokens
    assert pushes.item() == -1 / tokens


@given(nll=NATS, reference=NATS, tokens=TOKENS, beta=BETA)
def test_npo_is_the_papers_formula(nll: float, reference: float, tokens: int, beta: float) -> None:
    ratio = (math.exp(-nll) / math.exp(-reference)) ** beta
    losses, pushes = _pushes(NPO(beta), [nll], [tokens], [reference])
    assert losses.item() == pytest.approx(2 / beta * math.log1p(ratio), rel=1e-9)
    assert pushes.item() == pytest.approx(-2 * ratio / (1 + ratio), rel=1e-9)


@given(nll=NATS, tokens=TOKENS, beta=BETA, gamma=st.floats(0, 3))
def test_simnpo_is_the_papers_formula(nll: float, tokens: int, beta: float, gamma: float) -> None:
    def by_hand(nll: float) -> float:
        inside = -beta / tokens * math.log(math.exp(-nll)) - gamma
        return -2 / beta * math.log(1 / (1 + math.exp(-inside)))

    losses, pushes = _pushes(SimNPO(beta, gamma), [nll], [tokens], [0.0])
    assert losses.item() == pytest.approx(by_hand(nll), rel=1e-6, abs=1e-12)
    slope = (by_hand(nll + 1e-4) - by_hand(nll - 1e-4)) / 2e-4
    assert pushes.item() == pytest.approx(slope, rel=1e-3, abs=1e-7)


@given(reference=NATS, nll=NATS)
def test_npo_becomes_ascent_on_the_summed_nll_as_beta_vanishes(nll: float, reference: float) -> None:
    _, pushes = _pushes(NPO(1e-9), [nll], [1], [reference])
    assert pushes.item() == pytest.approx(-1, abs=1e-6)


@given(reference=NATS, beta=BETA)
def test_npo_pushes_as_ascent_at_the_start_and_not_at_all_once_forgotten(reference: float, beta: float) -> None:
    _, pushes = _pushes(NPO(beta), [reference, reference + 60 / beta], [1, 1], [reference, reference])
    assert pushes[0].item() == pytest.approx(-1)
    assert -1e-20 < pushes[1].item() < 0


@pytest.mark.parametrize("objective", [NPO(0.3), SimNPO(1.5, 0.2), SimNPO()])
def test_the_less_likely_the_weaker_the_push(objective: Objective) -> None:
    _, pushes = _pushes(objective, [1.0, 5.0, 20.0, 80.0], [4] * 4, [10.0] * 4)
    assert (pushes < 0).all()
    assert (pushes.diff() > 0).all()


def test_far_from_the_reference_nothing_overflows() -> None:
    for objective in (NPO(5.0), SimNPO(5.0, 1.0)):
        losses, pushes = _pushes(objective, [0.0, 1e4], [1, 1], [1e4, 0.0])
        assert torch.isfinite(losses).all()
        assert torch.isfinite(pushes).all()


def test_defaults_and_what_means_nothing() -> None:
    assert (NPO().beta, SimNPO().beta, SimNPO().gamma) == (0.1, 2.5, 0.0)
    kinds: list[Objective] = [Ascent(), NPO(), SimNPO(), Nothing()]
    assert [kind.needs_reference for kind in kinds] == [False, True, False, False]
    for value in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"beta of NPO must be positive and finite; got {value}"):
            NPO(value)
        with pytest.raises(ValueError, match="beta of SimNPO"):
            SimNPO(beta=value)
    for value in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="gamma of SimNPO must be finite and at least 0"):
            SimNPO(gamma=value)
    with pytest.raises(ValueError, match="as training began"):
        NPO().losses(torch.ones(1), torch.ones(1), None)
