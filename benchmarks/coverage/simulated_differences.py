"""Differences of two models between which there is no difference, for holding intervals against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scenario:
    """Where differences come from. Their mean over all seeds and items is zero."""

    name: str
    seed_sd: float
    """Standard deviation of what a seed gives to all items."""
    item_sd: float
    """Of what an item has with all seeds."""
    noise_sd: float
    """Of what is left to one seed's answer to one item."""
    binary: bool = False
    """Right or wrong rather than a real measure. The deviations are then those of half the distance of two latent
    abilities, in units in which the items' difficulty has a deviation of 2."""
    skewed: bool = False
    """What an item has is exponential rather than normal."""

    def draw(self, seeds: int, items: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Differences [seeds, items]."""
        of_item = generator.exponential(size=(1, items)) - 1 if self.skewed else generator.normal(size=(1, items))
        common: NDArray[np.float64] = self.seed_sd * generator.normal(size=(seeds, 1)) + self.item_sd * of_item
        if not self.binary:
            return common + self.noise_sd * generator.normal(size=(seeds, items))
        difficulty = 2 * generator.normal(size=(1, items))
        noise = self.noise_sd * generator.normal(size=(2, seeds, items))
        differences: NDArray[np.float64] = np.subtract(
            difficulty + common + noise[0] > 0, difficulty - common + noise[1] > 0, dtype=float
        )
        return differences


SCENARIOS = [
    Scenario("noise alone", seed_sd=0, item_sd=0, noise_sd=1),
    Scenario("seeds dominate", seed_sd=1, item_sd=0.3, noise_sd=1),
    Scenario("items dominate", seed_sd=0, item_sd=1, noise_sd=0.2),
    # With 4 seeds and 100 items each gives the mean a variance of 0.01.
    Scenario("seeds and items alike", seed_sd=0.2, item_sd=1, noise_sd=0.2),
    Scenario("skewed items", seed_sd=0, item_sd=1, noise_sd=0.2, skewed=True),
    Scenario("binary, noise alone", seed_sd=0, item_sd=0, noise_sd=0.5, binary=True),
    Scenario("binary, seeds dominate", seed_sd=0.3, item_sd=0.1, noise_sd=0.1, binary=True),
    Scenario("binary, items dominate", seed_sd=0, item_sd=0.3, noise_sd=0.05, binary=True),
    Scenario("binary, few discordant", seed_sd=0, item_sd=0.05, noise_sd=0.05, binary=True),
]
