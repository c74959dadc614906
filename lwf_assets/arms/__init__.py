"""The arms of a study: ablations, baselines and controls, one module for each kind."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lwf_assets.fine_tuning.arms.bss import BssArm
from lwf_assets.fine_tuning.arms.extra_steps import ExtraStepsArm
from lwf_assets.fine_tuning.arms.l2_sp import L2SpArm
from lwf_assets.fine_tuning.arms.lwf import LwfArm
from lwf_assets.fine_tuning.arms.other_base import OtherBaseArm
from lwf_assets.fine_tuning.arms.random_tokens import RandomTokensArm
from lwf_assets.fine_tuning.arms.weight_decay import WeightDecayArm
from lwf_assets.fine_tuning.arms.weight_noise import WeightNoiseArm

Arm = Annotated[
    LwfArm | RandomTokensArm | WeightNoiseArm | ExtraStepsArm | BssArm | L2SpArm | WeightDecayArm | OtherBaseArm,
    Field(discriminator="kind"),
]
"""One arm: an own module of this package, named as the kind, has its settings and its `fine_tune`."""
