"""Puts everything that was measured for one cell together into its report."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lwf_assets.comparison.conflict_ranking import conflict_rankings
from lwf_assets.comparison.effects import curve_in_use, effects_of, figures_of, with_curve_measures
from lwf_assets.comparison.evaluations import (
    BASE,
    LWF,
    REFERENCE,
    Evaluation,
    of_kind,
    read_evaluations,
)
from lwf_assets.comparison.forgotten_samples import forgotten_samples, shares_of_terms, source_shares, unlearning_curves
from lwf_assets.comparison.measures import measure_name
from lwf_assets.comparison.probes import AS_TRAINED, read_probes
from lwf_assets.comparison.records import (
    ArmEffect,
    CellReport,
    Curve,
    CurvePoint,
    Example,
    ModelFigures,
    ProbeOutcome,
    Source,
)
from lwf_assets.statistics import rank_correlation
from lwf_assets.store.layout import FORGET_SET, LEARNING_CURVES, read_ledger, seeds_of
from lwf_assets.store.tables import read_rows

if TYPE_CHECKING:
    from lwf_assets.graph.cells import Cell
    from lwf_assets.store.partition import Partition
    from lwf_assets.store.store import Artifact
    from lwf_assets.study.study import Study

SATURATED = 0.02
"""Where the reference's accuracy is within this of 0 or 1, there is little room for a difference."""


def cell_report(study: Study, partition: Partition, inputs: Mapping[Cell, Artifact]) -> CellReport:
    """The report of one cell, from the artifacts that its eval_report is made from: evaluations, probes, forget set and
    ledger."""
    settings, forgetting_task = study.evaluation, str(partition.forgetting_task)
    folders: dict[str, list[Path]] = defaultdict(list)
    for cell, artifact in inputs.items():
        folders[cell.asset].append(artifact.path)
    (forget_set,), (checkpoint,) = folders["scored_forget_set"], folders["lwf_checkpoint"]
    primary: str = settings.primary_measure
    scored = read_rows(forget_set / FORGET_SET)
    evaluations = with_curve_measures(
        read_evaluations(folders["evaluation"], forgetting_task, pd.DataFrame(scored)),
        settings.learning_levels,
    )
    effects = effects_of(evaluations, primary, least_seeds=settings.least_seeds)
    models = [figures_of(evaluation) for evaluation in evaluations]
    ledger = read_ledger(checkpoint, study.seeds)
    samples = forgotten_samples(scored, ledger, evaluations)
    alpha = study.alpha
    shares = shares_of_terms(scored, alpha)
    confidence = [row["forgetting_confidence"] for row in scored]
    relearning, probes = read_probes(folders["forgetting_probe"], forgetting_task)
    return CellReport(
        study=study.name,
        learning_task=str(partition.learning_task),
        forgetting_task=forgetting_task,
        alpha=alpha,
        primary_measure=primary,
        models=models,
        effects=effects,
        learning_curves=[c for e in evaluations for c in _curves(e.name, e.training)],
        validation_curves=[c for e in evaluations for c in _curves(e.name, e.validation)],
        unlearning_curves=unlearning_curves(ledger),
        samples=samples,
        examples=_examples(evaluations),
        linear_share=shares["linear"],
        quadratic_share=shares["quadratic"],
        length_correlation=rank_correlation(confidence, [row["tokens"] for row in scored]),
        nll_correlation=rank_correlation(confidence, [row["nll"] for row in scored]),
        notes=[
            *adapter_note(study),
            *saturation(models, primary),
            *curve_note(evaluations),
            *unreached(models, effects),
        ],
        made_from=[
            Source(cell.asset, cell.partition.key, artifact.version) for cell, artifact in sorted(inputs.items())
        ],
        sources=source_shares(samples, settings.known_conflicts),
        rankings=conflict_rankings(scored, settings.known_conflicts),
        relearning=relearning,
        probes=[_with_memorised(outcome, models) for outcome in probes],
    )


