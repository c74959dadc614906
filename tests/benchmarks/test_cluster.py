"""The simulated cluster: against sums, critical paths and bounds; and with the real planner from end to end."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cluster.__main__ import main
from benchmarks.cluster.network import Network
from benchmarks.cluster.planner import RealPlanner
from benchmarks.cluster.scenarios import by_needs, compared, longest_chain
from benchmarks.cluster.simulation import Cluster, Work, critical_path, simulate, total_work
from benchmarks.cluster.study import MEASURED, measured_before, work_of, write_large_study

Cells = dict[str, Work]


@st.composite
def dags(draw: st.DrawFn) -> Cells:
    """Up to twelve cells, each after what it needs; they read some of it."""
    cells: Cells = {}
    for number in range(draw(st.integers(1, 12))):
        needs = tuple(name for name in cells if draw(st.booleans()))
        reads = tuple(name for name in needs if draw(st.booleans()))
        seconds = draw(st.sampled_from([0.0, 1.0, 2.5, 7.0]))
        cells[str(number)] = Work(seconds, reads, needs, draw(st.sampled_from([0.0, 1e3, 4e8])))
    return cells


clusters = st.builds(
    Cluster,
    machines=st.integers(1, 4),
    devices=st.integers(1, 3),
    machine_bandwidth=st.sampled_from([1e8, math.inf]),
    store_bandwidth=st.sampled_from([1.5e8, math.inf]),
    cache=st.sampled_from([0.0, 5e8, math.inf]),
    orchestration=st.sampled_from([0.0, 0.5]),
    planning=st.sampled_from([0.0, 0.2]),
    tick=st.sampled_from([0.0, 1.5]),
    near=st.booleans(),
)


@given(dags())
def test_one_device_takes_the_sum_and_enough_devices_the_critical_path(cells: Cells) -> None:
    assert simulate(cells, by_needs(cells), Cluster(1)).makespan == pytest.approx(total_work(cells))
    many = simulate(cells, by_needs(cells), Cluster(len(cells)))
    assert many.makespan == pytest.approx(critical_path(cells))
    assert sum(cells[name].seconds for name in longest_chain(cells)) == pytest.approx(critical_path(cells))


@given(dags(), st.integers(1, 6))
def test_a_list_schedule_is_within_grahams_bound(cells: Cells, devices: int) -> None:
    """R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969."""
    makespan = simulate(cells, by_needs(cells), Cluster(devices)).makespan
    path, share = critical_path(cells), total_work(cells) / devices
    assert max(path, share) - 1e-9 <= makespan <= share + (1 - 1 / devices) * path + 1e-9


@given(dags(), clusters)
def test_every_cell_ends_once_and_no_cost_makes_a_build_faster_than_its_bounds(cells: Cells, cluster: Cluster) -> None:
    outcome = simulate(cells, by_needs(cells), cluster)
    assert Counter(outcome.ended) == Counter(cells.keys())
    at = {name: place for place, name in enumerate(outcome.ended)}
    assert all(at[needed] < at[name] for name, work in cells.items() for needed in work.needs)
    devices = cluster.machines * cluster.devices
    whole = total_work(cells) + len(cells) * cluster.orchestration
    assert outcome.makespan >= max(critical_path(cells), whole / devices) - 1e-6
    spent = outcome.orchestrating + outcome.fetching + outcome.computing + outcome.publishing
    assert spent <= devices * outcome.makespan + 1e-6
    moved = outcome.bytes_fetched + outcome.bytes_published
    assert outcome.makespan >= moved / min(cluster.store_bandwidth, cluster.machines * cluster.machine_bandwidth) - 1e-6


@given(dags(), clusters)
def test_an_endless_cache_fetches_each_file_at_most_once_on_each_machine(cells: Cells, cluster: Cluster) -> None:
    outcome = simulate(cells, by_needs(cells), cluster)
    if math.isinf(cluster.cache):
        assert set(outcome.fetched.values()) <= {1}
    assert outcome.bytes_fetched == sum(cells[name].size * times for (_, name), times in outcome.fetched.items())
    assert outcome.bytes_published == sum(work.size for work in cells.values())


def test_one_machine_with_an_endless_cache_fetches_nothing() -> None:
    cells = {"a": Work(1, size=10), "b": Work(1, ("a",), ("a",), 10), "c": Work(1, ("a", "b"), ("b",))}
    assert simulate(cells, by_needs(cells), Cluster(1, 2)).bytes_fetched == 0
    assert simulate(cells, by_needs(cells), Cluster(1, 2, cache=0)).bytes_fetched == 30


def test_bandwidths_are_shared() -> None:
    """Two machines of 10 with one and two transfers, at a store of 12: 6 each, then what the store still has."""
    network, ended = Network(10, 12), list[tuple[str, float]]()

    def end(name: str) -> None:
        ended.append((name, round(now, 6)))

    for machine, name, size in ((0, "alone", 40), (1, "first", 20), (1, "second", 44)):
        network.begin(0, machine, size, lambda name=name: end(name))
    while math.isfinite(now := network.next_end()):
        network.advance(now)
    # 4 each; from 5 on two transfers share 12, the last has its machine's 10
    assert ended == [("first", 5.0), ("alone", round(5 + 20 / 6, 6)), ("second", round(5 + 20 / 6 + 4 / 10, 6))]


def test_the_planner_costs_time_and_is_asked_at_ticks() -> None:
    cells = {"a": Work(1), "b": Work(1, (), ("a",))}
    assert simulate(cells, by_needs(cells), Cluster(1, planning=0.5)).makespan == 3
    assert simulate(cells, by_needs(cells), Cluster(1, tick=15)).makespan == 16
    assert simulate(cells, by_needs(cells), Cluster(1, orchestration=2)).makespan == 6


def test_the_real_planner_launches_what_needs_nothing_more(tmp_path: Path) -> None:
    """Its answers are those of the plain rule, which the comparison insists on; every cell is launched once."""
    study = write_large_study(tmp_path, 2, MEASURED, "float32")
    performance = json.loads((Path(__file__).parents[2] / "docs" / "performance.json").read_text())
    cells = work_of(study, tmp_path, measured_before(performance, tmp_path / "measured"), speed=1)
    planner = RealPlanner(study, tmp_path / "planner")
    outcome = simulate(cells, compared(planner, by_needs(cells)), Cluster(2, tick=15))
    assert Counter(outcome.ended) == Counter(cells.keys())
    assert len(planner.seconds) == outcome.plannings
    checkpoints = [work for name, work in cells.items() if name.startswith("lwf_checkpoint")]
    assert {work.size for work in checkpoints} == {3 * 4 * 134_515_008}
    assert all(work.seconds > 1000 for work in checkpoints)


def test_a_planner_that_launches_something_else_is_found() -> None:
    cells = {"a": Work(1), "b": Work(1)}
    with pytest.raises(AssertionError, match="other cells"):
        simulate(cells, compared(lambda ended: ["b"], by_needs(cells)), Cluster(1))


@pytest.mark.slow
def test_the_page_is_written_and_rendered_again_from_the_results(tmp_path: Path) -> None:
    main(["--quick", "--out", str(tmp_path)])
    page = (tmp_path / "scaling.md").read_text()
    assert "A study of 71 cells, simulated on 1 to 64 devices" in page
    assert "the critical path" in page
    for scenario in json.loads((tmp_path / "scaling.json").read_text())["scenarios"]:
        for point in scenario["points"]:
            least = max(scenario["critical_path"], scenario["work"] / point["devices"])
            assert least <= point["without_all"] <= point["makespan"] * 1.1
    main(["--render", "--out", str(tmp_path)])
    assert (tmp_path / "scaling.md").read_text() == page
