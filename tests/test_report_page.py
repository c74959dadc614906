"""The report pages: what they say, that they are safe to open, and that equal data give equal pages."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from functools import cache
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwf_assets.reports.report import (
    CellReport,
    Curve,
    CurvePoint,
    Difference,
    Example,
    ForgottenSample,
    Interval,
    LeaderboardRow,
    ModelFigures,
    Source,
)
from lwf_assets.reports.numbers import bounds, common_exponent, decimals, fixed, unit_of
from lwf_assets.reports.page import cell_page, leaderboard_page
from lwf_assets.reports.wording import caution, difference_grade, leaderboard_outcome, outcome, sources_of_confidence

NAN = math.nan
UNKNOWN = Interval(NAN, NAN, NAN)
VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = "<script>alert(1)</script></pre></details><img src=x onerror=alert(2)> & \"quoted\" 'single'"


class _Page(HTMLParser):
    """Tags, attributes and text of a page; fails on a tag that is closed out of turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, name: str) -> list[str]:
        """Every value of one attribute."""
        return [value for _, attrs in self.tags if (value := attrs.get(name))]


def _sample(index: int, *, selected: bool = True, response: str = "A cap.") -> ForgottenSample:
    linear, quadratic = 1e-3 * (index - 3), 60.0 + index
    confidence = 2.3e-3 - 3e-5 * linear + 9e-10 * quadratic
    nll = {"base": 1.5, "reference": 1.75, "lwf": 2.5}
    return ForgottenSample(
        f"dental-{index:04d}", f"What is {index}?", response, confidence, linear, quadratic, 12, selected, nll, 2
    )


def _models(reference: Interval, lwf: Interval, measure: str = "accuracy") -> list[ModelFigures]:
    return [
        ModelFigures("base", [], {measure: Interval(0.08, 0.03, 0.13), "forgotten_nll": Interval(1.5, 1.4, 1.6)}),
        ModelFigures("reference", [0, 1], {measure: reference, "forgotten_nll": Interval(1.75, 1.6, 1.9)}),
        ModelFigures("lwf", [0, 1], {measure: lwf, "forgotten_nll": Interval(2.5, 2.3, 2.7)}),
    ]


def _report() -> CellReport:
    steps = [CurvePoint(step, 3 / step) for step in range(1, 12)]
    return CellReport(
        study="quickstart",
        learning_task="chain_sum",
        forgetting_task="dental",
        alpha=3e-5,
        primary_measure="accuracy",
        models=_models(Interval(0.46, 0.38, 0.54), Interval(0.48, 0.4, 0.56)),
        difference=Difference("accuracy", Interval(0.02, -0.06, 0.1), items=128, seeds=2),
        learning_curves=[Curve("reference", 0, steps), Curve("lwf", 0, steps)],
        unlearning_curves=[Curve("before", 0, steps), Curve("after", 0, steps)],
        samples=[_sample(index, selected=index < 4) for index in range(8)],
        examples=[Example("What is a crown?", {"base": "A cap.", "reference": "Gold.", "lwf": ""})],
        linear_share=0.7,
        quadratic_share=0.3,
        length_correlation=0.4,
        nll_correlation=None,
        notes=["The prompts are this project's own."],
        made_from=[Source("base_model", None, "abc123"), Source("scored_forget_set", "dental|chain_sum", "def456")],
    )


@cache
def _plain_page() -> str:
    return cell_page(_report())


def _with_difference(interval: Interval, measure: str = "accuracy") -> CellReport:
    return replace(
        _report(),
        primary_measure=measure,
        models=_models(Interval(0.46, 0.38, 0.54), Interval(0.48, 0.4, 0.56), measure),
        difference=Difference(measure, interval, items=128, seeds=2),
    )


def _row(difference: Interval, learning: str = "gsm8k", forgetting: str = "dental", seeds: int = 1) -> LeaderboardRow:
    level = Interval(0.5, 0.4, 0.6)
    return LeaderboardRow(learning, forgetting, "accuracy", level, level, level, difference, 128, seeds)


def test_outcome_without_a_clear_effect() -> None:
    assert outcome(_report()) == (
        "LWF 0.48, reference 0.46: difference +0.02 (95 % interval -0.06 to +0.10): "
        "the interval includes zero, so this run shows no clear effect."
    )


