"""The benchmark from end to end on a tiny model: what it measures, what it writes, what it says of a missing peer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.conditions import conditions
from benchmarks.methods import METHODS
from benchmarks.page import markdown
from benchmarks.results import Results
from benchmarks.summary import Table

PEERS = ("backpack", "curvlinops", "kronfluence", "nngeometry", "opacus")


@pytest.fixture
def _no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PEERS:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("_no_peers")
def test_a_quick_run_measures_and_writes_the_page(tmp_path: Path) -> None:
    sections = ("race", "accuracy", "growth", "experts", "training", "generation")
    main(["--quick", "--out", str(tmp_path), *(word for name in sections for word in ("--only", name))])
    raw = json.loads((tmp_path / "performance.json").read_text())
    assert set(raw) == set(sections)
    methods = {method["key"]: method for method in raw["race"]["data"]["methods"]}
    assert {key for key, method in methods.items() if method["failure"] == "not installed"} == set(PEERS)
    for key in ("ours_fisher", "ours_terms", "loop_fisher", "loop_terms", "torch_func"):
        assert methods[key]["error"] < 1e-5
    first = {row["key"]: row for row in raw["race"]["data"]["workloads"][0]["rows"]}
    assert {key: len(row["seconds"]) for key, row in first.items()} == {
        "floor": 3,  # two rounds of its own, and one beside torch.func
        "ours_fisher": 2,
        "ours_terms": 2,
        "loop_fisher": 2,
        "loop_terms": 2,
        "torch_func": 1,
    }
    for row in raw["accuracy"]["data"]["rows"]:
        assert max(row["fisher"], row["terms"]) < 1e-5
    generated = raw["generation"]["data"]
    assert all(row["same"] == generated["prompts"] for row in generated["rows"])

    page = (tmp_path / "performance.md").read_text()
    assert f"commit `{raw['race']['conditions']['commit']}`" in page
    assert "Not measured for this page: orchestration, load, shared_store." in page
    assert "not installed" in page
    for image in ("race.svg", "growth.svg"):
        assert f"(images/{image})" in page
        assert (tmp_path / "images" / image).read_text().startswith("<?xml")
    # Rendered from the raw results alone, it is the same page.
    main(["--render", "--out", str(tmp_path)])
    assert (tmp_path / "performance.md").read_text() == page


def test_results_of_other_code_are_dropped(tmp_path: Path) -> None:
    here: dict[str, Any] = conditions("a model")
    other = {**here, "same": {**here["same"], "code": "another"}}
    path = tmp_path / "performance.json"
    Results(path).put("race", {}, other, 1.0)
    Results(path).put("growth", {}, other, 1.0)
    assert Results(path).put("race", {}, here, 1.0) == ["growth"]
    assert Results(path).put("accuracy", {}, here, 1.0) == []
    assert set(json.loads(path.read_text())) == {"race", "accuracy"}


def test_the_floor_is_the_first_method_and_keys_are_unique() -> None:
    assert METHODS[0].key == "floor"
    assert len({method.key for method in METHODS}) == len(METHODS)


def test_a_table_in_markdown() -> None:
    table = Table("t", ["a", "b"], [["x|y", "1"]])
    assert markdown(table) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"


@pytest.mark.slow
def test_large_studies_and_full_stores_are_measured(tmp_path: Path) -> None:
    main(["--quick", "--out", str(tmp_path), "--only", "load"])
    small, large = json.loads((tmp_path / "performance.json").read_text())["load"]["data"]["points"]
    assert (small["cells"], large["cells"]) == (1, 4)
    assert small["artifacts"] < large["artifacts"] == large["steps"]
    assert all(one["seconds"] > 0 and one["megabytes"] > 10 for one in large["commands"].values())
    page = (tmp_path / "performance.md").read_text()
    assert "## Large studies, full stores" in page
    assert "lwf audit --verify" in page


@pytest.mark.slow
def test_the_shared_store_is_measured_beside_the_plain_client(tmp_path: Path) -> None:
    main(["--quick", "--out", str(tmp_path), "--only", "shared_store"])
    data = json.loads((tmp_path / "performance.json").read_text())["shared_store"]["data"]
    assert set(data["transfers"]) == {"S3 (moto)", "a folder"}
    for seconds in data["transfers"].values():
        assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys(seconds, 1)
        assert set(seconds) == {"publish", "plain put", "fetch", "plain get"}
    (point,) = data["plans"]
    assert set(point["seconds"]) == {"alone", *data["transfers"]}
    page = (tmp_path / "performance.md").read_text()
    assert "## A shared store" in page
