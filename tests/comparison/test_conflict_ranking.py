"""Whether FC finds what is known to conflict, and what a probe says, from tables of a few rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from lwf_assets.comparison.conflict_ranking import conflict_rankings
from lwf_assets.comparison.forgotten_samples import forgotten_samples, source_shares, unlearning_curves
from lwf_assets.comparison.probes import read_probes
from lwf_assets.comparison.records import ForgottenSample
from lwf_assets.store.tables import write_rows


def _scored(order: str, **columns: list[float]) -> list[dict[str, Any]]:
    """Samples in the order of FC; "x" conflicts, "." does not; the first two are chosen."""
    return [
        {
            "source_task": "old" if mark == "x" else "new",
            "forgetting_confidence": float(-place),
            "linear": float(place),
            "quadratic": float(place),
            "selected": place < 2,
            **{name: values[place] for name, values in columns.items()},
        }
        for place, mark in enumerate(order)
    ]


def test_precision_and_recall_are_those_of_the_samples_chosen() -> None:
    found = {r.ranking: r for r in conflict_rankings(_scored("x.x..x"), ["old"])}

    assert found["FC"].precision.mean == pytest.approx(1 / 2)
    assert found["FC"].recall.mean == pytest.approx(1 / 3)
    # Places 1, 3 and 6: (1/1 + 2/3 + 3/6) / 3.
    assert found["FC"].average_precision.mean == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert found["random"].precision.mean == pytest.approx(3 / 6)
    assert found["random"].recall.mean == pytest.approx(2 / 6)


def test_a_low_linear_term_is_a_high_fc_and_a_high_quadratic_one_too() -> None:
    found = {r.ranking: r for r in conflict_rankings(_scored("xx...."), ["old"])}

    assert found["linear term alone"].average_precision.mean == 1
    assert found["quadratic term alone"].average_precision.mean < 0.5


def test_a_ranking_without_its_column_is_left_out() -> None:
    norms = [1.0, 2.0, 3.0, 4.0]

    assert "gradient norm" not in {r.ranking for r in conflict_rankings(_scored("x.x."), ["old"])}
    assert "gradient norm" in {r.ranking for r in conflict_rankings(_scored("x.x.", gradient_norm=norms), ["old"])}


@pytest.mark.parametrize(("order", "known"), [("....", ["old"]), ("xxxx", ["old"]), ("x.x.", []), ("x.x.", ["else"])])
def test_there_is_nothing_to_find_where_all_or_none_conflict(order: str, known: list[str]) -> None:
    assert conflict_rankings(_scored(order), known) == []


def test_old_tables_without_a_source_have_no_ranking() -> None:
    rows = [{name: value for name, value in row.items() if name != "source_task"} for row in _scored("x.x.")]

    assert conflict_rankings(rows, ["old"]) == []


def test_sources_are_counted() -> None:
    def sample(task: str, *, selected: bool) -> ForgottenSample:
        return ForgottenSample("", "", "", 0, 0, 0, 1, selected, {}, 0, source_task=task)

    shares = source_shares([sample("b", selected=True), sample("b", selected=False), sample("a", selected=True)], ["b"])

    assert [(s.task, s.scored, s.selected, s.known_conflict) for s in shares] == [("a", 1, 1, False), ("b", 2, 1, True)]
    assert source_shares([sample("", selected=True)], []) == []


def _entry(step: int, before: float, after: float | None, *, pushed: bool = True, seed: int = 4) -> dict[str, Any]:
    return {"seed": seed, "step": step, "sample_id": "a", "nll_before": before, "nll_after": after, "pushed": pushed}


def test_a_samples_history_is_that_of_the_first_seed_and_its_turns_are_counted_over_all() -> None:
    scored = [
        {
            **dict.fromkeys(("forgetting_confidence", "linear", "quadratic", "constant"), 1.0),
            "id": name,
            "prompt": "",
            "response": "",
            "tokens": 3,
            "selected": True,
            "rank": 1,
            "nll": 1.25,
        }
        for name in ("a", "b")
    ]
    ledger = [
        _entry(8, 2.0, 3.0, pushed=False),
        _entry(2, 1.5, 2.0),
        _entry(4, 9.0, 9.0, seed=7),
        {**_entry(10, 5.0, 6.0), "sample_id": "other"},
    ]
    nll = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]}, index=[4, 7])
    models: Any = [
        SimpleNamespace(kind=kind, sample_nll=nll * (math.nan if kind == "base" else 1))
        for kind in ("base", "reference", "lwf")
    ]
    first, second = forgotten_samples(scored, ledger, models)

    assert [(p.step, p.value) for p in first.history] == [(0, 1.25), (2, 1.5), (8, 2.0), (10, 3.0)]
    assert first.steps_unlearned == (2,)
    assert first.times_unlearned == 2
    assert first.nll == {"base": 1.25, "reference": 1.5, "lwf": 1.5}
    assert second.nll["lwf"] == 4.0
    assert second.history == ()
    assert second.steps_unlearned == ()
    (upfront,) = forgotten_samples(scored[:1], [_entry(-3, 1.25, 1.5), _entry(-1, 1.5, 2.0)], models)
    assert [p.step for p in upfront.history] == [-3, -1, 0]


def test_unlearning_curves_are_the_mean_of_each_step_and_seed() -> None:
    ledger = [
        {"seed": seed, "step": step, "nll_before": 1.0 + seed + part, "nll_after": 5.0}
        for seed in (0, 1)
        for step in (2, 4)
        for part in (0.0, 1.0)
    ]
    curves = {(c.label, c.seed): [(p.step, p.value) for p in c.points] for c in unlearning_curves(ledger)}

    assert curves["before", 1] == [(2, 2.5), (4, 2.5)]
    assert curves["after", 0] == [(2, 5.0), (4, 5.0)]


def test_probes_are_means_over_seeds_with_lwf_first(tmp_path: Path) -> None:
    def row(seed: int, probe: str, step: int | None, nll: float, task: str = "dental") -> dict[str, Any]:
        return {
            "seed": seed,
            "forgetting_task": task,
            "probe": probe,
            "step": step,
            "variant": None,
            "nll": nll,
            "memorised": nll / 10,
        }

    for key, nll in (("reference", 1.0), ("lwf.dental", 2.0), ("control", 9.0)):
        (tmp_path / key).mkdir()
        (tmp_path / key / "summary.json").write_text(json.dumps({"model": key, "label": key}))
        rows = [row(s, "relearning", step, nll + s - step / 10) for s in (0, 1) for step in (1, 0)]
        rows += [row(s, "int4", None, nll + 3 * s) for s in (0, 1)] + [row(0, "int4", None, 77.0, task="else")]
        write_rows(tmp_path / key / "probe.parquet", rows)

    curves, outcomes = read_probes(sorted(tmp_path.iterdir()), "dental")

    assert [(c.label, c.seed) for c in curves][:3] == [("lwf", 0), ("lwf", 1), ("reference", 0)]
    assert [(p.step, p.value) for p in curves[0].points] == [(0, 2.0), (1, 1.9)]
    found = {(o.model, o.probe): o for o in outcomes}
    assert found["lwf", "as trained"].nll == pytest.approx(2.5)
    assert found["lwf", "int4"].nll == pytest.approx(3.5)
    assert found["control", "int4"].memorised == pytest.approx((0.9 + 1.2) / 2)
    assert len(found) == len(outcomes) == 6