@pytest.mark.parametrize(
    ("interval", "measure", "end"),
    [
        (Interval(0.05, 0.01, 0.09), "accuracy", "above zero, so in this run LWF did better than the reference."),
        (Interval(-0.05, -0.09, -0.01), "accuracy", "below zero, so in this run LWF did worse than the reference."),
        (Interval(0.05, 0.01, 0.09), "target_nll", "above zero, so in this run LWF did worse than the reference."),
        (Interval(-0.05, -0.09, -0.01), "invalid", "below zero, so in this run LWF did better than the reference."),
        (Interval(0.0, 0.0, 0.0), "accuracy", "includes zero, so this run shows no clear effect."),
        (Interval(0.05, 0.0, 0.1), "accuracy", "includes zero, so this run shows no clear effect."),
        (Interval(0.02, NAN, NAN), "accuracy", "so this run does not say whether forgetting had an effect."),
        (UNKNOWN, "accuracy", "so this run says nothing about the effect of forgetting."),
    ],
)
def test_outcome_follows_the_interval(interval: Interval, measure: str, end: str) -> None:
    sentence = outcome(_with_difference(interval, measure))

    assert sentence.endswith(end)
    assert "nan" not in sentence


def test_an_interval_just_above_zero_is_not_written_as_if_it_held_zero() -> None:
    assert bounds(Interval(0.045, 0.0004, 0.0896), signed=True) == "+0.0004 to +0.0896"


@given(st.floats(-1, 1), st.floats(1e-5, 0.5))
@settings(max_examples=200, deadline=None)
def test_written_bounds_agree_with_the_grade(mean: float, half: float) -> None:
    interval = Interval(mean, mean - half, mean + half)
    low, high = (float(part) for part in bounds(interval, signed=True).split(" to "))

    if difference_grade(interval, "accuracy") == "unclear":
        assert low <= 0 <= high
    elif min(abs(interval.low), abs(interval.high)) > 1e-6:
        assert low * high > 0


def test_numbers_are_written_with_the_digits_they_carry() -> None:
    assert decimals(Interval(0.5, 0.42, 0.58)) == 2
    assert decimals(Interval(0.5, 0.496, 0.504)) == 3
    assert fixed(-0.0001, 2) == "0.00"
    assert fixed(0.25, 2, signed=True) == "+0.25"
    assert fixed(None, 2) == fixed(NAN, 2) == "n/a"
    assert common_exponent([3e-7, -4e-6, NAN]) == -6
    assert common_exponent([0.5]) == common_exponent([]) == common_exponent([0.0]) == 0
    assert unit_of(-7) == " (×10⁻⁷)"  # noqa: RUF001
    assert unit_of(0) == ""


def test_one_seed_is_a_caution_and_several_are_named() -> None:
    one, three, mixed = caution({1}), caution({3}), caution({1, 3})

    assert one is not None
    assert one.startswith("Caution: with one seed")
    assert three is not None
    assert "the 3 seeds" in three
    assert mixed is not None
    assert "cell's seeds" in mixed
    assert one in _Page(cell_page(replace(_report(), difference=replace(_report().difference, seeds=1)))).text


def test_the_page_is_well_formed_and_holds_every_sample_and_source() -> None:
    report = _report()
    page = _Page(_plain_page())

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
    assert [tag for tag, _ in page.tags].count("svg") == 6


def test_model_text_cannot_become_markup() -> None:
    report = _report()
    hostile = replace(
        report,
        study=HOSTILE,
        learning_task=HOSTILE,
        forgetting_task=HOSTILE,
        samples=[replace(_sample(0, response=HOSTILE), id=HOSTILE, prompt=HOSTILE), _sample(1, selected=False)],
        examples=[Example(HOSTILE, {"base": HOSTILE, "reference": HOSTILE, "lwf": HOSTILE})],
        notes=[HOSTILE],
        made_from=[Source(HOSTILE, HOSTILE, HOSTILE)],
    )
    page = cell_page(hostile)
    parsed = _Page(page)

    assert HOSTILE in parsed.text
    assert not {"script", "img", "iframe", "object", "link"} & {tag for tag, _ in parsed.tags}
    assert not any(name.startswith("on") for _, attrs in parsed.tags for name in attrs)
    rows = [replace(_row(UNKNOWN), learning_task=HOSTILE, forgetting_task=HOSTILE, primary_measure=HOSTILE)]
    assert "<script" not in leaderboard_page(HOSTILE, rows)


def test_text_that_html_cannot_hold_is_made_visible() -> None:
    odd = "\nfirst\x00\x1b[31m\r\n\ud800 last\ufffe"
    page = cell_page(replace(_report(), samples=[_sample(0, response=odd)]))

    page.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", page)
    assert '<pre dir="auto">\n\nfirst␀␛[31m␍\n\N{REPLACEMENT CHARACTER} last' in page


@pytest.mark.parametrize("kind", ["cell", "leaderboard"])
def test_a_page_loads_nothing_and_runs_nothing(kind: str) -> None:
    page = _plain_page() if kind == "cell" else leaderboard_page("paper", [_row(Interval(0.1, 0.05, 0.15))])
    parsed = _Page(page)

    assert page.startswith("<!DOCTYPE html>")
    assert not parsed.attributes("src")
    assert all(link.startswith("#") for link in parsed.attributes("href") + parsed.attributes("xlink:href"))
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page
    assert "<script" not in page


