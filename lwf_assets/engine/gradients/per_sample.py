"""The gradient of each sample's loss, reduced block by block as a batched backward pass produces it.

Both the Fisher diagonal and the confidence terms are sums over the elements of per-sample gradients that never need to
be kept. They give this module a `Reduction`. The cost is about that of one plain training step on the same samples: the
products that give the per-sample gradients of a layer are the same arithmetic that a plain backward spends on the
gradient of its weights, and each block is reduced while it is still in the cache.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from lwf_assets.engine.gradients.autograd_graph import RECOMPUTES, parameters_reached_by
from lwf_assets.engine.gradients.blocks import Reduction, reduce_factors
from lwf_assets.engine.gradients.factors import Factor
from lwf_assets.engine.gradients.operations import NODES_WITH_RULE
from lwf_assets.engine.gradients.rules import RULES
from lwf_assets.engine.gradients.watch import GradientWatch
from lwf_assets.engine.loss import LossReduction, sample_losses
from lwf_assets.engine.model_state import left_as_found
from lwf_assets.engine.row_separation import RowSeparation, check_row_separation
from lwf_assets.engine.samples import (
    Sample,
    batches_by_length,
    collate,
    count_predicting_positions,
)
from lwf_assets.engine.token_budget import TokenBudget, out_of_memory_named, tokens_that_fit
from lwf_assets.errors import LwfError
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch.nn import Parameter
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


def reduce_per_sample_gradients(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    reduction: Reduction,
    *,
    only: Collection[str] | None = None,
    loss_reduction: LossReduction = "mean",
    batch_size: int | None = None,
    token_budget: TokenBudget = "auto",
    progress: Progress = SILENT,
) -> list[float]:
    """Feed every sample's gradient to `reduction`; give back each sample's loss, in nats.

    A tied parameter is one parameter: its gradient is the sum over its uses. A parameter that a sample does not reach
    (an idle expert) has gradient zero and need not be passed on. A parameter with a use that has no rule
    (`rules.py`) is found before its first gradient, named in the log, and differentiated sample by sample.

    Args:
        model: any transformers causal language model; left as found.
        samples: in any order.
        reduction: gets every block of every gradient.
        only: names of the parameters whose gradients are wanted; None for all. They need not be trainable.
        loss_reduction: a sample's loss is the mean or the sum over its response tokens.
        batch_size: samples in memory at once, at most; None for as many as `token_budget` allows.
        token_budget: tokens in memory at once, padding included; a longer sample is a batch of its own. `auto` is
            asked when all that `reduction` holds is there.
        progress: notified of every sample.

    Raises:
        LwfError: a batch does not fit into the GPU's memory.
    """
    losses = [0.0] * len(samples)
    budget = tokens_that_fit(model, token_budget, differentiated=True)
    with left_as_found(model, only) as parameters, torch.enable_grad(), out_of_memory_named():
        work = _Work(model, parameters, reduction, loss_reduction)
        separation = check_row_separation(model, samples)
        size = 1 if separation is RowSeparation.NONE else batch_size
        equal = separation is RowSeparation.EQUAL
        groups = batches_by_length(samples, budget, size, equal=equal)
        batches = list(_rows_unlike_positions(samples, groups))
        work.rehearse(samples, batches)
        for indices in batches:
            batch_losses = work.reduce([samples[index] for index in indices], indices)
            for index, loss in zip(indices, batch_losses.tolist(), strict=True):
                losses[index] = loss
            progress.advance(len(indices))
    return losses


def _rows_unlike_positions(samples: Sequence[Sample], batches: Iterable[list[int]]) -> Iterator[list[int]]:
    """The same batches, but that rows and positions, which must not be taken for one another, are never as many. (To
    pad a row is no way out: a model's context may leave no room.)"""
    for indices in batches:
        if 1 < len(indices) == len(samples[indices[0]]):
            yield indices[:-1]
            indices = indices[-1:]
        yield indices


class _Work:
    """Parameters sorted into those whose every use has a rule, which are differentiated for many samples together, and
    the others, for which one sample is differentiated at a time."""

    def __init__(
        self,
        model: PreTrainedModel,
        parameters: Mapping[str, Parameter],
        reduction: Reduction,
        loss_reduction: LossReduction,
    ) -> None:
        self.model = model
        self.reduction = reduction
        self.loss_reduction = loss_reduction
        self.together = dict(parameters)
        self.alone: dict[str, Parameter] = {}

    def rehearse(self, samples: Sequence[Sample], batches: Sequence[Sequence[int]]) -> None:
        """Set apart what has no rule in a small batch that none of `batches` is like. A dimension that is as large as a
        batch by coincidence (a number of layers, of positions, of positions with loss, of positions and a prefix), so
        that its rows would be taken for samples, is not as large as this one too: it differs from the number of
        positions by something else."""
        several = [indices for indices in batches if len(indices) > 1]
        if not several:
            return
        ids = (samples[0].prompt_ids + samples[0].response_ids)[:5]
        probe = Sample(ids[:1], ids[1:])
        differences = {
            positions - len(indices)
            for indices in several
            for positions in (
                max(len(samples[index]) for index in indices),
                count_predicting_positions([samples[index] for index in indices]),
            )
        }
        sizes = {len(indices) for indices in several} | {len(ids), len(probe.response_ids)}
        size = next(
            size
            for size in itertools.count(2)
            if size not in sizes and not {len(ids) - size, len(probe.response_ids) - size} & differences
        )
        self._losses([probe] * size, lambda name, factor: None)

    def reduce(self, samples: Sequence[Sample], indices: Sequence[int]) -> Tensor:
        """Reduce the gradients of one batch; returns its losses, [batch]."""
        places = torch.tensor(indices, device=self.model.device)
        losses = self._reduce_together(samples, places) if self.together else None
        if self.alone:
            alone = [self._reduce_alone(*one) for one in zip(samples, places.unsqueeze(1), strict=True)]
            losses = torch.cat(alone) if losses is None else losses
        assert losses is not None
        return losses

    def _reduce_together(self, samples: Sequence[Sample], places: Tensor) -> Tensor:
        waiting: dict[str, list[Factor]] = {}
        uses: dict[str, int] = {}  # and not the watch, which holds on to `receive`: neither would be freed

        def receive(name: str, factor: Factor) -> None:
            factors = waiting.setdefault(name, [])
            factors.append(factor)
            if len(factors) == uses[name]:
                reduce_factors(waiting.pop(name), self.reduction, places, name)

        losses, watch = self._losses(samples, receive)
        uses |= watch.uses
        self._backward(losses.sum(), watch)
        with torch.no_grad():
            for name, factors in waiting.items():  # a use that no loss depends on has reported nothing
                reduce_factors(factors, self.reduction, places, name)
        return losses.detach()

    def _losses(
        self, samples: Sequence[Sample], receive: Callable[[str, Factor], None]
    ) -> tuple[Tensor, GradientWatch]:
        """The losses of one batch, whose backward pass reports only the parameters with rules to `receive`."""
        self._differentiate(self.together, but_not=self.alone)
        batch = collate(samples).to(self.model.device)
        watch = GradientWatch(
            self.together,
            (batch.input_ids.shape[0], batch.input_ids.shape[1]),
            lambda name, factor: receive(name, factor) if name in self.together else None,
            rules=RULES,
            nodes_with_rule=NODES_WITH_RULE,
        )
        with watch:
            losses = sample_losses(self.model, batch, reduction=self.loss_reduction)
        names = {id(parameter): name for name, parameter in self.together.items()}
        without_rule = {names[id(leaf)] for leaf in parameters_reached_by(losses) if id(leaf) in names}
        self._set_apart(without_rule)
        return losses, watch

    def _backward(self, loss: Tensor, watch: GradientWatch) -> None:
        if self.together:
            try:
                torch.autograd.backward(loss, inputs=[watch.anchor])
            except CheckpointError as error:
                raise LwfError(RECOMPUTES) from error
            watch.check_order()

    def _differentiate(self, these: Mapping[str, Parameter], *, but_not: Mapping[str, Parameter]) -> None:
        for parameters, differentiable in ((these, True), (but_not, False)):
            for parameter in parameters.values():
                parameter.requires_grad_(differentiable)

    def _set_apart(self, names: Set[str]) -> None:
        if not names:
            return
        elements = sum(self.together[name].numel() for name in names)
        log.warning(
            "%d parameter tensors (%s elements; first %s) are differentiated one sample at a time, which is exact but "
            "slower: each is used in a way that has no rule",
            len(names),
            f"{elements:,}",
            min(names),
        )
        self.alone |= {name: self.together.pop(name) for name in sorted(names)}

    def _reduce_alone(self, sample: Sample, place: Tensor) -> Tensor:
        """The same for the parameters without a rule and a single sample, by a plain backward pass."""
        self._differentiate(self.alone, but_not=self.together)
        batch = collate([sample]).to(self.model.device)

        def receive(name: str, gradient: Tensor) -> None:
            self.reduction.add(name, ..., [(place, gradient.unsqueeze(0))])

        with gradients_handed_to(receive, self.alone):
            loss = sample_losses(self.model, batch, reduction=self.loss_reduction)
            if loss.requires_grad:  # not where the sample reaches none of them
                torch.autograd.backward(loss)
        return loss.detach()


@contextmanager
def gradients_handed_to(receive: Callable[[str, Tensor], None], parameters: Mapping[str, Parameter]) -> Iterator[None]:
    """Within the block, a backward pass hands each parameter's gradient to `receive` as soon as it is complete and
    keeps none: the gradient of the whole model never exists at once. Gradients that were there before are restored."""
    kept = {name: parameter.grad for name, parameter in parameters.items()}
    handles = []

    def hand_over(name: str) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            gradient, parameter.grad = parameter.grad, None
            assert gradient is not None
            receive(name, gradient)

        return hook

    try:
        for name, parameter in parameters.items():
            parameter.grad = None
            handles.append(parameter.register_post_accumulate_grad_hook(hand_over(name)))  # type: ignore[no-untyped-call]
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, parameter in parameters.items():
            parameter.grad = kept[name]
