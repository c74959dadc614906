"""The planner on artifacts without weight: what is stale or blocked, why, and what follows from it."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lwf_assets.graph.table
from lwf_assets import assets
from lwf_assets.building.check_runner import judge, standing
from lwf_assets.building.checks import CheckResult, checks_of
from lwf_assets.building.materialize import materialize
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, cells, inputs_of, settings_of
from lwf_assets.graph.work import Work
from lwf_assets.planning.plan import Action, Plan, Step, make_plan, with_ancestors
from lwf_assets.store.hashes import hash_file
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Store
from lwf_assets.study.study import Study

FIRST, SECOND = "teeth|sums", "minds|sums"


def cell(text: str) -> Cell:
    """The cell that is written `asset[forgetting|learning]`, or `evaluation[learning|model]`."""
    asset, _, key = text.rstrip("]").partition("[")
    names = iter(key.split("|")) if key else iter(())
    dimensions = lwf_assets.graph.table.ASSET[asset].dimensions
    return Cell(asset, Partition(**{dimension: next(names) for dimension in dimensions}))


@dataclass
class Pretend:
    """A study whose artifacts hold one line of text each, made by the real `materialize`."""

    values: dict[str, Any]
    store: Store
    made: list[str] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)

    @property
    def study(self) -> Study:
        return Study.model_validate(self.values)

    def work(self, asset: str, work: Work) -> dict[str, Any]:
        which = Cell(asset, work.partition)
        self.made.append(str(which))
        settings = json.dumps(settings_of(work.study, which, hash_file), sort_keys=True)
        versions = sorted(artifact.version for artifact in work.inputs.values())
        (work.out / "contents").write_text(self.contents.get(str(which), f"{which} {settings} {versions}"))
        return {}

    def make(self, which: Cell, *, checks: bool = True) -> None:
        materialize(self.study, self.store, which)
        if checks:
            self.judge(which)

    def judge(self, which: Cell, *, failing: Collection[str] = ()) -> None:
        for check in checks_of(which.asset):
            verdict = CheckResult(check.name not in failing, "it is bad" if check.name in failing else "fine")
            judge(self.study, self.store, which, dataclasses.replace(check, look=lambda *_, v=verdict: v))

    def make_all(self) -> None:
        for which in cells(self.study):
            self.make(which)

    def plan(self, *, only: Collection[Cell] | None = None, force: Collection[Cell] = ()) -> Plan:
        return make_plan(self.study, self.store, hash_file, only=only, force=force)

    def steps(self) -> dict[str, Step]:
        return {str(step.cell): step for step in self.plan().steps if step.action != Action.NOTHING}

    def actions(self) -> dict[str, str]:
        return {name: step.action.name for name, step in self.steps().items()}


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretend:
    folder = tmp_path / "sources"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    for subject in ("teeth", "minds"):
        (folder / f"{subject}.jsonl").write_text(f'{{"prompt": "{subject}?"}}\n')

    def source(subject: str) -> dict[str, Any]:
        return {"source": {"kind": "file", "prompts": str(folder / f"{subject}.jsonl")}}

    values = {
        "name": "pretend",
        "model": {"source": {"kind": "directory", "path": str(folder / "model")}},
        "learning_tasks": {"sums": {"preset": "chain_sum"}},
        "forgetting_tasks": {"teeth": source("teeth"), "minds": source("minds")},
        "training": {"max_steps": 6, "learning_rate": 0.25},
    }
    world = Pretend(values, Store(tmp_path / "store"))

    monkeypatch.setattr(assets, "materialize", world.work)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # two dozen artifacts a test are many for a slow disk
    return world


@pytest.fixture
def fresh(pretend: Pretend) -> Pretend:
    """The pretended study with everything made and checked."""
    pretend.make_all()
    pretend.made.clear()
    return pretend


def downstream(*names: str) -> set[str]:
    """What follows from another forget set in these cells."""
    return {line for name in names for line in (f"lwf_checkpoint[{name}]", evaluated(name), f"eval_report[{name}]")} | {
        "leaderboard"
    }


def evaluated(name: str) -> str:
    """LWF's evaluation in a cell."""
    forgotten, learned = name.split("|")
    return f"evaluation[{learned}|lwf.{forgotten}]"


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
