"""Asset forgetting_probe: was it really forgotten, or is it only hidden?

Three probes of the samples that were chosen to be forgotten: how fast a few steps of training bring them back, whether
rounding the weights to few bits does, and whether asking in another form does ("superficial forgetting").
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.graph.models import find
from lwf_assets.statistics.means import mean
from lwf_assets.store.layout import FORGET_SET, PROBES, PROBES_SCHEMA, SUMMARY, seed_folder, seeds_of
from lwf_assets.store.tables import read_rows, write_rows
from lwf_assets.tasks.rows import in_form, prompt_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lwf_assets.engine.samples import Sample
    from lwf_assets.graph.work import Work


Rows = Iterator[dict[str, Any]]


def materialize(work: Work) -> dict[str, Any]:
    """Probe every seed; each figure is a mean over the samples that the forgetting task's LWF was to forget."""
    from lwf_assets.engine.checkpoint import load_model, load_tokenizer

    entry = find(work.study, work.partition)
    checkpoint, base = work.input(entry.checkpoint[0]), work.base_of(entry.checkpoint[0])
    rows: list[dict[str, Any]] = []
    seeds = seeds_of(checkpoint)
    forget_sets = {
        str(partition.forgetting_task): [r for r in read_rows(path / FORGET_SET) if r["selected"]]
        for partition, path in work.all_inputs("scored_forget_set").items()
    }
    work.progress.begin("Probes of forgetting", len(seeds) * len(forget_sets))
    for seed in seeds:
        for name, chosen in forget_sets.items():
            folder = seed_folder(checkpoint, seed)
            # Weights are rounded and trained here: those that an adapter stands for, not the adapter.
            model, tokenizer = load_model(folder, base, merged=True), load_tokenizer(folder)
            for found in _probe(work, model, tokenizer, chosen, seed):
                rows.append({"seed": seed, "forgetting_task": name, "step": None, "variant": None} | found)
            work.progress.advance()
    write_rows(work.out / PROBES, rows, PROBES_SCHEMA)
    (work.out / SUMMARY).write_text(json.dumps({"model": entry.key, "label": entry.name, "seeds": seeds}) + "\n")
    steps = [row for row in rows if row["probe"] == "relearning"]
    last = max(row["step"] for row in steps)
    return {
        "model": entry.key,
        "nll_before_relearning": mean([row["nll"] for row in steps if row["step"] == 0]),
        "nll_after_relearning": mean([row["nll"] for row in steps if row["step"] == last]),
    }


def _probe(
    work: Work,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chosen: Sequence[dict[str, Any]],
    seed: int,
) -> Rows:
    from lwf_assets.engine.probes.quantization import quantize_weights
    from lwf_assets.engine.probes.relearning import relearning_curve
    from lwf_assets.engine.samples import Sample

    assert work.study.probe is not None
    settings, budget = work.study.probe, work.study.model.token_budget
    samples = [Sample(row["prompt_ids"], row["response_ids"]) for row in chosen]
    for bits in settings.quantization:
        with quantize_weights(model, bits):
            yield {"probe": f"int{bits}", **_look(work, model, samples)}
    for form in settings.prompt_forms:
        yield {"probe": "format", "variant": form, **_look(work, model, _asked(work, model, tokenizer, chosen, form))}
    curve = relearning_curve(
        model,
        samples,
        steps=settings.relearning_steps,
        learning_rate=settings.relearning_rate,
        batch_size=settings.relearning_batch_size,
        seed=seed,
        token_budget=budget,
    )  # last, because it changes the model
    for step, nll in enumerate(curve):
        yield {"probe": "relearning", "step": step, "nll": nll, "memorised": None}


def _look(work: Work, model: PreTrainedModel, samples: Sequence[Sample]) -> dict[str, float | None]:
    from lwf_assets.engine.evaluation.memorization import memorisation

    known = memorisation(model, samples, token_budget=work.study.model.token_budget)
    return {"nll": mean(one.nll for one in known), "memorised": mean(one.memorised for one in known)}


def _asked(
    work: Work,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chosen: Sequence[dict[str, Any]],
    form: str,
) -> list[Sample]:
    """The same responses, after the same prompts in another form."""
    from lwf_assets.engine.samples import Sample, encode_prompt

    context = work.context(model)
    asked = []
    for row in chosen:
        prompt_ids = encode_prompt(tokenizer, in_form(prompt_of(row), form), row_id=row["id"])
        room = context.max_length - len(row["response_ids"])
        if len(prompt_ids) > room:
            raise LwfError(
                f"probe.prompt_forms: {form!r} makes the prompt of {row['id']} {len(prompt_ids)} tokens long, and its "
                f"response leaves room for {room}; give a shorter form"
            )
        asked.append(Sample(prompt_ids, row["response_ids"]))
    return asked
