"""The report pages: what they say, that they are safe to open, and that equal data give equal pages."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from functools import cache

import pytest
from report_data import (
    NAN,
    NO_EFFECT,
    UNKNOWN,
    Page,
    some_effect,
    some_models,
    some_relearning,
    some_report,
    some_row,
    some_sample,
    with_effect,
)

from lwf_assets.comparison.records import (
    ArmRow,
    Curve,
    CurvePoint,
    Example,
    ModelFigures,
    ProbeOutcome,
    Source,
    SourceShare,
)
from lwf_assets.reports.page import CHOSEN_SHOWN, cell_page, leaderboard_page
from lwf_assets.reports.wording import (
    conflicts_found,
    multiplicity,
    outcome,
    relearned,
    sources_of_confidence,
)
from lwf_assets.statistics.interval import Interval

HOSTILE = "<script>alert(1)</script></pre></details><img src=x onerror=alert(2)> & \"quoted\" 'single'"


@cache
def _plain_page() -> str:
    return cell_page(some_report())


def test_the_page_is_well_formed_and_holds_every_sample_and_source() -> None:
    report = some_report()
    page = Page(_plain_page())

    assert outcome(report) in page.text
    for expected in [s.id for s in report.samples] + [s.version for s in report.made_from] + report.notes:
        assert expected in page.text
    for sample in report.samples:
        assert sample.prompt in page.text
    assert "(nothing but white space)" in page.text
    assert "averages to about zero" in page.text
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
    assert all(link[1:] in ids for link in page.attributes("href") + page.attributes("xlink:href"))
    drawn = [attrs.get("class") for tag, attrs in page.tags if tag == "svg"]
    assert drawn.count("spark") == 4
    assert len(drawn) - drawn.count("spark") == 12


def test_model_text_cannot_become_markup() -> None:
    report = some_report()
    hostile = replace(
        report,
        study=HOSTILE,
        learning_task=HOSTILE,
        forgetting_task=HOSTILE,
        samples=[replace(some_sample(0, response=HOSTILE), id=HOSTILE, prompt=HOSTILE), some_sample(1, selected=False)],
        examples=[Example(HOSTILE, {"base": HOSTILE, "reference": HOSTILE, "lwf": HOSTILE})],
        notes=[HOSTILE],
        models=[*some_models(), ModelFigures("$\\frac{$", [0], {}, HOSTILE, HOSTILE)],
        effects=[*report.effects, some_effect(NO_EFFECT, "helps", model="$\\frac{$")],
        sources=[SourceShare(HOSTILE, 1, 1, True), SourceShare("$x", 1, 0, False)],
        probes=[ProbeOutcome(HOSTILE, "format", HOSTILE, 1.0, 0.5)],
        learning_curves=[Curve("$\\frac{$", 0, [CurvePoint(1, 1.0)])],
        validation_curves=[],
        relearning=[Curve("\x00$\\frac{$", 0, [CurvePoint(1, 1.0), CurvePoint(2, 1.0)])],
        made_from=[Source(HOSTILE, HOSTILE, HOSTILE)],
    )
    page = cell_page(hostile)
    parsed = Page(page)

    assert HOSTILE in parsed.text
    assert not {"script", "img", "iframe", "object", "link"} & {tag for tag, _ in parsed.tags}
    assert not any(name.startswith("on") for _, attrs in parsed.tags for name in attrs)
    rows = [replace(some_row(UNKNOWN), learning_task=HOSTILE, forgetting_task=HOSTILE, primary_measure=HOSTILE)]
    arms = [ArmRow(HOSTILE, HOSTILE, HOSTILE, some_effect(UNKNOWN, HOSTILE, model=name)) for name in ("lwf", HOSTILE)]
    assert "<script" not in leaderboard_page(HOSTILE, rows, arms)


def test_text_that_html_cannot_hold_is_made_visible() -> None:
    odd = "\nfirst\x00\x1b[31m\r\n\ud800 last\ufffe"
    page = cell_page(replace(some_report(), samples=[some_sample(0, response=odd)]))

    page.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", page)
    assert '<pre dir="auto">\n\nfirst␀␛[31m␍\n\N{REPLACEMENT CHARACTER} last' in page


@pytest.mark.parametrize("kind", ["cell", "leaderboard"])
def test_a_page_loads_nothing_and_runs_nothing(kind: str) -> None:
    page = _plain_page() if kind == "cell" else leaderboard_page("paper", [some_row(Interval(0.1, 0.05, 0.15))])
    parsed = Page(page)

    assert page.startswith("<!DOCTYPE html>")
    assert not parsed.attributes("src")
    assert all(link.startswith("#") for link in parsed.attributes("href") + parsed.attributes("xlink:href"))
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page
    assert "<script" not in page


def test_equal_data_give_equal_pages() -> None:
    assert cell_page(some_report()) == _plain_page()
    rows = [some_row(Interval(0.1, 0.05, 0.15))]
    assert leaderboard_page("paper", rows) == leaderboard_page("paper", rows)


@pytest.mark.parametrize(("share", "warned"), [(0.5, False), (0.51, True), (None, False), (NAN, False)])
def test_the_gradient_norm_warning_stands_above_one_half(share: float | None, warned: bool) -> None:
    assert (sources_of_confidence(replace(some_report(), quadratic_share=share)).warning is not None) is warned


def test_the_warning_is_seen_on_the_page_and_only_when_it_holds() -> None:
    warned = Page(cell_page(replace(some_report(), quadratic_share=0.9)))

    assert "alpha has turned FC into a gradient-norm ranking" in warned.text
    assert "90 % of FC's variance" in warned.text
    assert warned.attributes("class").count("warning") == 2
    assert "warning" not in Page(_plain_page()).attributes("class")


def test_the_terms_add_up_in_the_table() -> None:
    sample = some_sample(1)
    report = replace(some_report(), samples=[sample], sources=[])
    row = re.search(
        r"dental-0001</code></th>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*<td>(.*?)</td>", cell_page(report), re.S
    )

    assert row is not None
    total, linear, quadratic = map(float, row.groups())
    assert linear == pytest.approx(-3e-5 * sample.linear / 1e-8, abs=6e-4)
    assert quadratic == pytest.approx(9e-10 * sample.quadratic / 1e-8, abs=6e-4)
    assert total == pytest.approx(linear + quadratic, abs=2e-3)
    assert "The constant is 0.0023." in Page(cell_page(report)).text


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": []},
        {"samples": [some_sample(0)]},
        {"samples": [some_sample(0, selected=False)]},
        {"samples": [replace(some_sample(0), forgetting_confidence=NAN, linear=NAN, nll={})]},
        {"samples": [replace(some_sample(3), id=str(index)) for index in range(5)]},
        {"examples": [], "notes": [], "made_from": []},
        {"learning_curves": [], "unlearning_curves": []},
        {"learning_curves": [Curve("lwf", 0, [CurvePoint(1, 2.0)])]},
        {"models": [], "effects": []},
        {"effects": [some_effect(UNKNOWN, "too few seeds to say")]},
        {"models": some_models()[:3], "validation_curves": []},
        {"rankings": [], "sources": [], "probes": [], "relearning": []},
        {"samples": [replace(some_sample(0), history=(), steps_unlearned=())]},
        {"linear_share": None, "quadratic_share": None, "length_correlation": NAN},
    ],
)
def test_sparse_data_still_make_a_page(changes: dict[str, object]) -> None:
    page = Page(cell_page(replace(some_report(), **changes)))

    assert not re.search(r"\bnan\b|None", page.text)


def test_the_report_is_json() -> None:
    data = json.loads(json.dumps(asdict(some_report())))

    assert data["samples"][0]["id"] == "dental-0000"


def test_the_page_names_what_was_probed_and_where_samples_come_from() -> None:
    page = Page(_plain_page()).text

    assert "weights in 4 bits" in page
    assert "Please, {prompt}" in page
    assert "known to conflict" in page
    assert "expected" in page
    assert "was not probed" not in page
    assert "was not probed" in Page(cell_page(replace(some_report(), probes=[], relearning=[]))).text


@pytest.mark.parametrize(
    ("lwf", "after", "end"),
    [
        (2.5, 1.5, "LWF is then back where the reference started: what it forgot was within reach."),
        (2.5, 2.0, "LWF is not yet back where the reference started."),
        (1.754, 1.5, "LWF did not find them less likely than the reference to begin with."),
    ],
)
def test_relearning_is_judged_by_where_the_reference_began(lwf: float, after: float, end: str) -> None:
    sentence = relearned(replace(some_report(), relearning=some_relearning(lwf, after, 1.75)))

    assert sentence is not None
    assert sentence.endswith(end)
    assert relearned(replace(some_report(), relearning=some_relearning(lwf, after, 1.75)[:1])) is None


@pytest.mark.parametrize(
    ("found", "how"),
    [
        (Interval(0.9, 0.8, 1.0), ", above the 0.60 "),
        (Interval(0.65, 0.5, 0.8), ", not distinguishable from the 0.60 "),
        (Interval(0.3, 0.2, 0.4), ", below the 0.60 "),
    ],
)
def test_what_fc_finds_is_held_against_chance(found: Interval, how: str) -> None:
    rankings = [replace(some_report().rankings[0], average_precision=found), *some_report().rankings[1:]]
    sentence = conflicts_found(replace(some_report(), rankings=rankings))

    assert sentence is not None
    assert how in sentence
    assert "by gradient norm it is 0.50" in sentence


def test_a_long_table_of_samples_is_cut_and_says_so() -> None:
    samples = [some_sample(index) for index in range(CHOSEN_SHOWN + 20)]
    page = Page(cell_page(replace(some_report(), samples=samples))).text

    assert f"the {CHOSEN_SHOWN} with the highest FC of {CHOSEN_SHOWN + 20} samples" in page
    assert "dental-0149" in page
    assert "dental-0150" not in page


def test_holm_is_told_of_with_the_number_of_models() -> None:
    assert "Holm's adjustment for the 2 models" in multiplicity(some_report())
    assert "Holm" not in multiplicity(with_effect(some_effect(NO_EFFECT, "helps")))
