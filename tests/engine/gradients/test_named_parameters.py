"""Which parameters have no rule is found and named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from by_hand import (
    ARCHITECTURES,
    error_of_fisher,
    error_of_terms,
    samples_of_all_lengths,
    tiny_model,
)
from odd_models import experts, operations, rows, tied
from odd_models.causal import Causal, build, random_weights, samples_of
from reductions import EIGHT_TOKENS, EXACT
from torch import Tensor

from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.samples import Sample

LOGGER = "lwf_assets.engine.gradients.per_sample"


def _warnings(caplog: pytest.LogCaptureFixture, model: Any, samples: list[Sample], **settings: Any) -> list[str]:
    with caplog.at_level(logging.WARNING, logger=LOGGER):
        fisher_diagonal(model, samples, **settings)
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


@pytest.mark.parametrize("batch_size", [1, 2, None])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_common_architectures_have_a_rule_for_everything(
    architecture: str, tied: bool, batch_size: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(architecture, tied=tied)
    assert _warnings(caplog, model, samples_of_all_lengths(4), batch_size=batch_size) == []


ROUTED = [
    *("Experts", "AllExperts", "ExpertsByFirstToken", "StackedExperts", "SameExpertTwice", "GroupedExperts"),
    *("BatchedExperts", "EveryExpert", "SplitExperts", "PositionsFirst", "PositionsFirstFlattened"),
    *("TiedTransposed", "TiedAndTransposedInTheMiddle"),
]


@pytest.mark.parametrize(
    "kind", ["Shared", "Flattened", "Heads", "HeadsOfLogits", "Gemma", "InPlace", "Positions", *ROUTED]
)
def test_common_ways_have_a_rule(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    assert _warnings(caplog, build(EXACT[kind]), EIGHT_TOKENS, batch_size=3) == []


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("architecture", ["mixtral", "gpt_oss"])
def test_experts_have_a_rule_in_every_implementation(
    architecture: str, implementation: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(architecture)
    model.set_experts_implementation(implementation)
    assert _warnings(caplog, model, samples_of_all_lengths(6)) == []
    assert error_of_terms(model, samples_of_all_lengths(6)) <= 1e-5


def test_experts_without_a_rule_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    model = build(experts.ExpertsByEinsum)
    elements = sum(p.numel() for name, p in model.named_parameters() if name.startswith(("up", "down")))
    (warning,) = _warnings(caplog, model, EIGHT_TOKENS, batch_size=2)
    assert warning.startswith(
        f"4 parameter tensors ({elements:,} elements; first down) are differentiated one sample at a time"
    )


@pytest.mark.parametrize(
    ("kind", "count", "first"),
    [
        (tied.Merged, 4, "a"),
        (operations.OwnFunction, 1, "weight"),
        (rows.PositionsFirstHead, 1, "head.weight"),
        (operations.BesideWhatHasNoRule, 2, "bias"),
        (operations.WideNorm, 2, "norm.bias"),
        (operations.ScaledColumns, 2, "scale"),
    ],
)
def test_what_is_found_is_named(
    kind: Callable[[], Causal], count: int, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    (warning,) = _warnings(caplog, build(kind), EIGHT_TOKENS, batch_size=3)
    assert warning.startswith(f"{count} parameter tensors (")
    assert f"; first {first}) " in warning


def test_what_is_found_later_is_named_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    """An expert that no token of the first batches reaches."""

    class Rare(Causal):
        def build(self) -> None:
            self.often, self.seldom = random_weights((6,)), random_weights((6,))

        def embed(self, input_ids: Tensor) -> Tensor:
            x = self.embedding(input_ids) * torch.tanh(self.often)
            return x * torch.tanh(self.seldom) if input_ids.shape[1] < 4 else x

    samples = samples_of((4, 4), (3, 5), (1, 2), (2, 1), (1, 1))
    model = build(Rare)
    warnings = _warnings(caplog, model, samples)
    assert ["often" in warning for warning in warnings] == [True, False]
    assert "; first seldom)" in warnings[1]
    assert error_of_fisher(model, samples) <= 1e-5


def test_a_sample_may_reach_none_of_those_that_are_alone() -> None:
    class LongOnes(Causal):
        def build(self) -> None:
            self.scale = random_weights((6,))

        def embed(self, input_ids: Tensor) -> Tensor:
            x = self.embedding(input_ids)
            return x * torch.tanh(self.scale) if input_ids.shape[1] > 3 else x

    assert error_of_terms(build(LongOnes), samples_of((4, 4), (3, 5), (1, 2), (2, 1), (1, 1))) <= 1e-5
