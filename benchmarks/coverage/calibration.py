"""How often intervals hold the truth, on simulated differences of which it is known.

python -m benchmarks.coverage.calibration [--draws 2000] [--items 100]

prints the table of docs/statistics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage.rival_intervals import INTERVALS, IntervalOf
from benchmarks.coverage.simulated_differences import SCENARIOS, Scenario

SEEDS = (3, 5, 10)


def draws_of(
    scenario: Scenario, *, seeds: int, items: int, draws: int, effect: float = 0.0, seed: int = 0
) -> Iterator[NDArray[np.float64]]:
    """`draws` independent studies of the scenario, differences [seeds, items] each, with a true mean of `effect`."""
    generator = np.random.default_rng([seed, seeds, items])
    for _ in range(draws):
        yield scenario.draw(seeds, items, generator) + effect


def coverage(
    interval: IntervalOf, scenario: Scenario, *, seeds: int, items: int = 100, draws: int = 2000, seed: int = 0
) -> float:
    """The share of draws whose interval holds zero, which is the truth."""
    ends = [interval(drawn) for drawn in draws_of(scenario, seeds=seeds, items=items, draws=draws, seed=seed)]
    return float(np.mean([low <= 0 <= high for low, high in ends]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--items", type=int, default=100)
    options = parser.parse_args(arguments)
    print("| differences | seeds | " + " | ".join(INTERVALS) + " |")
    print("| --- | ---: |" + " ---: |" * len(INTERVALS))
    for scenario in SCENARIOS:
        for seeds in SEEDS:
            covered = [
                coverage(interval, scenario, seeds=seeds, items=options.items, draws=options.draws)
                for interval in INTERVALS.values()
            ]
            print(f"| {scenario.name} | {seeds} | " + " | ".join(f"{100 * share:.1f}" for share in covered) + " |")


if __name__ == "__main__":
    main()
