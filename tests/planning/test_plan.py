"""The planner on artifacts without weight: what is stale or blocked, why, and what follows from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from pretend_store import FIRST, SECOND, Pretend, cell, downstream

import lwf_assets.graph.table
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import cells
from lwf_assets.planning.plan import Action
from lwf_assets.store.partition import Partition

PLAIN = {"evaluation[sums|base]", "evaluation[sums|reference]"}
"""The evaluations of the models that know of no forgetting task; they look at the samples of all."""


REPORTS = {f"eval_report[{FIRST}]", f"eval_report[{SECOND}]", "leaderboard"}


CELLS = 22


def test_nothing_is_stale_after_everything_was_made(fresh: Pretend) -> None:
    assert fresh.actions() == {}
    assert fresh.plan().to_dict() == {"stale": [], "blocked": [], "fresh": CELLS}


def test_in_an_empty_store_everything_is_to_be_made(pretend: Pretend) -> None:
    plan = pretend.plan()
    assert [step.cell for step in plan.steps] == list(cells(pretend.study))
    assert {step.action for step in plan.steps} == {Action.MAKE}
    assert {step.reasons for step in plan.steps} == {("not built",)}


def test_planning_writes_nothing(pretend: Pretend) -> None:
    pretend.plan()
    assert not pretend.store.root.exists()


def test_what_the_plan_says_is_what_a_build_does(fresh: Pretend) -> None:
    """Each step done as the plan says, nothing is left; what was to be taken from the store costs no work."""
    fresh.values["confidence"] = {"alpha": 0.5}
    planned = fresh.plan().stale
    assert {step.action for step in planned} == {Action.MAKE}
    for step in planned:
        fresh.make(step.cell)
    assert set(fresh.made) == {str(step.cell) for step in planned}
    assert fresh.actions() == {}
    del fresh.values["confidence"]
    assert set(fresh.actions().values()) == {"TAKE"}
    assert set(fresh.actions()) == set(fresh.made)
    fresh.made.clear()
    for step in fresh.plan().stale:
        fresh.make(step.cell)
    assert fresh.made == []
    assert fresh.actions() == {}


@pytest.mark.parametrize(
    ("key", "value", "which", "reason"),
    [
        ("confidence", {"alpha": 0.5}, f"scored_forget_set[{FIRST}]", "alpha: 0.25 -> 0.5"),
        ("unlearning", {"optimizer": "sgd"}, f"lwf_checkpoint[{SECOND}]", "unlearning.optimizer: adam -> sgd"),
        ("fisher", {"samples": None}, "fisher_diagonal[sums]", "fisher.samples: 256 -> none"),
        ("seeds", [1, 2], "reference_checkpoint[sums]", "seeds: [0] -> [1, 2]"),
        (
            "learning_tasks",
            {"sums": {"preset": "chain_sum", "source": {"parameters": {"max_terms": 3.0}}}},
            "learning_data[sums]",
            "task.source.parameters.max_terms: 3 -> 3.0",
        ),
    ],
)
def test_a_changed_setting_is_told_with_its_key_and_both_values(
    key: str, value: Any, which: str, reason: str, fresh: Pretend
) -> None:
    fresh.values[key] = value
    step = fresh.steps()[which]
    assert (step.action, step.reasons) == (Action.MAKE, (reason,))


def test_what_follows_from_a_change_names_the_input_that_is_made_anew(fresh: Pretend) -> None:
    fresh.values["confidence"] = {"alpha": 0.5}
    steps = fresh.steps()
    assert set(steps) == {f"scored_forget_set[{FIRST}]", f"scored_forget_set[{SECOND}]", *downstream(FIRST, SECOND)}
    assert steps[f"lwf_checkpoint[{FIRST}]"].reasons == (f"scored_forget_set[{FIRST}] is recomputed",)
    assert steps["leaderboard"].reasons == (
        f"eval_report[{FIRST}] is recomputed",
        f"eval_report[{SECOND}] is recomputed",
    )


def test_an_input_that_changed_is_named_once_it_is_there(fresh: Pretend) -> None:
    fresh.values["confidence"] = {"alpha": 0.5}
    fresh.make(cell(f"scored_forget_set[{FIRST}]"))
    step = fresh.steps()[f"lwf_checkpoint[{FIRST}]"]
    assert (step.action, step.reasons) == (Action.MAKE, (f"scored_forget_set[{FIRST}] changed",))


def test_an_input_that_came_out_the_same_makes_nothing_stale(fresh: Pretend) -> None:
    which = cell(f"scored_forget_set[{FIRST}]")
    before = fresh.store.current(which.asset, which.partition)
    assert before is not None
    fresh.contents[str(which)] = (before.path / "contents").read_text()
    fresh.values["confidence"] = {"alpha": 0.5}
    fresh.make(which)
    assert f"lwf_checkpoint[{FIRST}]" not in fresh.steps()
    assert f"lwf_checkpoint[{SECOND}]" in fresh.steps()


def test_a_raised_code_version_is_told(fresh: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lwf_assets.graph.table.ASSET["eval_report"]
    raised = dataclasses.replace(before, code_version="next")
    monkeypatch.setitem(lwf_assets.graph.table.ASSET, "eval_report", raised)
    steps = fresh.steps()
    assert set(steps) == REPORTS
    assert steps[f"eval_report[{FIRST}]"].reasons == (f"its code changed: {before.code_version} -> next",)


def test_a_changed_source_file_reaches_only_what_is_made_of_it(fresh: Pretend) -> None:
    Path(fresh.values["forgetting_tasks"]["teeth"]["source"]["prompts"]).write_text('{"prompt": "gums?"}\n')
    assert set(fresh.steps()) == {
        "forgetting_prompts[teeth]",
        "self_generated_corpus[teeth]",
        f"confidence_terms[{FIRST}]",
        f"scored_forget_set[{FIRST}]",
        *downstream(FIRST),
        *PLAIN,
        *REPORTS,
    }


def test_an_artifact_that_lost_a_file_is_missing(fresh: Pretend) -> None:
    artifact = fresh.store.current("fisher_diagonal", Partition(None, "sums"))
    assert artifact is not None
    (artifact.path / "contents").unlink()
    steps = fresh.steps()
    assert steps["fisher_diagonal[sums]"].reasons == ("not built",)
    assert f"confidence_terms[{FIRST}]" in steps
    fresh.make(cell("fisher_diagonal[sums]"))
    assert fresh.actions() == {}


def test_the_leaderboard_tells_of_new_and_of_removed_reports(fresh: Pretend) -> None:
    minds = fresh.values["forgetting_tasks"].pop("minds")
    assert set(fresh.steps()) == {*PLAIN, f"eval_report[{FIRST}]", "leaderboard"}
    for name in (*PLAIN, f"eval_report[{FIRST}]"):
        fresh.make(cell(name))
    reasons = {f"eval_report[{FIRST}] changed", f"eval_report[{SECOND}] is no longer an input"}
    assert set(fresh.steps()["leaderboard"].reasons) == reasons
    fresh.make(cell("leaderboard"))
    assert fresh.actions() == {}
    fresh.values["forgetting_tasks"]["minds"] = minds
    assert fresh.actions() == dict.fromkeys([*PLAIN, f"eval_report[{FIRST}]", "leaderboard"], "TAKE")
    reasons = {f"eval_report[{FIRST}] changed", f"eval_report[{SECOND}] is new"}
    assert set(fresh.steps()["leaderboard"].reasons) == reasons


def test_the_plan_as_json(fresh: Pretend) -> None:
    fresh.judge(cell(f"scored_forget_set[{FIRST}]"), failing=["confidence_is_finite_with_spread"])
    fresh.values["forgetting_tasks"].pop("minds")
    fresh.values["evaluation"] = {"response_examples": 1}
    fresh.values["learning_tasks"]["sums"]["rows"] = {"test": 7}
    plan = json.loads(json.dumps(fresh.plan().to_dict()))
    assert plan["fresh"] == 7  # what is not scored, trained with forgetting or tested
    stale = {(entry["asset"], entry["partition"]): entry for entry in plan["stale"]}
    assert set(stale) == {("test_data", "sums"), ("evaluation", "sums|base"), ("evaluation", "sums|reference")}
    assert stale["test_data", "sums"] == {
        "asset": "test_data",
        "partition": "sums",
        "action": "make",
        "reasons": ["task.rows.test: 200 -> 7"],
    }
    assert [(entry["asset"], entry["partition"], entry["action"]) for entry in plan["blocked"]] == [
        ("scored_forget_set", FIRST, "blocked"),
        ("lwf_checkpoint", FIRST, "blocked"),
        ("evaluation", "sums|lwf.teeth", "blocked"),
        ("eval_report", FIRST, "blocked"),
        ("leaderboard", None, "blocked"),
    ]


def test_a_source_that_is_gone_is_told(fresh: Pretend) -> None:
    path = Path(fresh.values["forgetting_tasks"]["teeth"]["source"]["prompts"])
    path.unlink()
    with pytest.raises(LwfError, match=r"task teeth: .*teeth\.jsonl: the file does not exist"):
        fresh.plan()
