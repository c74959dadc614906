"""An unattended build launches every cell once, inputs first, whatever happens on the way."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_study_values, write_study

from dagster_project.automation.build_driver import BuildCursor, CellRun, NextRuns, RunState, decide
from lwf_assets.graph.cells import Cell, cells, checked_with, inputs_of
from lwf_assets.planning.plan import Action, Plan, Step
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("driver")
    return load_study(write_study(folder, tiny_study_values(folder)))


def plan_of(study: Study, fresh: set[Cell], failed: frozenset[Cell] = frozenset()) -> Plan:
    """What the planner would say: everything is stale that is not `fresh`, and what follows from `failed` blocked."""
    blocked: set[Cell] = set()
    steps = []
    for cell in cells(study):
        if cell in failed or any(needed in blocked for needed in inputs_of(study, cell)):
            blocked.add(cell)
            steps.append(Step(cell, Action.BLOCKED, ("check failed",)))
        elif cell in fresh:
            steps.append(Step(cell, Action.NOTHING, recipe="r"))
        else:
            steps.append(Step(cell, Action.MAKE, ("not built",), recipe="r"))
    return Plan(tuple(steps))


def needs(study: Study, cell: Cell) -> set[Cell]:
    return {*inputs_of(study, cell), *checked_with(study, cell)}


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_a_build_from_any_state_makes_every_stale_cell_once_and_inputs_first(study: Study, seed: int) -> None:
    """Runs end in any order; some fail, some of the checks too; the sensor may look at any time in between."""
    draw = random.Random(seed)
    every = cells(study)
    fresh: set[Cell] = set()
    for cell in every:  # whatever is fresh is made from what is fresh
        if needs(study, cell) <= fresh and draw.random() < 0.5:
            fresh.add(cell)
    doomed = {cell for cell in every if draw.random() < 0.1}
    judged = {cell for cell in every if draw.random() < 0.05}
    made: list[Cell] = []
    runs: dict[Cell, RunState] = {}
    bad: set[Cell] = set()
    stale = [cell for cell in every if cell not in fresh]
    for _ in range(10 * len(every)):
        plan = plan_of(study, fresh, frozenset(bad))
        decision = decide(study, plan, [CellRun(str(cell), "r", state) for cell, state in runs.items()])
        for step in decision.launch:
            assert step.cell not in runs
            assert needs(study, step.cell) <= fresh - bad
            runs[step.cell] = RunState.ACTIVE
            made.append(step.cell)
        if decision.is_over:
            break
        active = [cell for cell, state in runs.items() if state == RunState.ACTIVE]
        for cell in draw.sample(active, draw.randint(0, len(active))):
            if cell in doomed:
                runs[cell] = RunState.FAILED
                continue
            runs[cell] = RunState.SUCCEEDED
            fresh.add(cell)
            if cell in judged:
                bad.add(cell)
    else:
        pytest.fail("the build did not end")
    assert len(made) == len(set(made))
    spoilt = doomed | judged
    reached = [cell for cell in stale if not _above(study, cell) & spoilt]
    assert set(reached) <= set(made)
    assert all(not _above(study, cell) & doomed & set(stale) for cell in made)
    assert set(decision.failed) == {str(cell) for cell in made if cell in doomed and not _above(study, cell) & bad}


def _above(study: Study, cell: Cell) -> set[Cell]:
    found: set[Cell] = set()
    pending = list(needs(study, cell))
    while pending:
        needed = pending.pop()
        if needed not in found:
            found.add(needed)
            pending += needs(study, needed)
    return found


def test_a_run_that_changed_nothing_is_not_repeated_but_another_recipe_is(study: Study) -> None:
    first = cells(study)[0]
    fresh = set(cells(study)) - {first}
    tried = [CellRun(str(first), "r", RunState.SUCCEEDED)]
    assert decide(study, plan_of(study, fresh), tried) == NextRuns((), (), (str(first),), ())
    tried = [CellRun(str(first), "of older data", RunState.SUCCEEDED)]
    decision = decide(study, plan_of(study, fresh), tried)
    assert [step.cell for step in decision.launch] == [first]


def test_a_fresh_study_is_over_at_once(study: Study) -> None:
    decision = decide(study, plan_of(study, set(cells(study))), [])
    assert decision == NextRuns((), (), (), ())
    assert decision.is_over


def test_what_the_sensor_remembers_survives_a_restart() -> None:
    at = BuildCursor.from_cursor(None)
    assert (at.build, at.seen) == (None, 0)
    at = at.opened("run-1", 7)
    assert BuildCursor.from_cursor(at.to_cursor()) == at
    assert BuildCursor.from_cursor(at.closed().to_cursor()) == BuildCursor(None, 7)
