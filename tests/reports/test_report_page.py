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

from lwf_assets.comparison.records import (
    ArmEffect,
    ArmRow,
    CellReport,
    ConflictRanking,
    Curve,
    CurvePoint,
    Example,
    ForgottenSample,
    LeaderboardRow,
    ModelFigures,
    ProbeOutcome,
    Source,
    SourceShare,
)
from lwf_assets.reports.numbers import bounds, common_exponent, decimals, fixed, probability, unit_of
from lwf_assets.reports.page import CHOSEN_SHOWN, cell_page, leaderboard_page
from lwf_assets.reports.wording import (
    caution,
    conflicts_found,
    leaderboard_outcome,
    multiplicity,
    outcome,
    relearned,
    sources_of_confidence,
)
from lwf_assets.statistics.interval import Interval

NAN = math.nan
UNKNOWN = Interval(NAN, NAN, NAN)
NO_EFFECT = Interval(0.02, -0.06, 0.1)
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
    history = (CurvePoint(2, 1.5), CurvePoint(6, 1.9), CurvePoint(9, 2.5))
    linear, quadratic = 1e-3 * (index - 3), 60.0 + index
    confidence = 2.3e-3 - 3e-5 * linear + 9e-10 * quadratic
    nll = {"base": 1.5, "reference": 1.75, "lwf": 2.5}
    return ForgottenSample(
        f"dental-{index:04d}",
        f"What is {index}?",
        response,
        confidence,
        linear,
        quadratic,
        12,
        selected,
        nll,
        2,
        source_task="old" if index < 5 else "new",
        steps_unlearned=(2, 6),
        history=history if selected else (),
    )


def _effect(
    difference: Interval,
    verdict: str,
    *,
    model: str = "lwf",
    measure: str = "accuracy",
    seeds: int = 3,
    items: int = 128,
) -> ArmEffect:
    return ArmEffect(model, measure, 0.48, 0.46, difference, 0.6, NAN, 0.11, verdict, seeds, items)


def _models(measure: str = "accuracy") -> list[ModelFigures]:
    levels = {
        "base": Interval(0.08, 0.03, 0.13),
        "reference": Interval(0.46, 0.38, 0.54),
        "lwf": Interval(0.48, 0.4, 0.56),
        "npo": Interval(0.5, 0.4, 0.6),
    }
    return [
        ModelFigures(name, [] if name == "base" else [0, 1, 2], {measure: level, "relative_distance": level}, name)
        for name, level in levels.items()
    ]


def _report() -> CellReport:
    steps = [CurvePoint(step, 3 / step) for step in range(1, 12)]
    labels = ("reference", "lwf", "npo")
    return CellReport(
        study="quickstart",
        learning_task="chain_sum",
        forgetting_task="dental",
        alpha=3e-5,
        primary_measure="accuracy",
        models=_models(),
        effects=[
            _effect(NO_EFFECT, "no detectable effect"),
            _effect(Interval(0.1, 0.05, 0.15), "helps", model="npo"),
            _effect(Interval(0.4, 0.3, 0.5), "higher", measure="relative_distance", items=0),
        ],
        learning_curves=[Curve(label, seed, steps) for label in labels for seed in (0, 1)],
        validation_curves=[Curve(label, 0, steps) for label in labels],
        unlearning_curves=[Curve("before", 0, steps), Curve("after", 0, steps)],
        samples=[_sample(index, selected=index < 4) for index in range(8)],
        examples=[Example("What is a crown?", {"base": "A cap.", "reference": "Gold.", "lwf": ""})],
        linear_share=0.7,
        quadratic_share=0.3,
        length_correlation=0.4,
        nll_correlation=None,
        notes=["The prompts are this project's own."],
        made_from=[Source("base_model", None, "abc123"), Source("scored_forget_set", "dental|chain_sum", "def456")],
        sources=[SourceShare("old", 5, 3, True), SourceShare("new", 3, 1, False)],
        rankings=[
            ConflictRanking("FC", Interval(0.9, 0.8, 1.0), Interval(0.8, 0.7, 0.9), Interval(0.7, 0.6, 0.8)),
            ConflictRanking("gradient norm", Interval(0.5, 0.4, 0.6), Interval(0.5, 0.4, 0.6), Interval(0.5, 0.4, 0.6)),
            ConflictRanking("random", Interval(0.6, NAN, NAN), Interval(0.6, NAN, NAN), Interval(0.5, NAN, NAN)),
        ],
        relearning=_relearning(2.5, 1.5, 1.75),
        probes=[
            ProbeOutcome("lwf", "as trained", "", 2.5, 0.3),
            ProbeOutcome("reference", "as trained", "", 1.75, 0.6),
            ProbeOutcome("lwf", "int4", "", 2.25, 0.4),
            ProbeOutcome("lwf", "format", "Please, {prompt}", 2.4, 0.35),
        ],
    )


