"""Models that use their parameters in every odd way: right, or a clear error, and never silently wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from by_hand import (
    ARCHITECTURES,
    error_of_fisher,
    error_of_terms,
    fisher_by_hand,
    gradients_by_hand,
    in_float64,
    loss_by_hand,
    relative_error,
    samples_of_all_lengths,
    tiny_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_models import KINDS, experts, operations, passes, rows, tied
from odd_models.causal import WIDTH, Causal, build, random_weights, samples_of
from reductions import EIGHT_TOKENS, EXACT, REFUSED, Nothing
from tiny import tiny_llama
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, GPT2Config

from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.gradients import per_sample as per_sample_gradients
from lwf_assets.engine.gradients.per_sample import reduce_per_sample_gradients
from lwf_assets.engine.gradients.watch import GradientWatch
from lwf_assets.engine.samples import Sample
from lwf_assets.errors import LwfError
from lwf_assets.progress import Silent

ALL_LENGTHS = samples_of((3, 5), (1, 1), (4, 2), (0, 8), (9, 1), (1, 3))


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("error", [error_of_fisher, error_of_terms], ids=["fisher", "terms"])
def test_odd_models_equal_the_loop(error: Callable[..., float], kind: str) -> None:
    model = build(EXACT[kind])
    assert error(model, EIGHT_TOKENS, batch_size=3) <= 1e-5
    assert error(model, ALL_LENGTHS, batch_size=4) <= 1e-5


@pytest.mark.parametrize("kind", EXACT)
def test_odd_models_equal_the_loop_in_the_first_batch_of_any_size(kind: str) -> None:
    """What has as many rows as the batch by coincidence must not be taken for samples, be it in the first batch."""
    model = build(EXACT[kind])
    for count in (1, 2, 4, 8):
        assert error_of_fisher(model, samples_of(*[(2, 4)] * count)) <= 1e-5


@pytest.mark.parametrize(
    ("kind", "lengths"),
    [
        (rows.PositionsFirstWithPrefix, [(2, 2)] * 6),  # positions and prefix are as many as samples
        (rows.PositionsFirstHead, [(5, 3)] * 3),  # positions with loss are as many as samples
        (rows.PositionsFirstHead, [(5, 3)] * 3 + [(1, 1)] * 2),
        (rows.PositionsFirstHead, [(5, 2)] * 2 + [(1, 1)] * 4),
        (rows.PositionsFirst, [(3, 2)] * 5),  # positions are as many as samples
        (rows.Layered, [(3, 2)] * 3),  # layers are as many as samples
        (rows.LayeredFlat, [(3, 2)] * 3),
        (rows.TwoLayers, [(3, 2)] * 2),
        (tied.WideMerged, [(2, 6)] * 3),  # rows of a parameter are as many as those of the batch
        (operations.ScaledColumns, [(2, 4)] * 4),
    ],
)
@pytest.mark.parametrize("error", [error_of_fisher, error_of_terms], ids=["fisher", "terms"])
def test_equal_sizes_of_different_things(
    error: Callable[..., float], kind: Callable[[], Causal], lengths: list[tuple[int, int]]
) -> None:
    assert error(build(kind), samples_of(*lengths)) <= 1e-5


def test_as_many_samples_as_positions_at_the_end_of_the_context() -> None:
    """There is no room for another position."""
    config = GPT2Config(n_embd=16, n_layer=1, n_head=4, n_positions=4, vocab_size=61, bos_token_id=None)
    config.eos_token_id = None
    model = AutoModelForCausalLM.from_config(config).eval()
    samples = samples_of((2, 2), (1, 3), (3, 1), (1, 2))
    assert error_of_fisher(model, samples) <= 1e-5
    assert error_of_terms(model, samples) <= 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_as_many_samples_as_positions(architecture: str) -> None:
    assert error_of_terms(tiny_model(architecture), samples_of((2, 3), (4, 1), (1, 2), (1, 4), (2, 2))) <= 1e-5


def test_samples_that_the_batch_puts_into_another_order_keep_their_own() -> None:
    """Every expert gets every row, but whole samples have changed places: only the terms can tell."""
    model = build(experts.ExpertsByFirstToken)
    samples = [Sample([token], [token + 3, 5, 2 * token]) for token in (3, 4, 6, 7, 9)]
    assert error_of_terms(model, samples) <= 1e-5


@pytest.mark.parametrize("kind", sorted(REFUSED))
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_cannot_be_seen_is_refused(kind: str, batch_size: int) -> None:
    model = build(KINDS[kind])
    with pytest.raises(LwfError, match=r"recomputes activations|differentiates within its forward pass"):
        fisher_diagonal(model, EIGHT_TOKENS, batch_size=batch_size)


class _LooksAhead(Causal):
    def build(self) -> None:
        self.layer = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.layer(x)).mean(dim=1, keepdim=True)


def test_a_model_that_is_not_causal_is_refused() -> None:
    with pytest.raises(LwfError, match=r"layer\.\w+: .*give it one sample at a time"):
        fisher_diagonal(build(_LooksAhead), EIGHT_TOKENS, batch_size=3)
    assert error_of_fisher(build(_LooksAhead), EIGHT_TOKENS, batch_size=1) <= 1e-5


_BLOCKS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "scale": lambda p, x: x * p.vector,
    "shift": lambda p, x: x + p.vector,
    "linear": lambda p, x: nn.functional.linear(x, p.matrix),
    "linear with bias": lambda p, x: nn.functional.linear(x, p.matrix, p.vector),
    "flattened": lambda p, x: torch.addmm(p.vector, x.view(-1, 6), p.matrix).view_as(x),
    "norm": lambda p, x: nn.functional.layer_norm(x, (6,), p.vector),
    "several": lambda p, x: torch.tanh(x * p.vector) @ p.matrix + p.vector,
    "no rule": lambda p, x: x * torch.tanh(p.matrix).mean() + torch.tanh(p.vector),
}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("block", _BLOCKS)
def test_checkpoints_around_any_operation_are_right_or_refused(block: str, reentrant: bool) -> None:
    """A forward pass that is run again may by chance save as many tensors as the first."""

    class Recomputing(Causal):
        def build(self) -> None:
            self.vector, self.matrix = random_weights((6,)), random_weights((6, 6))

        def body(self, x: Tensor) -> Tensor:
            for _ in range(2):
                x = checkpoint(_BLOCKS[block], self, torch.tanh(x), use_reentrant=reentrant)
            return x

    model = build(Recomputing)
    try:
        fisher = fisher_diagonal(model, EIGHT_TOKENS, batch_size=3)
    except LwfError:
        return
    assert relative_error(fisher, _fisher_by_hand(model, EIGHT_TOKENS)) <= 1e-5


def _fisher_by_hand(model: Any, samples: list[Sample]) -> dict[str, Tensor]:
    return fisher_by_hand(gradients_by_hand(model, samples, "mean"))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_gradient_checkpointing_of_transformers_is_out_of_the_way(architecture: str, reentrant: bool) -> None:
    """It is for training alone, and all of this runs in evaluation mode."""
    model, samples = tiny_model(architecture), samples_of_all_lengths(4)
    expected = fisher_diagonal(model, samples)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.train()
    assert relative_error(fisher_diagonal(model, samples), expected) == 0
    assert model.training
    assert model.is_gradient_checkpointing


def test_dropout_is_off() -> None:
    model = build(passes.Dropout)
    expected = fisher_diagonal(model, EIGHT_TOKENS)
    assert relative_error(fisher_diagonal(model.train(), EIGHT_TOKENS), expected) == 0


@settings(max_examples=25)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12)), min_size=1, max_size=9),
    budget=st.integers(1, 120),
    batch_size=st.one_of(st.none(), st.integers(1, 9)),
    kind=st.sampled_from(["Experts", "PositionsFirst", "Positions", "TiedThreeWays"]),
)
def test_batches_of_any_size_give_the_same(
    lengths: list[tuple[int, int]], budget: int, batch_size: int | None, kind: str
) -> None:
    samples = samples_of(*[pair if sum(pair) > 1 else (1, 1) for pair in lengths])
    settings: dict[str, Any] = {"token_budget": budget, "batch_size": batch_size}
    assert error_of_fisher(build(EXACT[kind]), samples, **settings) <= 1e-5
    assert error_of_terms(build(EXACT[kind]), samples, **settings) <= 1e-5


EXTREMES: dict[str, list[tuple[int, int]]] = {
    "one sample": [(3, 4)],
    "the shortest sample": [(1, 1)],
    "only the shortest": [(1, 1)] * 5,
    "no prompt": [(0, 5), (0, 2), (0, 9)],
    "prompts of one token": [(1, 5), (1, 9), (1, 1)],
    "responses of one token": [(9, 1), (4, 1), (1, 1), (12, 1)],
    "very different lengths": [(1, 1), (40, 20), (2, 1), (30, 1), (0, 2)],
}


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "mixtral"])
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_lengths(extreme: str, architecture: str) -> None:
    model, samples = tiny_model(architecture), samples_of(*EXTREMES[extreme])
    assert error_of_fisher(model, samples) <= 1e-5
    assert error_of_terms(model, samples, batch_size=2) <= 1e-5


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["Shared", "Merged"])
def test_losses_come_in_the_order_of_the_samples(kind: str, reduction: str) -> None:
    model = build(EXACT[kind])
    losses = reduce_per_sample_gradients(model, ALL_LENGTHS, Nothing(), loss_reduction=reduction, batch_size=4)
    precise = in_float64(model)
    assert losses == pytest.approx([loss_by_hand(precise, s, reduction).item() for s in ALL_LENGTHS], rel=1e-5)


def test_losses_where_every_parameter_is_alone() -> None:
    class NoRules(Causal):
        def embed(self, input_ids: Tensor) -> Tensor:
            return torch.tanh(self.embedding.weight)[input_ids]

        def logits(self, x: Tensor) -> Tensor:
            return x @ self.head.weight.t()

    model = build(NoRules)
    assert error_of_terms(model, ALL_LENGTHS, batch_size=4) <= 1e-5
    assert error_of_fisher(model, ALL_LENGTHS, batch_size=4) <= 1e-5


def test_progress_counts_every_sample_once() -> None:
    class Counting(Silent):
        total = 0

        def advance(self, amount: int = 1) -> None:
            self.total += amount

    progress = Counting()
    fisher_diagonal(tiny_llama(), samples_of(*[(2, 3)] * 5, (1, 1)), progress=progress)
    assert progress.total == 6


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma", "mixtral"])
def test_bfloat16_weights_are_near_the_float32_loop(architecture: str) -> None:
    model = tiny_model(architecture).to(torch.bfloat16)
    samples = samples_of_all_lengths(6)
    fisher = fisher_diagonal(model, samples)
    assert all(value.dtype == torch.float32 for value in fisher.values())
    expected = _fisher_by_hand(model, samples)
    difference = sum(((fisher[name] - value) ** 2).sum().item() for name, value in expected.items()) ** 0.5
    assert difference <= 0.1 * sum((value**2).sum().item() for value in expected.values()) ** 0.5


@pytest.mark.parametrize("kind", ["Shared", "Merged", "Positions"])
def test_bfloat16_sums_of_many_samples_lose_nothing(kind: str) -> None:
    """In bfloat16 a sum of equal summands stands still at 256 of them: the mean of 600 would be less than half."""
    model = build(EXACT[kind]).to(torch.bfloat16)
    one = fisher_diagonal(model, EIGHT_TOKENS[:1], batch_size=1)
    many = fisher_diagonal(model, EIGHT_TOKENS[:1] * 600, batch_size=50)
    total, expected = (sum(value.sum().item() for value in fisher.values()) for fisher in (many, one))
    assert total == pytest.approx(expected, rel=0.02)


def test_the_batch_that_is_tried_first_has_a_size_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a batch with as many rows as positions is taken apart."""
    sizes = []

    class Noting(GradientWatch):
        def __init__(self, parameters: Any, shape: tuple[int, int], receive: Any, **rules: Any) -> None:
            sizes.append(shape[0])
            super().__init__(parameters, shape, receive, **rules)

    monkeypatch.setattr(per_sample_gradients, "GradientWatch", Noting)
    lengths = [9, 9, 4, 4, 4, 4]
    fisher_diagonal(tiny_llama(), [Sample([1], [2] * (length - 1)) for length in lengths])
    assert sizes[1:] == [2, 3, 1]
    assert sizes[0] > 1
    assert sizes[0] not in sizes[1:]


def test_autocast_is_refused() -> None:
    """Its gradients are rounded, and mixed with those of the weights' own type."""
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(LwfError, match="load the model again"):
        fisher_diagonal(tiny_llama(), [Sample([1], [2, 3]), Sample([4, 5], [6])])
