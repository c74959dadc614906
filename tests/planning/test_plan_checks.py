"""What the plan makes of checks, of force, and of a part of the study."""

from __future__ import annotations

import copy

import pytest
from pretend_store import FIRST, SECOND, Pretend, cell, downstream, evaluated

from lwf_assets.building.check_runner import standing
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import cells, inputs_of
from lwf_assets.planning.plan import Action, Step, with_ancestors


def test_a_check_that_was_not_run_is_to_be_run(pretend: Pretend) -> None:
    for which in cells(pretend.study):
        pretend.make(which, checks=which != cell("reference_checkpoint[sums]"))
    steps = pretend.steps()
    assert {name: step.action for name, step in steps.items()} == {"reference_checkpoint[sums]": Action.CHECK}
    assert steps["reference_checkpoint[sums]"].reasons == (
        "not checked yet: reference_weights_are_finite",
        "not checked yet: reference_loss_fell",
    )
    assert steps["reference_checkpoint[sums]"].is_stale
    pretend.judge(cell("reference_checkpoint[sums]"))
    assert pretend.actions() == {}


def test_verdicts_hold_for_one_version_only(fresh: Pretend) -> None:
    fresh.values["reference"] = {"optimum": "gradient_step"}
    fresh.make(cell("reference_checkpoint[sums]"), checks=False)
    assert fresh.actions()["reference_checkpoint[sums]"] == "CHECK"
    del fresh.values["reference"]
    assert fresh.actions() == {"reference_checkpoint[sums]": "TAKE"}


def test_test_data_is_checked_again_beside_other_learning_data(fresh: Pretend) -> None:
    fresh.values["learning_tasks"]["sums"]["rows"] = {"train": 50}
    steps = fresh.steps()
    assert steps["learning_data[sums]"].action == Action.MAKE
    assert steps["test_data[sums]"] == Step(
        cell("test_data[sums]"), Action.CHECK, ("not checked yet: learning_data[sums] is recomputed",)
    )
    fresh.make(cell("learning_data[sums]"))
    assert fresh.steps()["test_data[sums]"].reasons == ("not checked yet: no_train_test_overlap",)
    fresh.judge(cell("test_data[sums]"), failing=["no_train_test_overlap"])
    assert fresh.actions()["test_data[sums]"] == "BLOCKED"
    del fresh.values["learning_tasks"]["sums"]["rows"]  # beside the earlier learning data it had passed
    fresh.make(cell("learning_data[sums]"))
    assert fresh.actions() == {}


def test_a_failed_check_blocks_all_that_follows_and_nothing_beside_it(fresh: Pretend) -> None:
    which = cell(f"scored_forget_set[{FIRST}]")
    fresh.judge(which, failing=["confidence_is_finite_with_spread"])
    steps = fresh.steps()
    assert {name: step.action for name, step in steps.items()} == dict.fromkeys(
        [str(which), *downstream(FIRST)], Action.BLOCKED
    )
    assert steps[str(which)].reasons == ("check failed: confidence_is_finite_with_spread: it is bad",)
    assert steps[f"lwf_checkpoint[{FIRST}]"].reasons == (f"{which} is blocked",)
    assert steps[evaluated(FIRST)].reasons == (f"lwf_checkpoint[{FIRST}] is blocked",)
    blocked = (evaluated(FIRST), which, f"lwf_checkpoint[{FIRST}]")
    assert steps[f"eval_report[{FIRST}]"].reasons == tuple(f"{name} is blocked" for name in blocked)
    plan = fresh.plan()
    assert (len(plan.stale), len(plan.blocked)) == (0, 5)
    fresh.values["unlearning"] = {"interval": 3}  # what is not blocked goes on
    assert fresh.actions()[f"lwf_checkpoint[{SECOND}]"] == "MAKE"
    assert fresh.actions()[f"lwf_checkpoint[{FIRST}]"] == "BLOCKED"


def test_other_settings_unblock(fresh: Pretend) -> None:
    which = cell(f"scored_forget_set[{FIRST}]")
    fresh.judge(which, failing=["confidence_is_finite_with_spread"])
    fresh.values["confidence"] = {"alpha": 0.5}
    assert not fresh.plan().blocked
    del fresh.values["confidence"]
    assert fresh.actions()[str(which)] == "BLOCKED"
    fresh.judge(which)
    assert fresh.actions() == {}


