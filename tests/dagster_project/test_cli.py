"""The command line, as its user runs it: each call a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import json_of, lwf
from world import World

from lwf_assets.store.layout import read_ledger
from lwf_assets.store.partition import Partition
from lwf_assets.store.tables import read_rows


def test_plan_lists_nothing_after_a_build_and_names_reasons_after_an_edit(built: World) -> None:
    assert json_of(lwf(built, "plan", "--json"))["stale"] == []
    built.values["confidence"] = {"selection_count": 2}
    plan = json_of(lwf(built, "plan", "--json", "--cell", "teeth|sums"))
    assert [(step["asset"], step["partition"]) for step in plan["stale"]] == [
        ("scored_forget_set", "teeth|sums"),
        ("lwf_checkpoint", "teeth|sums"),
        ("evaluation", "sums|lwf.teeth"),
        ("eval_report", "teeth|sums"),
    ]
    assert "selection_count: none -> 2" in plan["stale"][0]["reasons"]
    told = lwf(built, "plan")
    assert "selection_count: none -> 2" in told.stdout
    assert told.stderr == ""


@pytest.mark.slow
def test_build_of_one_cell_leaves_the_other_stale(built: World) -> None:
    built.values["confidence"] = {"end": "low"}
    ran = json_of(lwf(built, "build", "--json", "--cell", "minds|sums"))["ran"]
    assert [(step["asset"], step["partition"]) for step in ran] == [
        ("scored_forget_set", "minds|sums"),
        ("lwf_checkpoint", "minds|sums"),
        ("evaluation", "sums|lwf.minds"),
        ("eval_report", "minds|sums"),
    ]
    left = {step["partition"] for step in json_of(lwf(built, "plan", "--json"))["stale"]}
    assert left == {"teeth|sums", "sums|lwf.teeth", None}


def test_build_with_nothing_to_do_says_so_and_ends_with_the_reports(built: World) -> None:
    done = lwf(built, "build")
    assert done.returncode == 0
    assert "Nothing to do: all 22 artifacts of tiny are up to date." in done.stderr
    first_words = [line.split()[0] for line in done.stdout.splitlines() if line.split()]
    assert [word for word in first_words if word in ("base", "reference", "lwf")] == ["base", "reference", "lwf"] * 2
    for name in ("page", "checkpoint", "mlflow run"):
        assert f"  {name}: " in done.stdout


def test_report_as_json_names_page_checkpoint_and_run(built: World) -> None:
    (report,) = json_of(lwf(built, "report", "--json", "--cell", "teeth|sums"))
    assert report["forgetting_task"] == "teeth"
    assert report["page"].endswith("report.html")
    assert Path(report["page"]).is_file()
    assert (Path(report["checkpoint"]) / "seed-0" / "model.safetensors").is_file()
    assert len(report["mlflow_run"]) == 32


def test_report_before_a_build_says_what_to_do(built: World) -> None:
    built.values["forgetting_tasks"]["stars"] = {"source": {"kind": "file", "prompts": "teeth.jsonl"}}
    done = lwf(built, "report", "--cell", "stars|sums")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip() == "Error: eval_report[stars|sums] is not built; `lwf build` builds it"


def test_sql_joins_views_across_partitions(built: World) -> None:
    query = """
        SELECT forgetting_task, count(*) AS n, bool_and(selected = (rank <= 3)) AS consistent
        FROM scored_forget_set JOIN self_generated_corpus USING (id, forgetting_task)
        GROUP BY ALL ORDER BY ALL
    """
    rows = json_of(lwf(built, "sql", query, "--json"))
    assert rows == [
        {"forgetting_task": "minds", "n": 6, "consistent": True},
        {"forgetting_task": "teeth", "n": 6, "consistent": True},
    ]


def test_an_assets_view_shows_its_main_table(built: World) -> None:
    query = """
        SELECT (SELECT count(*) FROM evaluation WHERE response IS NOT NULL) AS items,
               (SELECT count(*) FROM evaluation__items) AS all_items,
               (SELECT count(verdict) FROM eval_report) = (SELECT count(*) FROM eval_report__effects) AS effects,
               (SELECT count(*) FROM learning_data) AS train
    """
    expected = {"items": 24, "all_items": 24, "effects": True, "train": 24}
    assert json_of(lwf(built, "sql", query, "--json")) == [expected]


def test_what_was_unlearned_when_can_be_asked_for_by_seed_with_its_text(built: World) -> None:
    query = """
        SELECT forgetting_task, seed, step, sample_id, nll_before, response
        FROM lwf_checkpoint__unlearning_ledger AS ledger
        JOIN scored_forget_set AS forgotten USING (forgetting_task, learning_task)
        WHERE forgotten.id = ledger.sample_id AND forgotten.selected ORDER BY ALL
    """
    asked = json_of(lwf(built, "sql", query, "--json"))
    assert {row["seed"] for row in asked} == set(built.study.seeds)
    expected = []
    for task in ("minds", "teeth"):
        cell = Partition(forgetting_task=task, learning_task="sums")
        checkpoint, scored = (
            built.home.store.built(name, cell).path for name in ("lwf_checkpoint", "scored_forget_set")
        )
        text = {row["id"]: row["response"] for row in read_rows(scored / "scored_forget_set.parquet")}
        for row in read_ledger(checkpoint, built.study.seeds):
            sample = row["sample_id"]
            expected.append((task, row["seed"], row["step"], sample, row["nll_before"], text[sample]))
    assert [tuple(row.values()) for row in asked] == sorted(expected)


def test_the_view_of_evaluations_tells_models_and_their_own_columns_apart(built: World) -> None:
    query = """
        SELECT model, learning_task, forgetting_task, seed, count(*) AS n FROM evaluation
        GROUP BY ALL ORDER BY ALL
    """
    rows = json_of(lwf(built, "sql", query, "--json"))
    assert [(row["model"], row["seed"]) for row in rows] == [
        ("base", None),
        ("lwf.minds", 0),
        ("lwf.teeth", 0),
        ("reference", 0),
    ]
    assert {(row["learning_task"], row["forgetting_task"], row["n"]) for row in rows} == {("sums", None, 6)}
    # What a table says of itself goes before its place: the reference is looked at by forgetting task.
    query = "SELECT DISTINCT model, forgetting_task FROM evaluation__forgetting WHERE model <> 'base' ORDER BY ALL"
    assert [tuple(row.values()) for row in json_of(lwf(built, "sql", query, "--json"))] == [
        ("lwf.minds", "minds"),
        ("lwf.teeth", "teeth"),
        ("reference", "minds"),
        ("reference", "teeth"),
    ]


def test_report_begins_with_the_verdict_and_shows_every_model_beside_the_reference(built: World) -> None:
    told = lwf(built, "report", "--cell", "teeth|sums").stdout
    (report,) = json_of(lwf(built, "report", "--json", "--cell", "teeth|sums"))
    lines = told.splitlines()
    assert lines[0] == "sums, forgetting teeth"
    assert lines[1] == report["outcome"]
    assert lines[1].startswith(("Too few seeds to say (1 trained).", "No verdict: the difference is the same"))
    rows = {line.split()[0]: line for line in lines[2:] if line.split()}
    for entry in report["models"]:
        for measure in ("accuracy", "target_nll", "forgotten_nll", "kept_nll"):
            assert f"{entry['measures'][measure]['mean']:.3f}" in rows[entry["model"]]
    (effect,) = [e for e in report["effects"] if (e["model"], e["measure"]) == ("lwf", "accuracy")]
    assert effect["verdict"] in rows["lwf"]
    assert f"{effect['difference']['mean']:+.3f}" in rows["lwf"]
    assert effect["verdict"] not in rows["base"]


def test_a_wrong_query_names_the_views(built: World) -> None:
    done = lwf(built, "sql", "SELECT * FROM forgotten")
    assert done.returncode == 1
    assert "scored_forget_set" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["--nonsense"], ["plan", "--nonsense"], ["build", "--cell"], ["sql"], ["nothing"]])
def test_usage_errors_end_with_2(built: World, words: list[str]) -> None:
    done = lwf(built, *words)
    assert done.returncode == 2
    assert done.stdout == ""
