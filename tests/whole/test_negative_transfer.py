"""The negative-transfer study: its facts are what the script makes, and conflict where they are said to."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from places import ROOT

from lwf_assets.graph.cells import cells
from lwf_assets.study.file import load_study
from lwf_assets.tasks.task import Task

STUDY = ROOT / "studies" / "negative_transfer.yaml"
FACTS = STUDY.with_suffix("")


def _rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FACTS / f"{name}.jsonl").read_text().splitlines()]


def _colours(name: str) -> dict[str, str]:
    return {row["id"].partition("/")[0]: row["answer"] for row in _rows(name)}


def test_the_facts_are_those_that_the_script_makes(tmp_path: Path) -> None:
    runpy.run_path(str(FACTS / "make_facts.py"))["main"](tmp_path, 1)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in FACTS.glob("*.jsonl")}


def test_what_is_learned_contradicts_what_was_taught() -> None:
    taught, learned = _colours("prior_conflict"), _colours("learn_train")
    assert len(learned) == 80
    assert all(taught[name] != colour for name, colour in learned.items())
    assert _colours("learn_test") == _colours("learn_validation") == learned
    asked = {row["id"] for row in _rows("ask_changed")}
    assert asked == set(learned)
    assert not {row["id"] for row in _rows("ask_kept")} & set(learned)


@pytest.mark.parametrize(("dose", "conflicting"), [("conflict", 80), ("half", 40), ("none", 0)])
def test_every_prior_is_as_much_practice_of_the_form(dose: str, conflicting: int) -> None:
    taught, learned, kept = _colours(f"prior_{dose}"), _colours("learn_train"), _colours("still_kept")
    assert len(_rows(f"prior_{dose}")) == 3 * 160
    assert len(taught.keys() & learned.keys()) == conflicting
    assert kept.items() <= taught.items()


def test_the_study_has_rows_for_every_task_and_tests_nothing_that_it_teaches_word_for_word() -> None:
    study = load_study(STUDY)
    assert {cell.asset for cell in cells(study)} >= {
        "arm_checkpoint",
        "control_base",
        "forgetting_probe",
        "leaderboard",
    }
    learning = Task("new_colours", study.learning_tasks["new_colours"])
    train, validation = learning.learning_rows()
    tested = {row.prompt for row in learning.test_rows()}
    assert len(tested) == 80
    assert not tested & {row.prompt for row in (*train, *validation)}
    assert {name: len(Task(name, task).prompt_rows()) for name, task in study.forgetting_tasks.items()} == {
        "changed": 80,
        "kept": 80,
        "sums": 40,
    }
    for prior in study.priors.values():
        facts, sums = (Task(name, task).learning_rows() for name, task in prior.tasks.items())
        assert (len(facts[0]) + len(facts[1]), len(sums[0]) + len(sums[1])) == (480, 128)
