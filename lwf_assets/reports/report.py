"""The data of the reports: what eval_report and leaderboard hold, and what their pages and plots are made from.

Plain frozen dataclasses: `dataclasses.asdict` gives JSON. NaN stands for what was not measured. A model is "base"
(pre-trained), "reference" (vanilla fine-tune) or "lwf".
"""

from __future__ import annotations

from dataclasses import dataclass

MODELS = ("base", "reference", "lwf")


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval over items, each of which counts with its mean over the seeds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ModelFigures:
    """What was measured on one model, over all its seeds.

    Measures: those of the learning task's scorer, such as "accuracy" (0 to 1); "invalid", the share of answers that
    could not be read; and, in nats per token, "target_nll" (the test set's targets), "forgotten_nll" (the
    self-generated samples chosen for unlearning) and "kept_nll" (those scored but not chosen).
    """

    model: str
    seeds: list[int]
    measures: dict[str, Interval]


@dataclass(frozen=True)
class Difference:
    """LWF minus reference in one measure, paired by test item."""

    measure: str
    interval: Interval
    items: int
    seeds: int


@dataclass(frozen=True)
class ForgottenSample:
    """One scored sample of D_self.

    `linear` and `quadratic` are the terms as confidence_terms holds them, so that
    FC = constant - alpha * linear + alpha^2 * quadratic. `nll` is in nats per token, by model.
    """

    id: str
    prompt: str
    response: str
    forgetting_confidence: float
    linear: float
    quadratic: float
    tokens: int
    selected: bool
    """In D_U, the part that is unlearned."""
    nll: dict[str, float]
    times_unlearned: int
    """Unlearning steps that pushed this sample, added up over the seeds."""


@dataclass(frozen=True)
class Example:
    """What each model, of several seeds the first, answers to one forgetting prompt."""

    prompt: str
    responses: dict[str, str]


@dataclass(frozen=True)
class CurvePoint:
    """A value at a learning step."""

    step: int
    value: float


@dataclass(frozen=True)
class Curve:
    """One seed's curve; `label` says of what."""

    label: str
    seed: int
    points: list[CurvePoint]


@dataclass(frozen=True)
class Source:
    """An artifact that the report was made from; `version` is its content hash."""

    asset: str
    partition: str | None
    version: str


@dataclass(frozen=True)
class CellReport:
    """One cell of the study: one learning task with one forgetting task."""

    study: str
    learning_task: str
    forgetting_task: str
    alpha: float
    """Length of the gradient step in FC."""
    primary_measure: str
    models: list[ModelFigures]
    difference: Difference
    """In the primary measure."""
    learning_curves: list[Curve]
    """Training loss, nats per token, by learning step; labels "reference" and "lwf"."""
    unlearning_curves: list[Curve]
    """Mean NLL of the unlearning batch, nats per token, by learning step; labels "before" and "after" the update."""
    samples: list[ForgottenSample]
    """All that were scored, chosen for unlearning or not."""
    examples: list[Example]
    linear_share: float | None
    """Share of FC's variance that comes from the linear term; None where FC does not vary."""
    quadratic_share: float | None
    """The same of the quadratic term. The two add up to 1; correlated terms can take one beyond 0 to 1."""
    length_correlation: float | None
    """Spearman's rank correlation of FC with the number of tokens; None where there is none to compute."""
    nll_correlation: float | None
    """Spearman's rank correlation of FC with the base model's NLL."""
    notes: list[str]
    """What a reader must know besides, in plain sentences."""
    made_from: list[Source]

    def figures(self, model: str, measure: str) -> Interval:
        """The measure on one model; NaN where it was not measured."""
        nan = float("nan")
        found = (figures.measures.get(measure) for figures in self.models if figures.model == model)
        return next((interval for interval in found if interval is not None), Interval(nan, nan, nan))


@dataclass(frozen=True)
class LeaderboardRow:
    """One cell of the study as the leaderboard shows it; `difference` is LWF minus reference, paired by item."""

    learning_task: str
    forgetting_task: str
    primary_measure: str
    base: Interval
    reference: Interval
    lwf: Interval
    difference: Interval
    items: int
    seeds: int
