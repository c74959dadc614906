"""False positives and power over 500 simulated studies a case, and the rivals that docs/statistics.md speaks of."""

from __future__ import annotations

import re

import numpy as np
import pytest
from places import ROOT

from benchmarks.coverage.calibration import SEEDS, coverage, draws_of, main
from benchmarks.coverage.rival_intervals import INTERVALS, pigeonhole, pigeonhole_means
from benchmarks.coverage.simulated_differences import SCENARIOS, Scenario
from lwf_assets.statistics import minimum_detectable_effect, paired_effect, seed_effect, verdict
from lwf_assets.statistics.effect import Effect

DRAWS = 500
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("seeds", SEEDS)
def test_where_there_is_no_effect_one_is_seldom_found(scenario: Scenario, seeds: int) -> None:
    found = [paired_effect(drawn) for drawn in draws_of(scenario, seeds=seeds, items=100, draws=DRAWS)]
    false_positives = np.mean([effect.p_value < 0.05 for effect in found])
    # 1.3 times nominal, and one standard error of 500 draws.
    assert false_positives <= 0.065 + 0.011
    verdicts = {verdict(effect, higher_is_better=True) for effect in found if effect.p_value < 0.05}
    assert verdicts <= {"helps", "hurts"}


@pytest.mark.parametrize("name", ["seeds dominate", "items dominate", "binary, items dominate", "skewed items"])
@pytest.mark.parametrize("seeds", SEEDS)
def test_where_one_source_dominates_the_rate_is_near_nominal(name: str, seeds: int) -> None:
    found = [paired_effect(drawn) for drawn in draws_of(BY_NAME[name], seeds=seeds, items=100, draws=DRAWS, seed=1)]
    assert 0.03 <= np.mean([effect.p_value < 0.05 for effect in found]) <= 0.07
    # At another level too: the p-value is not made for 0.05 alone.
    assert 0.15 <= np.mean([effect.p_value < 0.2 for effect in found]) <= 0.25


def test_with_few_items_too() -> None:
    for name in ("noise alone", "items dominate", "seeds and items alike"):
        found = [paired_effect(drawn) for drawn in draws_of(BY_NAME[name], seeds=3, items=8, draws=DRAWS)]
        assert np.mean([effect.p_value < 0.05 for effect in found]) <= 0.065 + 0.011


def test_numbers_of_seeds_have_nominal_rates() -> None:
    drawn = np.random.default_rng(0).normal(size=(DRAWS, 3))
    found = [seed_effect(of_study) for of_study in drawn]
    assert 0.03 <= np.mean([effect.p_value < 0.05 for effect in found]) <= 0.07


@pytest.mark.parametrize(
    ("scenario", "seeds", "standard_error", "freedom"),
    [
        # The truth: an item's variance over 100 items, and noise; a seed's variance over the seeds, and noise.
        (BY_NAME["items dominate"], 3, (1 / 100 + 0.04 / 300) ** 0.5, 99.0),
        (Scenario("seeds", seed_sd=1, item_sd=0, noise_sd=1), 5, (1 / 5 + 1 / 500) ** 0.5, 4.0),
        (Scenario("seeds", seed_sd=1, item_sd=0, noise_sd=1), 3, (1 / 3 + 1 / 300) ** 0.5, 2.0),
    ],
)
def test_an_effect_of_the_minimum_detectable_size_is_found_as_often_as_said(
    scenario: Scenario, seeds: int, standard_error: float, freedom: float
) -> None:
    design = Effect(0.0, 0.0, 0.0, standard_error, 1.0, seeds, 100, freedom)
    smallest = minimum_detectable_effect(design, power=0.8)
    found = [
        paired_effect(drawn)
        for drawn in draws_of(scenario, seeds=seeds, items=100, draws=DRAWS, effect=smallest, seed=2)
    ]
    said = [verdict(effect, higher_is_better=False) for effect in found]
    assert said.count("hurts") / DRAWS == pytest.approx(0.8, abs=0.05)
    assert said.count("helps") == 0


def test_a_plain_bootstrap_of_three_seeds_would_find_effects_that_are_not_there() -> None:
    assert coverage(pigeonhole, BY_NAME["seeds dominate"], seeds=3, draws=200) < 0.8


def test_the_pigeonhole_bootstrap_resamples_both_axes() -> None:
    array = np.random.default_rng(1).normal(size=(4, 30)) + np.random.default_rng(2).normal(size=(4, 1))
    generator = np.random.default_rng(3)
    slow = [array[generator.integers(4, size=4)][:, generator.integers(30, size=30)].mean() for _ in range(4000)]
    fast = pigeonhole_means(array)
    assert fast.mean() == pytest.approx(array.mean(), abs=0.05)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.08)


def test_scenarios_have_a_mean_of_zero() -> None:
    for scenario in SCENARIOS:
        drawn = np.stack(list(draws_of(scenario, seeds=3, items=50, draws=2000)))
        means = drawn.mean(axis=(1, 2))
        assert abs(means.mean()) < 3.5 * means.std() / len(means) ** 0.5, scenario.name
        assert not scenario.binary or set(np.unique(drawn)) <= {-1.0, 0.0, 1.0}


def test_the_command_prints_a_row_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--draws", "2", "--items", "5"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == len(SCENARIOS) * len(SEEDS)
    assert all(len(re.findall(r"\| ", row)) == 2 + len(INTERVALS) for row in rows)


def test_the_page_has_every_case_and_none_of_ours_below_what_it_promises() -> None:
    page = (ROOT / "docs" / "statistics.md").read_text()
    for scenario in SCENARIOS:
        for seeds in SEEDS:
            found = re.search(rf"^\| {scenario.name} \| {seeds} \| ([\d.]+) \|", page, re.MULTILINE)
            assert found, (scenario.name, seeds)
            assert float(found[1]) >= 93.5