def _relearning(lwf: float, lwf_after: float, reference: float) -> list[Curve]:
    points = {"lwf": (lwf, lwf_after), "reference": (reference, 1.0)}
    return [Curve(model, 0, [CurvePoint(0, first), CurvePoint(8, last)]) for model, (first, last) in points.items()]


@cache
def _plain_page() -> str:
    return cell_page(_report())


def _with_effect(effect: ArmEffect) -> CellReport:
    return replace(_report(), primary_measure=effect.measure, models=_models(effect.measure), effects=[effect])


def _row(
    difference: Interval,
    verdict: str = "no detectable effect",
    learning: str = "gsm8k",
    forgetting: str = "dental",
    seeds: int = 3,
) -> LeaderboardRow:
    level = Interval(0.5, 0.4, 0.6)
    return LeaderboardRow(
        learning, forgetting, "accuracy", level, level, level, difference, verdict, NAN, 0.05, 128, seeds
    )


def test_outcome_says_the_verdict_the_numbers_and_what_could_have_been_seen() -> None:
    assert outcome(_report()) == (
        "No detectable effect of forgetting. Accuracy: LWF 0.48, reference 0.46, difference +0.02 (95 % interval -0.06 "
        "to +0.10, p 0.6). A true difference of 0.11 or more would have been found four times out of five."
    )


@pytest.mark.parametrize(
    ("verdict", "difference", "begin"),
    [
        ("helps", Interval(0.05, 0.01, 0.09), "Forgetting helps. Accuracy: LWF"),
        ("hurts", Interval(-0.05, -0.09, -0.01), "Forgetting hurts. Accuracy: LWF"),
        ("too few seeds to say", Interval(0.05, 0.01, 0.09), "Too few seeds to say (3 trained). Accuracy: LWF"),
        ("too few seeds to say", UNKNOWN, "Too few seeds to say (3 trained). Accuracy: LWF"),
        ("too few seeds to say", Interval(0.1, 0.1, 0.1), "No verdict: the difference is the same everywhere"),
    ],
)
def test_outcome_begins_with_the_verdict(verdict: str, difference: Interval, begin: str) -> None:
    sentence = outcome(_with_effect(_effect(difference, verdict)))

    assert sentence.startswith(begin)
    assert "nan" not in sentence
    assert "four times out of five" not in sentence
    assert "among all models" not in sentence


def test_outcome_of_two_that_did_alike_does_not_call_the_effect_zero() -> None:
    effect = replace(_effect(Interval(0.0, 0.0, 0.0), "no detectable effect"), minimum_detectable=NAN)

    assert outcome(_with_effect(effect)).endswith(
        "The two did alike on all 128 items, so how small a difference would show is not known."
    )


def test_outcome_has_holms_p_where_it_is_another() -> None:
    effect = replace(_effect(Interval(0.05, 0.01, 0.09), "no detectable effect"), p_value=0.02, adjusted_p=0.16)

    sentence = outcome(_with_effect(effect))
    assert "p 0.02, after Holm's adjustment 0.16)" in sentence
    assert "among all models compared that is not enough" in sentence
    assert "among all models" not in outcome(_report())


def test_a_cell_whose_primary_measure_is_missing_says_so() -> None:
    report = replace(_report(), effects=[])

    assert outcome(report).startswith("Not measured: Accuracy")
    assert outcome(report) in _Page(cell_page(report)).text


def test_probabilities_are_never_written_as_zero() -> None:
    assert [probability(value) for value in (0.0, 0.0004, 0.0123, 1.0, NAN)] == [
        "< 0.001",
        "< 0.001",
        "0.012",
        "1",
        "n/a",
    ]