def test_equal_data_give_equal_pages() -> None:
    assert cell_page(_report()) == _plain_page()
    rows = [_row(Interval(0.1, 0.05, 0.15))]
    assert leaderboard_page("paper", rows) == leaderboard_page("paper", rows)


@pytest.mark.parametrize(("share", "warned"), [(0.5, False), (0.51, True), (None, False), (NAN, False)])
def test_the_gradient_norm_warning_stands_above_one_half(share: float | None, warned: bool) -> None:
    assert (sources_of_confidence(replace(_report(), quadratic_share=share)).warning is not None) is warned


def test_the_warning_is_seen_on_the_page_and_only_when_it_holds() -> None:
    warned = _Page(cell_page(replace(_report(), quadratic_share=0.9)))

    assert "alpha has turned FC into a gradient-norm ranking" in warned.text
    assert "90 % of FC's variance" in warned.text
    assert warned.attributes("class").count("warning") == 2
    assert "warning" not in _Page(_plain_page()).attributes("class")


def test_the_terms_add_up_in_the_table() -> None:
    sample = _sample(1)
    report = replace(_report(), samples=[sample])
    row = re.search(
        r"dental-0001</code></th>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*<td>(.*?)</td>", cell_page(report), re.S
    )

    assert row is not None
    total, linear, quadratic = map(float, row.groups())
    assert linear == pytest.approx(-3e-5 * sample.linear / 1e-8, abs=6e-4)
    assert quadratic == pytest.approx(9e-10 * sample.quadratic / 1e-8, abs=6e-4)
    assert total == pytest.approx(linear + quadratic, abs=2e-3)
    assert "The constant is 0.0023." in _Page(cell_page(report)).text


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": []},
        {"samples": [_sample(0)]},
        {"samples": [_sample(0, selected=False)]},
        {"samples": [replace(_sample(0), forgetting_confidence=NAN, linear=NAN, nll={})]},
        {"samples": [replace(_sample(3), id=str(index)) for index in range(5)]},
        {"examples": [], "notes": [], "made_from": []},
        {"learning_curves": [], "unlearning_curves": []},
        {"learning_curves": [Curve("lwf", 0, [CurvePoint(1, 2.0)])]},
        {"models": [], "difference": Difference("accuracy", UNKNOWN, 0, 0)},
        {"linear_share": None, "quadratic_share": None, "length_correlation": NAN},
    ],
)
def test_sparse_data_still_make_a_page(changes: dict[str, object]) -> None:
    page = _Page(cell_page(replace(_report(), **changes)))  # type: ignore[arg-type]

    assert not re.search(r"\bnan\b|None", page.text)


def test_the_report_is_json() -> None:
    data = json.loads(json.dumps(asdict(_report())))

    assert data["samples"][0]["id"] == "dental-0000"


def test_leaderboard_counts_effects_and_says_what_chance_would_give() -> None:
    better, worse, unclear = Interval(0.1, 0.05, 0.15), Interval(-0.1, -0.2, -0.05), Interval(0.0, -0.1, 0.1)

    text = leaderboard_outcome([_row(better), _row(worse), _row(UNKNOWN), *[_row(unclear)] * 18])

    assert "Of 20 cells measured, LWF did better than the reference in 1 and worse in 1; in 18 " in text
    assert "about 1 of 20 would exclude zero by chance" in text
    assert "by chance" not in leaderboard_outcome([_row(better)])
    assert leaderboard_outcome([_row(UNKNOWN)]) == leaderboard_outcome([]) == "No cell has been measured yet."


def test_leaderboard_grid_has_its_diagonal_and_marks_only_clear_cells() -> None:
    clear, unclear = Interval(0.1, 0.05, 0.15), Interval(0.0, -0.1, 0.1)
    rows = [_row(clear, "a", "b"), _row(unclear, "a", "mixed"), _row(unclear, "b", "a"), _row(clear, "b", "mixed")]
    page = leaderboard_page("paper", rows)
    grid = page[page.index('class="grid"') : page.index("All cells")]

    assert re.findall(r'center">(\w+)</th>', grid) == ["a", "b", "mixed"]
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", grid, re.S)]
    clear_text, unclear_text, none = "▲ +0.10+0.05 to +0.15", "0.00-0.10 to +0.10", "\N{EN DASH}"
    assert cells == [none, clear_text, unclear_text, unclear_text, none, clear_text]
    _Page(page)


def test_leaderboard_without_a_row_is_a_page() -> None:
    assert "No cell has been measured yet." in _Page(leaderboard_page("paper", [])).text
