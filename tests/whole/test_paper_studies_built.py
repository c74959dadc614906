"""The paper's studies, built on a tiny Llama with local mirrors of their data."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from once import made_once
from places import ROOT

from lwf_assets.building.materialize import materialize
from lwf_assets.graph.cells import cells
from lwf_assets.reports import page_figures
from lwf_assets.store.home import Home
from lwf_assets.store.layout import read_summary
from lwf_assets.store.partition import Partition
from lwf_assets.store.tables import read_rows
from lwf_assets.study.file import load_study

sys.path.append(str(ROOT / "tests" / "tasks"))

from paper_studies import ABLATIONS, BASELINES, CONTROLS, GRID, OBJECTIVES, SMALL, SWEEPS, TASKS, offline, small_world

SEEN = "psychol"
"""The learning task that has arms in the study that is built; no sweeps there, which are kinds that others have too."""


def builds(test: Callable[[Home], None]) -> Callable[[Home], None]:
    """Marks what needs the whole study: two minutes of one core, which may be many more of a shared one."""
    return pytest.mark.slow(pytest.mark.timeout(3000)(test))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The smaller model's study, built cell by cell in the order of the graph."""
    arms = {name: {"learning_tasks": [] if name in SWEEPS else [SEEN]} for name in load_study(SMALL).arms}

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            offline(folder, patch)
            study, home = small_world(SMALL, folder, arms=arms), Home(folder / "home")
            for cell in cells(study):
                # Drawing takes more time than all the rest: the reports of the learning task that has arms are drawn.
                with pytest.MonkeyPatch.context() as undrawn:
                    if cell.asset == "eval_report" and cell.partition.learning_task != SEEN:
                        undrawn.setattr(page_figures, "to_svg", lambda figure, **options: "<svg></svg>")
                    materialize(study, home.store, cell, file_hash=home.file_hashes)

    return Home(made_once(tmp_path_factory, "paper", make) / "home")


def built(home: Home, asset: str, **coordinates: str) -> Path:
    artifact = home.store.current(asset, Partition(**coordinates))
    assert artifact is not None
    return artifact.path


@builds
def test_the_leaderboard_has_every_cell_and_no_verdict_from_one_seed(whole: Home) -> None:
    board = built(whole, "leaderboard")
    rows = read_rows(board / "leaderboard.parquet")

    assert {(row["learning_task"], row["forgetting_task"]) for row in rows} == GRID
    assert len(rows) == 25
    assert {row["verdict"] for row in rows} == {"too few seeds to say"}
    assert {row["seeds"] for row in rows} == {1}
    assert {row["items"] for row in rows} == {3}
    page = (board / "leaderboard.html").read_text()
    assert all(task in page for task in (*TASKS, "mixed"))


@builds
def test_each_report_compares_the_models_of_its_cell(whole: Home) -> None:
    without_forgetting = {"base", "reference", "lwf"}
    arms_alone = {*BASELINES, "extra_steps"}
    for learned, forgotten in GRID:
        folder = built(whole, "eval_report", forgetting_task=forgotten, learning_task=learned)
        summary = read_summary(folder)
        expected = set(without_forgetting)
        if learned == SEEN:
            expected |= arms_alone
            if forgotten == "mixed":
                expected |= {*ABLATIONS, *OBJECTIVES, *CONTROLS}
        assert {entry["model"] for entry in summary["models"]} == expected
        assert summary["verdict"] == "too few seeds to say"
        measured = {effect["measure"] for effect in summary["effects"] if effect["model"] == "lwf"}
        assert {
            *("accuracy", "target_nll", "neutral_nll", "forgetting_task_accuracy", "forgotten_nll", "learning_auc"),
        } <= measured
        assert re.match(r"Too few seeds to say \(1 trained\)|No verdict", summary["outcome"])
        assert (folder / "report.html").stat().st_size > 10_000


@builds
def test_mixed_forgets_all_tasks_but_the_one_that_is_learned(whole: Home) -> None:
    for learned in TASKS:
        folder = built(whole, "scored_forget_set", forgetting_task="mixed", learning_task=learned)
        rows = read_rows(folder / "scored_forget_set.parquet")
        assert {row["source_task"] for row in rows} <= {*TASKS} - {learned}
        assert len({row["source_task"] for row in rows}) >= 3  # a tiny model may have nothing to say to one of them


@builds
def test_the_arms_do_what_their_names_say(whole: Home) -> None:

    def arm(name: str) -> Path:
        return built(whole, "arm_checkpoint", arm=f"{name}.mixed", learning_task=SEEN)

    def ends(folder: Path) -> tuple[float, float]:
        """Mean FC of what is forgotten, and of what is not."""
        rows = read_rows(folder / "scored_forget_set.parquet")
        of = {chosen: [r["forgetting_confidence"] for r in rows if r["selected"] is chosen] for chosen in (True, False)}
        return sum(of[True]) / len(of[True]), sum(of[False]) / len(of[False])

    def steps(folder: Path) -> set[int]:
        return {row["step"] for row in read_rows(folder / "seed-0" / "unlearning_ledger.parquet")}

    high = ends(built(whole, "scored_forget_set", forgetting_task="mixed", learning_task=SEEN))
    low = ends(arm("low"))
    assert high[0] > high[1]
    assert low[0] < low[1]
    assert low[0] == pytest.approx(high[1])  # half and half
    assert steps(built(whole, "lwf_checkpoint", forgetting_task="mixed", learning_task=SEEN)) == {2, 4}
    assert steps(arm("upfront")) == {-1, 0}
    assert len(steps(arm("random_timing"))) == 2
    assert min(steps(arm("random_timing"))) >= 1


@builds
def test_probes_and_utility_are_there(whole: Home) -> None:
    probe = read_rows(built(whole, "forgetting_probe", model="lwf.dental", learning_task="gsm8k") / "probe.parquet")
    utility = read_rows(built(whole, "evaluation", model="lwf.dental", learning_task="gsm8k") / "utility.parquet")

    assert {row["probe"] for row in probe} == {"int8", "format", "relearning"}
    assert {(row["group"], row["task"]) for row in utility} == {
        *(("forgetting", task) for task in TASKS),
        ("neutral", "neutral"),
    }
