"""From synthetic evaluations to the files of eval_report and leaderboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from evaluated import FORGOTTEN, Cell, Model, usual_models

from lwf_assets.assets import eval_report, leaderboard
from lwf_assets.errors import LwfError
from lwf_assets.store.layout import read_summary
from lwf_assets.store.tables import read_rows, write_rows

HOSTILE = '<script>alert(1)</script></pre></details><img src=http://evil.example/x onerror=alert(2)> & "q" $\\frac{'


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A cell in which LWF helps, with two arms: npo helps too, bss does nothing."""
    cell = Cell(
        tmp_path_factory.mktemp("helped"),
        usual_models(lwf_gain=0.2, arms=2),
        items=120,
        mixed=True,
        known_conflicts=["old"],
        alpha=1e-5,
    )
    work = cell.work()
    return work.out, eval_report.materialize(work)


def _texts(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_a_known_effect_is_on_the_page_in_the_tables_and_in_the_summary(helped: tuple[Path, dict[str, Any]]) -> None:
    out, figures = helped
    page = _texts((out / "report.html").read_text())

    assert figures["verdict"] == "helps"
    assert "Forgetting helps. Accuracy: LWF" in page
    assert 0 < figures["difference_low"] < figures["difference"] < figures["difference_high"]
    assert figures["test_items"] == 120
    assert figures["lwf_accuracy"] - figures["reference_accuracy"] == pytest.approx(figures["difference"])
    assert figures["lwf_forgotten_nll"] > figures["reference_forgotten_nll"] + 1
    summary = read_summary(out)
    assert summary["verdict"] == "helps"
    assert [entry["model"] for entry in summary["models"]] == ["base", "reference", "lwf", "npo", "bss"]
    verdicts = {e["model"]: e["verdict"] for e in read_rows(out / "effects.parquet") if e["measure"] == "accuracy"}
    assert verdicts == {"lwf": "helps", "npo": "helps", "bss": "no detectable effect"}


def test_the_tables_hold_every_model_measure_and_sample(helped: tuple[Path, dict[str, Any]]) -> None:
    out, _ = helped
    effects = read_rows(out / "effects.parquet")
    measures = {row["measure"] for row in effects if row["model"] == "bss"}

    assert {
        "accuracy",
        "target_nll",
        "invalid",
        "macro_f1",
        "learning_auc",
        "steps_to_nll_1",
        "steps_to_nll_0.5",
        "neutral_nll",
        "untouched_accuracy",
        "forgetting_task_accuracy",
        "forgotten_nll",
        "forgotten_memorised",
        "relative_distance",
    } <= measures
    assert {row["model"] for row in effects} == {"lwf", "npo", "bss"}
    nothing = next(r for r in effects if (r["model"], r["measure"]) == ("bss", "accuracy"))
    assert nothing["minimum_detectable"] > 0
    assert nothing["low"] < nothing["difference"] < nothing["high"]
    # As trained, what is known by heart comes from the evaluation: 0.8 - 1.2/4 less 0.01 a sample, mean over ten.
    as_trained = re.search(r"as trained.*?<td>2\.80<small>(.*?)</small>", (out / "report.html").read_text(), re.S)
    assert as_trained is not None
    assert float(as_trained[1]) == pytest.approx(0.455, abs=0.006)
    samples = read_rows(out / "samples.parquet")
    assert len(samples) == 24
    third = samples[3]
    # In the ledger the chosen sample 3 stands at these steps, and is pushed before step 55.
    assert third["steps_unlearned"] == [5, 10, 15, 50]
    assert third["times_unlearned"] == 3 * 4
    assert third["source_task"] == "old"
    assert third["nll_base"] == pytest.approx(1.56)
    assert third["nll_lwf"] > third["nll_reference"] == pytest.approx(1.56)
    assert all(row["steps_unlearned"] == [] for row in samples if not row["selected"])


def test_levels_are_of_this_cells_samples_and_tasks_alone(helped: tuple[Path, dict[str, Any]]) -> None:
    out, _ = helped
    levels = {entry["model"]: entry["measures"] for entry in read_summary(out)["models"]}

    # NLL 1.5 + 0.02 i: the ten chosen are the first, the other fourteen are kept.
    assert levels["reference"]["forgotten_nll"]["mean"] == pytest.approx(1.5 + 0.02 * 4.5)
    assert levels["reference"]["kept_nll"]["mean"] == pytest.approx(1.5 + 0.02 * 16.5)
    assert levels["lwf"]["kept_nll"]["mean"] == pytest.approx(1.5 + 0.02 * 16.5)
    assert levels["reference"]["forgetting_task_accuracy"]["mean"] == pytest.approx(0.5)
    assert levels["lwf"]["forgetting_task_nll"]["mean"] == pytest.approx(1.6)
    assert levels["lwf"]["untouched_accuracy"]["mean"] == pytest.approx(1 / 3)
    assert levels["base"]["relative_distance"]["mean"] == 0


def test_the_page_loads_nothing_and_the_json_has_no_nan(helped: tuple[Path, dict[str, Any]]) -> None:
    out, _ = helped
    page = (out / "report.html").read_text()

    assert not re.search(r"<(script|img|link|iframe|object)", page)
    assert not re.search(r"(src|href)\s*=\s*[\"']?(?!#)[^#\"'\s>]", page)
    assert not re.search(r"url\((?!#)|@import", page)
    assert len(page) < 600_000
    assert not re.search(r"\bnan\b|\bNone\b", _texts(page))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((out / "summary.json").read_text(), parse_constant=refuse)


def test_no_effect_comes_with_what_could_have_been_seen(tmp_path: Path) -> None:
    work = Cell(tmp_path, usual_models(arms=0)).work()
    figures = eval_report.materialize(work)
    page = _texts((work.out / "report.html").read_text())

    assert figures["verdict"] == read_summary(work.out)["verdict"] == "no detectable effect"
    assert "No detectable effect of forgetting. Accuracy: LWF" in page
    assert re.search(r"A true difference of 0\.\d+ or more would have been found four times out of five", page)


def test_two_seeds_give_no_verdict(tmp_path: Path) -> None:
    work = Cell(tmp_path, usual_models(lwf_gain=0.2, arms=0), seeds=(0, 1)).work()

    assert eval_report.materialize(work)["verdict"] == "too few seeds to say"
    assert "Too few seeds to say (2 trained)." in (work.out / "report.html").read_text()


@pytest.mark.parametrize("primary", ["target_nll", "learning_auc"])
def test_the_verdict_is_about_the_primary_measure(tmp_path: Path, primary: str) -> None:
    work = Cell(tmp_path, usual_models(lwf_gain=0.2, arms=0), primary=primary).work()
    figures = eval_report.materialize(work)

    assert figures["verdict"] == "helps"
    assert figures["difference"] < 0
    assert figures["difference"] == pytest.approx(figures[f"lwf_{primary}"] - figures[f"reference_{primary}"])


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    work = Cell(tmp_path, usual_models(arms=1), utility=False, validation=False, probes=False).work()
    for place in range(4):
        # An empty table may have been written without any column.
        write_rows(tmp_path / f"evaluation-{place}" / "utility.parquet", [])
        (tmp_path / f"evaluation-{place}" / "validation_curve.parquet").unlink(missing_ok=True)
    eval_report.materialize(work)
    page = _texts((work.out / "report.html").read_text())

    assert "This was not probed in this run" in page
    assert "of the training loss, over the steps" in page
    assert "NLL of neutral text" not in page
    assert "Does FC find" not in page
    measures = {row["measure"] for row in read_rows(work.out / "effects.parquet")}
    assert "learning_auc" in measures
    assert "neutral_nll" not in measures


def test_text_of_a_model_cannot_become_markup(tmp_path: Path) -> None:
    hostile = Model("bss", "bss", label=HOSTILE, description=HOSTILE)
    work = Cell(tmp_path, [*usual_models(arms=0), hostile], text=HOSTILE).work()
    eval_report.materialize(work)
    page = (work.out / "report.html").read_text()

    assert "&lt;script&gt;" in page
    assert not re.search(r"<(script|img)", page)


def test_a_model_of_another_forgetting_task_is_no_part_of_the_cell(tmp_path: Path) -> None:
    other = Model("npo.stars", "npo", gain=0.3, forgetting_task="stars")
    work = Cell(tmp_path, [*usual_models(arms=0), other], probes=False).work()
    eval_report.materialize(work)

    assert {row["model"] for row in read_rows(work.out / "effects.parquet")} == {"lwf"}


def test_a_cell_without_its_reference_is_refused(tmp_path: Path) -> None:
    models = [model for model in usual_models(arms=0) if model.kind != "reference"]

    with pytest.raises(LwfError, match=r"exactly one evaluation of kind 'reference'; found base, lwf\.dental"):
        eval_report.materialize(Cell(tmp_path, models, probes=False).work())


def test_an_item_that_stands_twice_is_refused(tmp_path: Path) -> None:
    work = Cell(tmp_path, usual_models(arms=0)).work()
    items = tmp_path / "evaluation-1" / "items.parquet"
    rows = read_rows(items)
    write_rows(items, [*rows, rows[4]])

    with pytest.raises(LwfError, match="'item-004' appears twice"):
        eval_report.materialize(work)


def test_equal_inputs_give_equal_files(tmp_path: Path) -> None:
    work = Cell(tmp_path, usual_models(arms=1)).work()
    first = _made(work)

    assert first == _made(work)


def _made(work: Any) -> dict[str, bytes]:
    eval_report.materialize(work)
    return {path.name: path.read_bytes() for path in work.out.iterdir()}


def test_the_leaderboard_has_every_cell_and_every_arm(helped: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    first, _ = helped
    second = tmp_path / "second"
    second.mkdir()
    summary = read_summary(first) | {"forgetting_task": "stars", "verdict": "not measured", "effects": []}
    summary["difference"] = {
        "measure": "accuracy",
        "interval": dict.fromkeys(("mean", "low", "high")),
        "items": 0,
        "seeds": 0,
    }
    (second / "summary.json").write_text(json.dumps(summary))
    out = tmp_path / "out"
    out.mkdir()
    work: Any = SimpleNamespace(
        study=SimpleNamespace(name="synthetic"), out=out, all_inputs=lambda asset: {1: first, 2: second}
    )

    figures = leaderboard.materialize(work)

    assert figures["cells"] == 2
    assert figures["lwf_helps"] == 1
    assert figures["best_cell"] == f"{FORGOTTEN}|sums"
    rows = read_rows(out / "leaderboard.parquet")
    assert [(row["forgetting_task"], row["verdict"]) for row in rows] == [
        (FORGOTTEN, "helps"),
        ("stars", "not measured"),
    ]
    assert rows[0]["difference"]["low"] > 0
    assert rows[1]["difference"]["mean"] is None
    arms = {row["model"]: row["verdict"] for row in read_rows(out / "arms.parquet")}
    assert arms == {"lwf": "helps", "npo": "helps", "bss": "no detectable effect"}
    board = json.loads((out / "leaderboard.json").read_text())
    assert len(board["arms"]) == 3
    page = _texts((out / "leaderboard.html").read_text())
    assert "Of 1 cell with a verdict, forgetting helped in 1 and hurt in 0" in page
    assert "Arms over the cells" in page


def test_no_cell_of_the_leaderboard_is_best_where_measures_differ(tmp_path: Path) -> None:
    works = [
        Cell(tmp_path / primary, usual_models(lwf_gain=0.2, arms=0), primary=primary, probes=False).work()
        for primary in ("accuracy", "target_nll")
    ]
    for work in works:
        eval_report.materialize(work)
    board: Any = SimpleNamespace(
        study=SimpleNamespace(name="x"), out=tmp_path, all_inputs=lambda asset: {w.out: w.out for w in works}
    )

    assert "best_cell" not in leaderboard.materialize(board)
    worse = tmp_path / "worse"
    worse.mkdir()
    summary = read_summary(works[1].out)
    summary["difference"]["interval"]["mean"] = 0.3
    (worse / "summary.json").write_text(json.dumps(summary))
    board.all_inputs = lambda asset: {1: works[1].out, 2: worse}
    assert leaderboard.materialize(board)["best_difference"] < 0
