"""Reports to draw, and a page to read back."""

from __future__ import annotations

import math
from dataclasses import replace
from html.parser import HTMLParser

from lwf_assets.comparison.records import (
    ArmEffect,
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
from lwf_assets.statistics.interval import Interval

NAN = math.nan


UNKNOWN = Interval(NAN, NAN, NAN)


NO_EFFECT = Interval(0.02, -0.06, 0.1)


VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
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


def some_sample(index: int, *, selected: bool = True, response: str = "A cap.") -> ForgottenSample:
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


def some_effect(
    difference: Interval,
    verdict: str,
    *,
    model: str = "lwf",
    measure: str = "accuracy",
    seeds: int = 3,
    items: int = 128,
) -> ArmEffect:
    return ArmEffect(model, measure, 0.48, 0.46, difference, 0.6, NAN, 0.11, verdict, seeds, items)


def some_models(measure: str = "accuracy") -> list[ModelFigures]:
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


def some_report() -> CellReport:
    steps = [CurvePoint(step, 3 / step) for step in range(1, 12)]
    labels = ("reference", "lwf", "npo")
    return CellReport(
        study="quickstart",
        learning_task="chain_sum",
        forgetting_task="dental",
        alpha=3e-5,
        primary_measure="accuracy",
        models=some_models(),
        effects=[
            some_effect(NO_EFFECT, "no detectable effect"),
            some_effect(Interval(0.1, 0.05, 0.15), "helps", model="npo"),
            some_effect(Interval(0.4, 0.3, 0.5), "higher", measure="relative_distance", items=0),
        ],
        learning_curves=[Curve(label, seed, steps) for label in labels for seed in (0, 1)],
        validation_curves=[Curve(label, 0, steps) for label in labels],
        unlearning_curves=[Curve("before", 0, steps), Curve("after", 0, steps)],
        samples=[some_sample(index, selected=index < 4) for index in range(8)],
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
        relearning=some_relearning(2.5, 1.5, 1.75),
        probes=[
            ProbeOutcome("lwf", "as trained", "", 2.5, 0.3),
            ProbeOutcome("reference", "as trained", "", 1.75, 0.6),
            ProbeOutcome("lwf", "int4", "", 2.25, 0.4),
            ProbeOutcome("lwf", "format", "Please, {prompt}", 2.4, 0.35),
        ],
    )


def some_relearning(lwf: float, lwf_after: float, reference: float) -> list[Curve]:
    points = {"lwf": (lwf, lwf_after), "reference": (reference, 1.0)}
    return [Curve(model, 0, [CurvePoint(0, first), CurvePoint(8, last)]) for model, (first, last) in points.items()]


def with_effect(effect: ArmEffect) -> CellReport:
    return replace(some_report(), primary_measure=effect.measure, models=some_models(effect.measure), effects=[effect])


def some_row(
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