def test_an_interval_just_above_zero_is_not_written_as_if_it_held_zero() -> None:
    assert bounds(Interval(0.045, 0.0004, 0.0896), signed=True) == "+0.0004 to +0.0896"


@given(st.floats(-1, 1), st.floats(1e-5, 0.5))
@settings(max_examples=200, deadline=None)
def test_written_bounds_lie_on_the_same_side_of_zero_as_the_interval(mean: float, half: float) -> None:
    interval = Interval(mean, mean - half, mean + half)
    low, high = (float(part) for part in bounds(interval, signed=True).split(" to "))

    if interval.low <= 0 <= interval.high:
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
    single = _effect(NO_EFFECT, "too few seeds to say", seeds=1)
    assert one in _Page(cell_page(_with_effect(single))).text


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
    drawn = [attrs.get("class") for tag, attrs in page.tags if tag == "svg"]
    assert drawn.count("spark") == 4
    assert len(drawn) - drawn.count("spark") == 12


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
        models=[*_models(), ModelFigures("$\\frac{$", [0], {}, HOSTILE, HOSTILE)],
        effects=[*report.effects, _effect(NO_EFFECT, "helps", model="$\\frac{$")],
        sources=[SourceShare(HOSTILE, 1, 1, True), SourceShare("$x", 1, 0, False)],
        probes=[ProbeOutcome(HOSTILE, "format", HOSTILE, 1.0, 0.5)],
        learning_curves=[Curve("$\\frac{$", 0, [CurvePoint(1, 1.0)])],
        validation_curves=[],
        relearning=[Curve("\x00$\\frac{$", 0, [CurvePoint(1, 1.0), CurvePoint(2, 1.0)])],
        made_from=[Source(HOSTILE, HOSTILE, HOSTILE)],
    )
    page = cell_page(hostile)
    parsed = _Page(page)

    assert HOSTILE in parsed.text
    assert not {"script", "img", "iframe", "object", "link"} & {tag for tag, _ in parsed.tags}
    assert not any(name.startswith("on") for _, attrs in parsed.tags for name in attrs)
    rows = [replace(_row(UNKNOWN), learning_task=HOSTILE, forgetting_task=HOSTILE, primary_measure=HOSTILE)]
    arms = [ArmRow(HOSTILE, HOSTILE, HOSTILE, _effect(UNKNOWN, HOSTILE, model=name)) for name in ("lwf", HOSTILE)]
    assert "<script" not in leaderboard_page(HOSTILE, rows, arms)


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
    report = replace(_report(), samples=[sample], sources=[])
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
        {"models": [], "effects": []},
        {"effects": [_effect(UNKNOWN, "too few seeds to say")]},
        {"models": _models()[:3], "validation_curves": []},
        {"rankings": [], "sources": [], "probes": [], "relearning": []},
        {"samples": [replace(_sample(0), history=(), steps_unlearned=())]},
        {"linear_share": None, "quadratic_share": None, "length_correlation": NAN},
    ],
)
def test_sparse_data_still_make_a_page(changes: dict[str, object]) -> None:
    page = _Page(cell_page(replace(_report(), **changes)))  # type: ignore[arg-type]

    assert not re.search(r"\bnan\b|None", page.text)


def test_the_report_is_json() -> None:
    data = json.loads(json.dumps(asdict(_report())))

    assert data["samples"][0]["id"] == "dental-0000"


def test_the_page_names_what_was_probed_and_where_samples_come_from() -> None:
    page = _Page(_plain_page()).text

    assert "weights in 4 bits" in page
    assert "Please, {prompt}" in page
    assert "known to conflict" in page
    assert "expected" in page
    assert "was not probed" not in page
    assert "was not probed" in _Page(cell_page(replace(_report(), probes=[], relearning=[]))).text


@pytest.mark.parametrize(
    ("lwf", "after", "end"),
    [
        (2.5, 1.5, "LWF is then back at where the reference began: what it forgot was within reach."),
        (2.5, 2.0, "LWF is not yet back at where the reference began."),
        (1.754, 1.5, "LWF did not find them less likely than the reference to begin with."),
    ],
)
def test_relearning_is_judged_by_where_the_reference_began(lwf: float, after: float, end: str) -> None:
    sentence = relearned(replace(_report(), relearning=_relearning(lwf, after, 1.75)))

    assert sentence is not None
    assert sentence.endswith(end)
    assert relearned(replace(_report(), relearning=_relearning(lwf, after, 1.75)[:1])) is None