def test_an_artifact_in_the_store_that_failed_its_check_is_not_taken(fresh: Pretend) -> None:
    which = cell(f"scored_forget_set[{FIRST}]")
    fresh.values["confidence"] = {"alpha": 0.5}
    fresh.make(which)
    fresh.judge(which, failing=["confidence_is_finite_with_spread"])
    del fresh.values["confidence"]
    fresh.make(which)
    fresh.values["confidence"] = {"alpha": 0.5}
    assert fresh.actions()[str(which)] == "BLOCKED"


def test_force_makes_a_cell_and_what_may_follow_from_it(fresh: Pretend) -> None:
    which = cell(f"lwf_checkpoint[{FIRST}]")
    stale = {str(step.cell): step for step in fresh.plan(force=[which]).stale}
    assert set(stale) == downstream(FIRST)
    assert stale[str(which)] == Step(which, Action.MAKE, ("forced",))


def test_force_makes_a_blocked_cell_anew_but_not_one_that_waits_for_another(fresh: Pretend) -> None:
    scored, checkpoint = cell(f"scored_forget_set[{FIRST}]"), cell(f"lwf_checkpoint[{FIRST}]")
    fresh.judge(scored, failing=["confidence_is_finite_with_spread"])
    assert scored in {step.cell for step in fresh.plan(force=[scored]).stale}
    assert checkpoint in {step.cell for step in fresh.plan(force=[checkpoint]).blocked}


def test_only_asks_for_a_cell_with_its_ancestors(pretend: Pretend) -> None:
    asked = cell(f"eval_report[{FIRST}]")
    planned = [step.cell for step in pretend.plan(only=[asked]).steps]
    # What the models without a forgetting task are measured on: the samples of all of them.
    samples = {cell("forgetting_prompts[minds]"), cell("self_generated_corpus[minds]")}
    own = {which for which in cells(pretend.study) if "minds" not in str(which) and which.asset != "leaderboard"}
    assert set(planned) == own | samples
    assert planned == [which for which in cells(pretend.study) if which in planned]
    assert [str(which) for which in with_ancestors(pretend.study, [cell("test_data[sums]")])] == [
        "learning_data[sums]",  # its check reads it
        "test_data[sums]",
    ]


def test_every_ancestor_is_asked_for(pretend: Pretend) -> None:
    for which in cells(pretend.study):
        asked = with_ancestors(pretend.study, [which])
        for one in asked:
            assert set(inputs_of(pretend.study, one)) <= set(asked)


def test_materialize_wants_its_inputs_and_a_cell_of_the_study(pretend: Pretend) -> None:
    with pytest.raises(LwfError, match=r"fisher_diagonal\[sums\] is made from reference_checkpoint\[sums\], which is"):
        pretend.make(cell("fisher_diagonal[sums]"))
    with pytest.raises(LwfError, match=r"learning_data has no partition 'sum' in the study pretend; it has sums"):
        pretend.make(cell("learning_data[sum]"))
    with pytest.raises(LwfError, match=r"fisher_diagonal\[sums\] is not built; `lwf build` builds it"):
        pretend.judge(cell("fisher_diagonal[sums]"))
    assert pretend.made == []


def test_a_maker_that_fails_leaves_the_earlier_artifact_current(fresh: Pretend) -> None:
    which = cell(f"scored_forget_set[{FIRST}]")
    before = fresh.store.current(which.asset, which.partition)
    good, fresh.values["confidence"] = copy.deepcopy(fresh.values), {"alpha": 0.5}
    fresh.contents[str(which)] = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        fresh.make(which)
    assert fresh.store.current(which.asset, which.partition) == before
    assert not list(fresh.store.folder(which.asset, which.partition).glob(".draft-*"))
    assert fresh.actions()[str(which)] == "MAKE"
    fresh.values = good
    assert fresh.actions() == {}


def test_standing_tells_waiting_from_failed_checks(fresh: Pretend) -> None:
    which = cell("reference_checkpoint[sums]")
    artifact = fresh.store.current(which.asset, which.partition)
    assert artifact is not None
    assert standing(fresh.store, which, artifact.version, []) == ([], [])
    fresh.judge(which, failing=["reference_loss_fell"])
    assert standing(fresh.store, which, artifact.version, []) == ([], ["reference_loss_fell: it is bad"])
    assert standing(fresh.store, which, "another", [])[0] == ["reference_weights_are_finite", "reference_loss_fell"]
    assert standing(fresh.store, cell("learning_data[sums]"), "any", []) == ([], [])
