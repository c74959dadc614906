"""Random noise of a given size on the weights: the control that separates unlearning from mere perturbation."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lwf_assets.engine.evaluation.weight_distance import euclidean_distance, euclidean_norm
from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

TOLERANCE = 1e-4
"""Relative error of the norm that is accepted where the weights' own rounding is coarse."""


class WeightNoise(TrainerCallback):  # type: ignore[misc]
    """Moves the trainable weights by a given Euclidean distance, in a random direction, after given learning steps.

    Handed the `update_norm` of each unlearning step of another run, it disturbs the weights when and as much as that
    run's unlearning did, but knows nothing of D_U.

    The direction is that of independent standard normals over all trainable parameters, tied ones once. It follows from
    (`seed`, step) alone and uses no global generator; no state is saved, and a resumed run equals an
    uninterrupted one.

    Args:
        norms: learning step -> norm of the noise added after it; steps up to 0 come, in order, before the first
            learning step, as in `unlearning_steps`. A norm of 0 adds nothing.
        seed: of the noise.

    Raises:
        ValueError: a norm that is negative or not finite.
        LwfError: as training begins, if a step is after its end.
    """

    def __init__(self, norms: Mapping[int, float], *, seed: int = 0) -> None:
        for step, norm in norms.items():
            if not 0 <= norm < math.inf:
                raise ValueError(f"the norm of the noise at step {step} must be finite and at least 0; got {norm}")
        self.norms = dict(norms)
        self.seed = seed

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Add what comes before the first step, unless training resumes from weights that have it already."""
        last = max(self.norms, default=0)
        if last > state.max_steps:
            raise LwfError(
                f"weight noise is due after step {last}, but the training has {state.max_steps} steps; "
                "take the norms of a run of the same length"
            )
        if state.global_step == 0:
            for step in sorted(step for step in self.norms if step <= 0):
                self._add(step, model)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Add the noise of this step, if it has one."""
        if state.global_step in self.norms:
            self._add(state.global_step, model)

    def _add(self, step: int, model: PreTrainedModel) -> None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        add_noise(parameters, self.norms[step], seed=f"{self.seed}/{step}")


@torch.no_grad()
def add_noise(parameters: Sequence[Tensor], norm: float, *, seed: int | str) -> None:
    """Change `parameters` in place by a seeded random vector of Euclidean norm `norm`.

    Where the weights are stored in less than fp32, noise below half their last digit vanishes and larger noise is
    rounded; the vector is scaled so that what remains of it has the norm, to a relative error of `TOLERANCE` (more only
    for a norm so small that a handful of weights make it up).
    """
    if norm == 0:
        return
    # On the CPU, so that the same noise comes on every device.
    generator = torch.Generator().manual_seed(random.Random(seed).getrandbits(63))
    noise = [torch.randn(parameter.shape, generator=generator) for parameter in parameters]
    scale = norm / euclidean_norm(noise)
    if any(torch.finfo(parameter.dtype).bits < 32 for parameter in parameters):
        scale = _scale_that_remains(parameters, noise, norm, scale)
    for parameter, drawn in zip(parameters, noise, strict=True):
        parameter.copy_(_moved(parameter, drawn, scale))


def _scale_that_remains(parameters: Sequence[Tensor], noise: Sequence[Tensor], norm: float, scale: float) -> float:
    """The scale after which the rounded weights have moved by `norm`: by bisection, as rounding is monotone."""

    def remaining(scale: float) -> float:
        pairs = zip(parameters, noise, strict=True)
        return euclidean_distance((_moved(parameter, drawn, scale) for parameter, drawn in pairs), parameters)

    low, high = 0.0, scale
    while remaining(high) < norm:
        low, high = high, 2 * high
    while high - low > 1e-7 * high:
        middle = (low + high) / 2
        found = remaining(middle)
        if abs(found - norm) <= TOLERANCE * norm:
            return middle
        low, high = (middle, high) if found < norm else (low, middle)
    return high


def _moved(parameter: Tensor, noise: Tensor, scale: float) -> Tensor:
    wide = torch.promote_types(parameter.dtype, torch.float32)
    return (parameter.to(wide) + scale * noise.to(parameter.device, wide)).to(parameter.dtype)