@pytest.mark.parametrize(
    ("found", "how"),
    [
        (Interval(0.9, 0.8, 1.0), ", above the 0.60 "),
        (Interval(0.65, 0.5, 0.8), ", not distinguishable from the 0.60 "),
        (Interval(0.3, 0.2, 0.4), ", below the 0.60 "),
    ],
)
def test_what_fc_finds_is_held_against_chance(found: Interval, how: str) -> None:
    rankings = [replace(_report().rankings[0], average_precision=found), *_report().rankings[1:]]
    sentence = conflicts_found(replace(_report(), rankings=rankings))

    assert sentence is not None
    assert how in sentence
    assert "by gradient norm it is 0.50" in sentence


def test_a_long_table_of_samples_is_cut_and_says_so() -> None:
    samples = [_sample(index) for index in range(CHOSEN_SHOWN + 20)]
    page = _Page(cell_page(replace(_report(), samples=samples))).text

    assert f"the {CHOSEN_SHOWN} with the highest FC of {CHOSEN_SHOWN + 20} samples" in page
    assert "dental-0149" in page
    assert "dental-0150" not in page


def test_holm_is_told_of_with_the_number_of_models() -> None:
    assert "Holm's adjustment for the 2 models" in multiplicity(_report())
    assert "Holm" not in multiplicity(_with_effect(_effect(NO_EFFECT, "helps")))


def test_leaderboard_counts_verdicts_and_says_what_chance_would_give() -> None:
    rows = [
        _row(NO_EFFECT, "helps"),
        _row(NO_EFFECT, "hurts"),
        _row(UNKNOWN, "too few seeds to say"),
        *[_row(NO_EFFECT)] * 18,
    ]

    text = leaderboard_outcome(rows)

    assert text.startswith("Of 20 cells with a verdict, forgetting helped in 1 and hurt in 1; in 18 no effect was ")
    assert "1 cell had too few seeds to say." in text
    assert "up to about 1 would show one" in text
    assert "up to about" not in leaderboard_outcome([_row(NO_EFFECT, "helps")])
    assert leaderboard_outcome([_row(UNKNOWN, "not measured")]) == "None of 1 cell has enough seeds for a verdict."
    assert leaderboard_outcome([]) == "No cell has been measured yet."


def test_leaderboard_grid_has_its_diagonal_and_marks_only_cells_with_an_effect() -> None:
    clear = Interval(0.1, 0.05, 0.15)
    rows = [
        _row(clear, "helps", "a", "b"),
        _row(clear, "no detectable effect", "a", "mixed"),
        _row(NO_EFFECT, "too few seeds to say", "b", "a"),
        _row(clear, "hurts", "b", "mixed"),
    ]
    page = leaderboard_page("paper", rows)
    grid = page[page.index('class="grid"') : page.index("All cells")]

    assert re.findall(r'center">(\w+)</th>', grid) == ["a", "b", "mixed"]
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", grid, re.S)]
    none = "\N{EN DASH}"
    assert cells == [
        none,
        "▲ +0.10+0.05 to +0.15helps",
        "+0.10+0.05 to +0.15no detectable effect",
        "+0.02-0.06 to +0.10too few seeds to say",
        none,
        "▼ +0.10+0.05 to +0.15hurts",
    ]
    _Page(page)


def test_leaderboard_shows_each_arm_in_its_own_cells_alone() -> None:
    rows = [_row(NO_EFFECT, learning="a"), _row(NO_EFFECT, learning="b")]
    arms = [
        ArmRow("a", "dental", "lwf", _effect(NO_EFFECT, "helps")),
        ArmRow("b", "dental", "npo", _effect(Interval(-0.3, -0.4, -0.2), "hurts", model="npo")),
    ]
    page = leaderboard_page("paper", rows, arms)
    table = page[page.index("Arms over the cells") : page.index("All cells")]

    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", table, re.S)]
    assert cells == ["▲ +0.02-0.06 to +0.10", "\N{EN DASH}", "\N{EN DASH}", "▼ -0.30-0.40 to -0.20"]


def test_leaderboard_without_a_row_is_a_page() -> None:
    assert "No cell has been measured yet." in _Page(leaderboard_page("paper", [])).text
