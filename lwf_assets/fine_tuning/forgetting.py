"""The fine-tune on D_L that unlearns D_U on the way: for LWF, and for every arm that forgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwf_assets.extensions import extensions
from lwf_assets.fine_tuning.forget_set import write_selection
from lwf_assets.fine_tuning.per_seed import Treatment, fine_tune_per_seed
from lwf_assets.store.layout import (
    CONFIDENCE_TERMS,
    FORGET_SET,
    LEDGER_SCHEMA,
    UNLEARNING_LEDGER,
    read_ledger,
)
from lwf_assets.store.tables import read_rows, write_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lwf_assets.engine.unlearning.ledger import LedgerEntry
    from lwf_assets.engine.unlearning.objectives import Objective
    from lwf_assets.engine.unlearning.retention import Retention
    from lwf_assets.graph.work import Work
    from lwf_assets.study.sections import ConfidenceSettings, UnlearningSettings


Rows = Sequence[Mapping[str, Any]]


def choose_forget_set(work: Work, confidence: ConfidenceSettings) -> list[dict[str, Any]]:
    """Score and choose by settings that are not the study's; written next to the checkpoint. Returns all scored
    rows."""
    terms = work.input("confidence_terms") / CONFIDENCE_TERMS
    write_selection(terms, work.out / FORGET_SET, confidence, alpha=work.study.alpha_of(confidence))
    return read_rows(work.out / FORGET_SET)


def learn_with_forgetting(
    work: Work, scored: Rows, settings: UnlearningSettings, *, caps: Sequence[float] | None = None
) -> dict[str, Any]:
    """Train each seed and write, next to the models, which sample was unlearned at which step and what remained.

    Args:
        work: the cell.
        scored: the rows of a scored forget set; those that are `selected` are unlearned.
        settings: how.
        caps: one for each selected row, where they have caps of their own.
    """
    from lwf_assets.engine.samples import Sample
    from lwf_assets.engine.unlearning.periodic import PeriodicUnlearning

    forgotten = [row for row in scored if row["selected"]]
    samples = [Sample(row["prompt_ids"], row["response_ids"]) for row in forgotten]
    objective, retain = _objective(settings), _retention(work, scored, settings)

    def tell(step: int, entries: list[LedgerEntry]) -> None:
        values = {
            "unlearning/nll_before": sum(entry.nll_before for entry in entries) / len(entries),
            "unlearning/pushed": sum(entry.pushed for entry in entries) / len(entries),
        }
        work.progress.metrics(max(step, 0), values)

    def treat(seed: int, model: PreTrainedModel) -> Treatment:
        unlearning = PeriodicUnlearning(
            samples,
            sample_ids=[row["id"] for row in forgotten],
            interval=settings.interval,
            forgetting_rate=settings.forgetting_rate,
            batch_size=settings.batch_size,
            per_sample_cap=settings.per_sample_cap if caps is None else caps,
            optimizer=settings.optimizer,
            max_gradient_norm=settings.max_gradient_norm,
            timing=settings.timing,
            seed=seed,
            on_unlearn=tell,
            objective=objective,
            retain=retain,
            measure_updates=True,
        )
        return Treatment((unlearning,), keep=lambda folder: _write_ledger(folder, unlearning.ledger))

    summary = fine_tune_per_seed(work, treat, label="Learning with forgetting")
    ledger = read_ledger(work.out, work.study.seeds)
    return {
        **summary,
        "forget_set": len(forgotten),
        "unlearning_steps": len({(row["seed"], row["step"]) for row in ledger}),
        "samples_unlearned": len({row["sample_id"] for row in ledger if row["pushed"]}),
    }


def _write_ledger(folder: Path, entries: Sequence[LedgerEntry]) -> None:
    write_rows(folder / UNLEARNING_LEDGER, [asdict(entry) for entry in entries], LEDGER_SCHEMA)


def _objective(settings: UnlearningSettings) -> Objective:
    from lwf_assets.engine.unlearning.objectives import NPO, Ascent, Nothing, SimNPO

    beta = {} if settings.beta is None else {"beta": settings.beta}
    match settings.objective:
        case "ascent":
            return Ascent()
        case "npo":
            return NPO(**beta)
        case "simnpo":
            return SimNPO(**beta, gamma=settings.gamma)
        case "none":
            return Nothing()
        case name:
            given = beta | ({"gamma": settings.gamma} if settings.gamma else {})
            objective: Objective = extensions("lwf.objectives")[name].load()(**given)
            return objective


def _retention(work: Work, scored: Rows, settings: UnlearningSettings) -> Retention | None:
    from lwf_assets.engine.checkpoint import load_model
    from lwf_assets.engine.samples import Sample
    from lwf_assets.engine.unlearning.retention import Retention
    from lwf_assets.errors import LwfError

    if settings.retain is None:
        return None
    kept = [Sample(row["prompt_ids"], row["response_ids"]) for row in scored if not row["selected"]]
    if not kept:
        raise LwfError(
            "unlearning.retain: every scored sample is forgotten, so none is left to retain; lower "
            "confidence.selection_ratio"
        )
    return Retention(
        kept,
        kind=settings.retain.kind,
        weight=settings.retain.weight,
        batch_size=settings.retain.batch_size,
        reference=load_model(work.input("base_model")) if settings.retain.kind == "kl" else None,
    )
