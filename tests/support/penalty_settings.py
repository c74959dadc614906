"""What the tests of penalties train on, and how."""

from __future__ import annotations

from typing import Any

from tiny import random_samples

from lwf_assets.study.sections import TrainingSettings

LEARNED = random_samples(8, seed=1)


def some_settings(**settings: Any) -> TrainingSettings:
    defaults = {"max_steps": 4, "batch_size": 4, "learning_rate": 3e-3, "autocast": "off", "checkpoint_every": 3}
    return TrainingSettings(**defaults | settings)
