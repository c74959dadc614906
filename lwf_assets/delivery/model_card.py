"""The model card: the hub's metadata, and what must be said of a model that has forgotten something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lwf_assets.comparison.measures import measure_of
from lwf_assets.lineage.audit import Audit
from lwf_assets.lineage.chain import Link, read_chain
from lwf_assets.lineage.replay import study_of
from lwf_assets.store.bases import base_input
from lwf_assets.store.layout import TABLES, read_summary
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.store import Store
from lwf_assets.study.sections import HubModel, PackagedGgufModel
from lwf_assets.study.study import MIXED, Study
from lwf_assets.tasks.settings import HubSource

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_DATA = ("learning_data", "forgetting_prompts", "self_generated_corpus")
_MODEL_OF = {"lwf_checkpoint": "lwf", "reference_checkpoint": "reference"}
_MOST_SAMPLES, _LONGEST = 10, 160


Form = Literal["whole", "merged", "adapter"]
"""Whether a directory holds a model that was trained whole, one with its adapter merged, or an adapter."""


def model_card(store: Store, audit: Audit, *, seed: int, form: Form = "whole") -> str:
    """The card of the checkpoint of `audit`, as Markdown with the hub's metadata in front."""
    from huggingface_hub import ModelCardData

    end = audit.chain.end
    study = study_of(store, end)
    report = _report(store, end.manifest)
    base, revision = _base(study)
    name = f"{study.name}-{end.manifest.partition or end.manifest.asset}".replace("|", "-").replace(".", "-")
    figures = list(_figures(report, end)) if report is not None else []
    results = [_result(report, figure) for figure in figures] if report is not None else []
    relation = "adapter" if form == "adapter" else "finetune"
    metadata = ModelCardData(
        base_model=base if isinstance(study.model.source, HubModel) else None,
        base_model_relation=relation if isinstance(study.model.source, HubModel) else None,
        library_name="peft" if form == "adapter" else "transformers",
        pipeline_tag="text-generation",
        tags=["learning-with-forgetting", "machine-unlearning"],
        datasets=_hub_data(study, end) or None,
        model_name=name,
        eval_results=results or None,
    )
    # Not HTML: Markdown.
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined)
    environment.filters |= {"cell": _cell, "figure": _figure}
    return (
        environment.get_template("model_card.md.j2").render(
            metadata=metadata.to_yaml(),
            name=name,
            study=study,
            base=base,
            revision=revision,
            base_link=audit.chain.of("base_model")[0] if audit.chain.of("base_model") else None,
            end=end,
            form=form,
            adapter=study.model.adapter,
            own_base=base_for_others(store, end),
            seed=seed,
            audit=audit,
            data=[link for link in audit.chain.links if link.manifest.asset in _DATA],
            samples=audit.unlearned[:_MOST_SAMPLES],
            report=report,
            figures=figures,
            turns=lambda sample: next((turn for turn in sample.turns if turn.seed == seed), None),
        )
        + "\n"
    )


def base_for_others(store: Store, end: Link) -> tuple[str, str | None]:
    """The model that an adapter is put on, and its revision. One on the hub is named as there; any other, and one that
    was taught a prior before, by its artifact, for nobody else has it."""
    study = study_of(store, end)
    base = base_input(end.manifest)
    source = study.model.source
    if isinstance(source, HubModel) and study.model.prior is None and base is not None and base.asset == "base_model":
        return source.id, source.revision
    return "" if base is None else f"{base.asset}@{base.version}", None


def _report(store: Store, manifest: Manifest) -> dict[str, Any] | None:
    """The summary of the newest report that measured this very checkpoint; None if nothing did."""
    for found in store.manifests("eval_report"):
        links = read_chain(store, found).links
        if store.is_current(found) and any(_same(link.manifest, manifest) for link in links):
            store.bring(found, TABLES)
            return read_summary(store.artifact_folder(found))
    return None


def _same(one: Manifest, other: Manifest) -> bool:
    return (one.asset, one.partition, one.version) == (other.asset, other.partition, other.version)


def _figures(report: dict[str, Any], end: Link) -> Iterator[dict[str, Any]]:
    """Each measure of the model beside the reference's, with its interval, and the difference with its verdict."""
    own = _MODEL_OF.get(end.manifest.asset) or str(end.manifest.partition).split("|")[0]
    by_model = {entry["model"]: entry["measures"] for entry in report["models"]}
    measures = by_model.get(own) or by_model.get(own.split(".")[0]) or {}
    effects = {effect["measure"]: effect for effect in report["effects"] if effect["model"] in (own, own.split(".")[0])}
    for key, values in measures.items():
        if values["mean"] is not None:
            measure = measure_of(key)
            yield {
                "key": key,
                "name": measure.name,
                "hint": measure.hint,
                "values": values,
                "reference": by_model.get("reference", {}).get(key),
                "effect": effects.get(key),
            }


def _result(report: dict[str, Any], figure: dict[str, Any]) -> EvalResult:
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="text-generation",
        dataset_type=report["learning_task"],
        dataset_name=report["learning_task"],
        dataset_split="test",
        metric_type=figure["key"],
        metric_name=figure["name"],
        metric_value=round(figure["values"]["mean"], 6),
    )


def _base(study: Study) -> tuple[str, str | None]:
    source = study.model.source
    if isinstance(source, HubModel):
        return source.id, source.revision
    if isinstance(source, PackagedGgufModel):
        return f"{source.file} of the package {source.package}", None
    return source.path.name, None


def _hub_data(study: Study, end: Link) -> list[str]:
    """Of the tasks that its partition names, such as `npo.dentistry|chain_sum`."""
    tasks = [*study.learning_tasks.items(), *study.forgetting_tasks.items()]
    own = set(re.split(r"[|.]", str(end.manifest.partition)))
    sources = [task.source for name, task in tasks if name in own or MIXED in own]
    return sorted({source.id for source in sources if isinstance(source, HubSource) and not source.is_local})


def _cell(text: str | None) -> str:
    """As one cell of a table."""
    flat = " ".join(str(text or "").split()).replace("|", "\\|")
    return flat if len(flat) <= _LONGEST else f"{flat[:_LONGEST]}..."


def _figure(values: dict[str, float | None] | None) -> str:
    if not values or values.get("mean") is None:
        return "-"
    if values.get("low") is None:
        return f"{values['mean']:.4g}"
    return f"{values['mean']:.4g} ({values['low']:.4g} to {values['high']:.4g})"
