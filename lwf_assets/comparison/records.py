"""The data of the reports: what eval_report and leaderboard hold, and what their pages and plots are made from.

Plain frozen dataclasses: `dataclasses.asdict` gives JSON. NaN stands for what was not measured. A model is "base"
(pre-trained), "reference" (vanilla fine-tune), "lwf", or an arm by its name.
"""

from __future__ import annotations

from dataclasses import dataclass

from lwf_assets.statistics.interval import UNKNOWN, Interval

MODELS = ("base", "reference", "lwf")
"""The models that every cell has; arms are added to them."""

NAN = float("nan")


@dataclass(frozen=True)
class ModelFigures:
    """What was measured on one model, over all its seeds; the keys of `measures` are those of `measures.MEASURES`.

    The intervals are over items, each of which counts with its mean over the seeds; a measure of whole models, such as
    "macro_f1", has none.
    """

    model: str
    seeds: list[int]
    measures: dict[str, Interval]
    label: str = ""
    description: str = ""
    steps: int | None = None


@dataclass(frozen=True)
class ArmEffect:
    """One model minus the reference in one measure, paired by seed and by item."""

    model: str
    measure: str
    mean: float
    reference_mean: float
    difference: Interval
    p_value: float
    """Two-sided, of no difference."""
    adjusted_p: float
    """Holm's, over the models of the cell; NaN but in the primary measure."""
    minimum_detectable: float
    """The difference that this many seeds and items would find in 80 of 100 repetitions; in the primary measure at the
    strictest step of Holm's adjustment."""
    verdict: str
    """"helps", "hurts", "higher", "lower", "no detectable effect" or "too few seeds to say"."""
    seeds: int
    items: int
    """1 for a measure of whole models."""


@dataclass(frozen=True)
class PrimaryDifference:
    """LWF minus reference in one measure, paired by seed and by test item."""

    measure: str
    interval: Interval
    items: int
    seeds: int


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
    constant: float = NAN
    rank: int = 0
    source_task: str = ""
    """The forgetting task that its prompt is from; empty where that is not known."""
    steps_unlearned: tuple[int, ...] = ()
    """Learning steps of the first seed at which it was pushed."""
    history: tuple[CurvePoint, ...] = ()
    """NLL in the first seed's run: of the base model, each time the sample was evaluated, and at the end."""


@dataclass(frozen=True)
class Example:
    """What each model, of several seeds the first, answers to one forgetting prompt."""

    prompt: str
    responses: dict[str, str]


@dataclass(frozen=True)
class SourceShare:
    """How many samples of one source task were scored, and chosen."""

    task: str
    scored: int
    selected: int
    known_conflict: bool


@dataclass(frozen=True)
class ConflictRanking:
    """How well one ranking of the samples finds those known to conflict with the learning task."""

    ranking: str
    average_precision: Interval
    precision: Interval
    """Among the samples chosen: the share that conflicts."""
    recall: Interval
    """Among those that conflict: the share chosen."""


@dataclass(frozen=True)
class ProbeOutcome:
    """The samples chosen for unlearning, under one model after one change; means over samples and seeds."""

    model: str
    probe: str
    """"as trained", "int8", "int4" or "format"."""
    variant: str
    nll: float
    memorised: float


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
    """Base, reference, LWF, then the arms."""
    effects: list[ArmEffect]
    """One of each model but base and reference in each measure."""
    learning_curves: list[Curve]
    """Training loss, nats per token, by learning step; the label is the model."""
    validation_curves: list[Curve]
    """NLL of the validation split by learning step; may be empty."""
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
    sources: list[SourceShare]
    rankings: list[ConflictRanking]
    """Empty where no conflict is known."""
    relearning: list[Curve]
    """NLL of the samples chosen, by step of learning them again; the label is the model."""
    probes: list[ProbeOutcome]

    def figures(self, model: str, measure: str) -> Interval:
        """The measure on one model; NaN where it was not measured."""
        found = (figures.measures.get(measure) for figures in self.models if figures.model == model)
        return next((interval for interval in found if interval is not None), UNKNOWN)

    def effect(self, model: str, measure: str) -> ArmEffect | None:
        """What the model does differently from the reference; None where it was not measured."""
        return next((e for e in self.effects if (e.model, e.measure) == (model, measure)), None)

    @property
    def result(self) -> ArmEffect | None:
        """LWF's effect in the primary measure."""
        return self.effect("lwf", self.primary_measure)

    @property
    def arms(self) -> list[str]:
        """The models other than base, reference and LWF."""
        return [figures.model for figures in self.models if figures.model not in MODELS]

    def label(self, model: str) -> str:
        """A model's name for people."""
        names = {"lwf": "LWF"} | {f.model: f.label for f in self.models if f.label and f.model not in MODELS}
        return names.get(model, model)


@dataclass(frozen=True)
class LeaderboardRow:
    """One cell of the study as the leaderboard shows it; `difference` is LWF minus reference, paired."""

    learning_task: str
    forgetting_task: str
    primary_measure: str
    base: Interval
    reference: Interval
    lwf: Interval
    difference: Interval
    verdict: str
    adjusted_p: float
    minimum_detectable: float
    items: int
    seeds: int


@dataclass(frozen=True)
class ArmRow:
    """One model's effect in one cell, in the cell's primary measure."""

    learning_task: str
    forgetting_task: str
    label: str
    effect: ArmEffect