def learning_curves(label: str, checkpoint: Path) -> list[Curve]:
    """The loss curve of each seed of a checkpoint."""
    points = read_rows(checkpoint / LEARNING_CURVES)
    return [
        Curve(label, seed, [CurvePoint(p["step"], p["loss"]) for p in points if p["seed"] == seed])
        for seed in seeds_of(checkpoint)
    ]


def adapter_note(study: Study) -> list[str]:
    """What the checkpoints are and what FC is over, where neither is the whole model."""
    adapter = study.model.adapter
    if adapter is None:
        return []
    where = "every linear layer but the output head"
    if adapter.targets != "all-linear":
        where = f"the layers whose names end in {', '.join(adapter.targets)}"
    space = (
        "the weights that carry an adapter: Fisher information, gradients and the distance to the optimum are those of "
        "these matrices, all other parameters are left out"
    )
    if study.confidence_space == "adapter":
        space = (
            "the adapter's own parameters, A and B. At the start B is zero and so is the gradient of A, and FC depends "
            "on the random A; confidence.space: weights does not"
        )
    return [
        f"Checkpoints are LoRA adapters of rank {adapter.rank} (alpha {adapter.alpha}) on {where}; the model's own "
        f"weights are frozen. FC is over {space}."
    ]


def saturation(models: Sequence[ModelFigures], primary: str) -> list[str]:
    """A note where the primary measure is a share that leaves the reference no room upwards, or none downwards."""
    reference = next(figures for figures in models if figures.model == REFERENCE)
    interval = reference.measures.get(primary)
    if primary != "accuracy" or interval is None or SATURATED < interval.mean < 1 - SATURATED:
        return []
    return [
        f"Accuracy is saturated: the reference has {interval.mean:.3g}, so it can hardly tell the models apart. The "
        "NLL of the targets and the learning curve can; evaluation.primary_measure makes one of them the verdict."
    ]


def curve_note(evaluations: Sequence[Evaluation]) -> list[str]:
    """Of which curve the measures of learning speed are."""
    if not any("learning_auc" in evaluation.values for evaluation in evaluations):
        return []
    return [
        f"{measure_name('learning_auc')} and the steps to a level are of the {curve_in_use(evaluations)}, over the "
        "steps that all models took."
    ]


def unreached(models: Sequence[ModelFigures], effects: Sequence[ArmEffect]) -> list[str]:
    """Which levels some seed of LWF or of the reference never came to, so that there is no difference in steps."""
    known = {effect.measure for effect in effects if effect.model == LWF}
    wanted = {
        name for f in models if f.model in (LWF, REFERENCE) for name in f.measures if name.startswith("steps_to_")
    }
    missing = sorted(wanted - known)
    if not missing:
        return []
    levels = ", ".join(name.rpartition("_")[2] for name in missing)
    return [f"Not every seed came down to NLL {levels}, so no difference in steps to it can be given."]


def _with_memorised(outcome: ProbeOutcome, models: Sequence[ModelFigures]) -> ProbeOutcome:
    """Relearning follows the NLL alone; what the model as trained has memorized is in its evaluation."""
    if outcome.probe != AS_TRAINED or math.isfinite(outcome.memorised):
        return outcome
    known = (figures.measures.get("forgotten_memorised") for figures in models if figures.model == outcome.model)
    return replace(outcome, memorised=next((interval.mean for interval in known if interval), math.nan))


def _curves(label: str, table: pd.DataFrame) -> list[Curve]:
    return [
        Curve(label, int(str(seed)), [CurvePoint(int(step), float(value)) for step, value in zip(*points, strict=True)])
        for seed in table
        for points in [(table[seed].dropna().index, table[seed].dropna())]
    ]


def _examples(evaluations: Sequence[Evaluation]) -> list[Example]:
    """Those prompts that LWF answered, in its order, with what base and reference say to them."""
    answered: dict[str, dict[Any, str]] = {kind: of_kind(evaluations, kind).examples for kind in (BASE, REFERENCE, LWF)}
    return [
        Example(key[1], {model: found[key] for model, found in answered.items() if key in found})
        for key in answered[LWF]
    ]
