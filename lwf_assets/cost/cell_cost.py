"""What a cell will cost: how much arithmetic it is, and what it holds in memory at its peak.

One function per asset, from the study and from what is built already. No torch here: `lwf plan` shows these figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from lwf_assets.cost.flops import OPTIMIZER, forward, generation, gradients, training, unlearning
from lwf_assets.cost.model_size import ModelFacts, facts_of_study
from lwf_assets.cost.peak_memory import (
    Peak,
    batch,
    fp32_values,
    generated_rows,
    gradient_sums,
    held_for_terms,
    largest_peak,
    model_beside,
    planned_rows,
    second_copy,
    training_peak,
    weights,
)
from lwf_assets.cost.row_counts import (
    TYPICAL_CHOICES,
    Amount,
    Known,
    corpus_amount,
    learning_amount,
    other_test_amount,
    prompt_amount,
    taught_amount,
    test_amount,
)
from lwf_assets.graph.cells import Cell
from lwf_assets.graph.models import Compared, compared_in, find
from lwf_assets.graph.settings import utility_tasks
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import BASE, Study
from lwf_assets.tasks.settings import TaskSettings

LIBRARIES = 500_000_000
"""Bytes of Python with torch and transformers."""


@dataclass(frozen=True)
class Cost:
    """What one cell costs.

    `work` is in floating-point operations, or in rows where no model computes; None where it cannot be known yet.
    `peak` is empty where it is unknown or negligible. `guessed` says that typical lengths stood in for real
    ones.
    """

    work: float | None
    peak: Peak = ()
    guessed: bool = False
    on_accelerator: bool = True

    @property
    def memory(self) -> int | None:
        """Bytes at the peak, the libraries' own included; None if unknown."""
        sizes = [part.size for part in self.peak if part.size is not None]
        return LIBRARIES + round(sum(sizes)) if sizes and len(sizes) == len(self.peak) else None

    @property
    def surely(self) -> int:
        """Bytes, without the libraries' own, that are needed even if every length was overestimated."""
        return round(sum(part.surely for part in self.peak))


def cost_of(study: Study, cell: Cell, known: Known) -> Cost:
    """The cost of making `cell`, as far as it follows from the study and the `known` artifacts."""
    if cell.asset not in _WITH_MODEL and cell.asset not in _WITHOUT_MODEL:
        return Cost(None, on_accelerator=cell.spec.uses_model)  # as long as the cell took the last time
    if cell.asset in _WITHOUT_MODEL:
        counts = _WITHOUT_MODEL[cell.asset](study, cell.partition, known)
        rows = [count for count in counts if count is not None]
        return Cost(float(sum(rows)) if len(rows) == len(counts) else None, on_accelerator=False)
    # The old base_model says nothing about the new one: another source may be larger.
    base = known(Cell("base_model", Partition())) if cell.asset != "base_model" else None
    facts = facts_of_study(study, None if base is None else base.path)
    return Cost(None) if facts is None else _WITH_MODEL[cell.asset](study, cell.partition, known, facts)


Rows = list[int | None]


def _nothing_known(cell: Cell) -> None:
    """For cells that read no artifact: the study's row limits are all that there is."""


def _learning_data(study: Study, partition: Partition, known: Known) -> Rows:
    return [part.rows for part in learning_amount(study, _learned(partition), _nothing_known)]


def _test_data(study: Study, partition: Partition, known: Known) -> Rows:
    return [test_amount(study, _learned(partition), _nothing_known).rows]


def _forgetting_prompts(study: Study, partition: Partition, known: Known) -> Rows:
    return [prompt_amount(study, _forgotten(partition), _nothing_known).rows]


def _scored_forget_set(study: Study, partition: Partition, known: Known) -> Rows:
    return [corpus_amount(study, _forgotten(partition), known).rows]


def _leaderboard(study: Study, partition: Partition, known: Known) -> Rows:
    return [len(study.learning_names) * len(study.forgetting_names)]


def _base_model(study: Study, partition: Partition, known: Known, facts: ModelFacts) -> Cost:
    """Loading and, where the base has a prior, teaching."""
    peak, prior = (weights(study, facts), second_copy(facts)), partition.prior or study.model.prior
    if prior is None:
        return Cost(float(facts.parameters), peak, on_accelerator=False)
    settings = study.priors[prior].training
    rows = taught_amount(study.priors[prior])
    work = training(settings, facts, rows, replace(rows, rows=0))
    facts = replace(facts, adapter=None)  # a base is taught with all its weights
    taught = study.model_copy(update={"training": settings})
    parts = largest_peak([peak, training_peak(taught, facts, rows)])
    return Cost(None if work is None else facts.parameters + work, parts, guessed=True)


def _self_generated_corpus(study: Study, partition: Partition, known: Known, facts: ModelFacts) -> Cost:
    settings = study.generation
    prompts = prompt_amount(study, _forgotten(partition), known)
    work, at_once = None, planned_rows(settings.batch_size)
    if prompts.rows is not None:
        rows = prompts.rows * settings.samples_per_prompt
        work = generation(facts, rows, prompts.prompt, settings.max_new_tokens, at_once)
        at_once = min(rows, at_once)
    setting = f"generation.batch_size: {settings.batch_size}"
    guessed = prompts.guessed or settings.batch_size == "auto"
    cache = generated_rows(facts, at_once, prompts.longest, setting, guessed=guessed)
    return Cost(work, (weights(study, facts), cache), prompts.guessed)


def _reference_checkpoint(study: Study, partition: Partition, known: Known, facts: ModelFacts) -> Cost:
    train, validation = learning_amount(study, _learned(partition), known)
    work = _every_seed(study, training(study.training, facts, train, validation))
    peaks = [training_peak(study, facts, train)]
    if study.reference.optimum == "gradient_step":
        peaks.append((weights(study, facts), gradient_sums(facts), batch(study, facts, train)))
        if work is not None:
            work = None if train.rows is None else work + gradients(facts, train, train.rows)
    return Cost(work, largest_peak(peaks), train.guessed)


def _fisher_diagonal(study: Study, partition: Partition, known: Known, facts: ModelFacts) -> Cost:
    train, _ = learning_amount(study, _learned(partition), known)
    limits = [limit for limit in (train.rows, study.fisher.samples) if limit is not None]
    used = replace(train, rows=min(limits, default=None))
    work = None if used.rows is None else gradients(facts, used, used.rows)
    fisher = fp32_values("the Fisher diagonal in float32", facts.space(study))
    peak = (weights(study, facts), fisher, batch(study, facts, used))
    return Cost(work, peak, train.guessed)


def _confidence_terms(study: Study, partition: Partition, known: Known, facts: ModelFacts) -> Cost:
    corpus = corpus_amount(study, _forgotten(partition), known)
    work = None if corpus.rows is None else gradients(facts, corpus, corpus.rows)
    model, both = weights(study, facts), "the Fisher diagonal and the difference of base model and optimum"
    values = facts.space(study)
    if study.confidence_space == "weights":  # the difference is in factors, read off before the base is loaded
        fisher = held_for_terms(study, "the Fisher diagonal", values)
        return Cost(work, (model, fisher, batch(study, facts, corpus)), corpus.guessed)
    loading = (model, model_beside("the optimum", facts), held_for_terms(study, "their difference", values))
    scoring = (model, held_for_terms(study, both, values, copies=2), batch(study, facts, corpus))
    return Cost(work, largest_peak([loading, scoring]), corpus.guessed)


def _lwf_checkpoint(study: Study, partition: Partition, known: Known, facts: ModelFacts) -> Cost:
    train, validation = learning_amount(study, _learned(partition), known)
    corpus = corpus_amount(study, _forgotten(partition), known)
    work = training(study.training, facts, train, validation)
    if work is not None:
        work += unlearning(study.unlearning, study.training, facts, train, corpus)
    peak = training_peak(study, facts, train, corpus)
    return Cost(_every_seed(study, work), peak, train.guessed or corpus.guessed)


def _arm_checkpoint(study: Study, partition: Partition, known: Known, facts: ModelFacts) -> Cost:
    """As LWF, or as the reference where nothing is forgotten."""
    model = find(study, partition)
    train, validation = learning_amount(study, model.learning_task, known)
    work, corpus, own = training(study.training, facts, train, validation), None, study
    assert model.arm is not None
    settings = model.arm.unlearning_settings(study.unlearning)
    if settings is not None and model.forgetting_task is not None:
        corpus = corpus_amount(study, model.forgetting_task, known)
        own = study.model_copy(update={"unlearning": settings})
        if work is not None:
            work += unlearning(settings, study.training, facts, train, corpus)
    elif model.arm.follows_unlearning_interval and work is not None:
        work *= 1 + 1 / study.unlearning.interval
    peak = training_peak(own, facts, train, corpus)
    if model.arm.keeps_starting_weights:
        peak = (*peak, model_beside("the weights at the start", facts))
    return Cost(_every_seed(study, work), peak, train.guessed or (corpus is not None and corpus.guessed))


def _every_seed(study: Study, work: float | None) -> float | None:
    return None if work is None else len(study.seeds) * work


def _evaluation(study: Study, partition: Partition, known: Known, facts: ModelFacts) -> Cost:
    model, settings = find(study, partition), study.evaluation
    task, seeds = study.learning_tasks[model.learning_task], 1 if model.name == BASE else len(study.seeds)
    test = test_amount(study, model.learning_task, known)
    corpora = [corpus_amount(study, name, known) for name in _forgotten_by(study, model)]
    work, at_once = None, planned_rows(settings.batch_size)
    if test.rows is not None and all(corpus.rows is not None for corpus in corpora):
        work = _answers(study, facts, task, test) + forward(facts, test, test.rows)
        for corpus in corpora:
            examples, new_tokens = settings.response_examples, study.generation.max_new_tokens
            work += generation(facts, examples, corpus.prompt, new_tokens, at_once)
            work += forward(facts, corpus, corpus.rows or 0)
        for other in (task for tasks in utility_tasks(study).values() for task in tasks.values()):
            amount = other_test_amount(other)
            work += _answers(study, facts, other, amount) + forward(facts, amount, amount.rows or 0)
        work *= seeds
    longest = max(test.prompt + task.max_new_tokens, *(corpus.longest for corpus in corpora))
    rows = min(at_once, test.rows or at_once)
    losses = [batch(study, facts, amount, differentiated=False) for amount in (test, *corpora)]
    guessed = test.guessed or any(corpus.guessed for corpus in corpora)
    setting = f"evaluation.batch_size: {settings.batch_size}"
    answering = generated_rows(facts, rows, longest, setting, guessed=guessed or settings.batch_size == "auto")
    parts = (*losses, answering, model_beside("the base model", facts))
    return Cost(work, largest_peak([(weights(study, facts), part) for part in parts]), guessed)


def _answers(study: Study, facts: ModelFacts, task: TaskSettings, test: Amount) -> float:
    rows = test.rows or 0
    if task.scorer == "choice":
        choices = TYPICAL_CHOICES if task.choices_column is not None else len(task.choices)
        return choices * forward(facts, test, rows)
    return generation(facts, rows, test.prompt, task.max_new_tokens, planned_rows(study.evaluation.batch_size))


def _forgetting_probe(study: Study, partition: Partition, known: Known, facts: ModelFacts) -> Cost:
    model, settings = find(study, partition), study.probe
    assert settings is not None
    if facts.adapter is not None:  # probes train and round the merged weights, in float32
        facts = replace(facts, adapter=None, bytes_per_weight=4)
    corpora = [corpus_amount(study, name, known) for name in _forgotten_by(study, model)]
    looks = len(settings.quantization) + len(settings.prompt_forms) + settings.relearning_steps + 1
    work: float | None = 0.0
    for corpus in corpora:
        if corpus.rows is None or work is None:
            work = None
            continue
        chosen = study.confidence.selection_count or math.ceil((study.confidence.selection_ratio or 1) * corpus.rows)
        step = gradients(facts, corpus, settings.relearning_batch_size) + OPTIMIZER * facts.parameters
        work += looks * forward(facts, corpus, chosen) + settings.relearning_steps * step
    peaks = [training_peak(study, facts, corpus) for corpus in corpora]
    return Cost(_every_seed(study, work), largest_peak(peaks), any(corpus.guessed for corpus in corpora))


def _forgotten_by(study: Study, model: Compared) -> list[str]:
    """The forgetting tasks whose samples a model is measured on."""
    if model.forgetting_task is not None:
        return [model.forgetting_task]
    return [name for name in study.forgetting_names if name != model.learning_task]


def _eval_report(study: Study, partition: Partition, known: Known) -> Rows:
    rows = test_amount(study, _learned(partition), known).rows
    models = len(compared_in(study, partition))
    return [None if rows is None else rows * models * len(study.seeds)]


def _utility_data(study: Study, partition: Partition, known: Known) -> Rows:
    return [task.rows.test for tasks in utility_tasks(study).values() for task in tasks.values()]


def _learned(partition: Partition) -> str:
    assert partition.learning_task is not None
    return partition.learning_task


def _forgotten(partition: Partition) -> str:
    assert partition.forgetting_task is not None
    return partition.forgetting_task


_WITHOUT_MODEL: dict[str, Callable[[Study, Partition, Known], Rows]] = {
    "learning_data": _learning_data,
    "test_data": _test_data,
    "forgetting_prompts": _forgetting_prompts,
    "scored_forget_set": _scored_forget_set,
    "utility_data": _utility_data,
    "eval_report": _eval_report,
    "leaderboard": _leaderboard,
}
_WITH_MODEL: dict[str, Callable[[Study, Partition, Known, ModelFacts], Cost]] = {
    "base_model": _base_model,
    "control_base": _base_model,
    "self_generated_corpus": _self_generated_corpus,
    "reference_checkpoint": _reference_checkpoint,
    "fisher_diagonal": _fisher_diagonal,
    "confidence_terms": _confidence_terms,
    "lwf_checkpoint": _lwf_checkpoint,
    "arm_checkpoint": _arm_checkpoint,
    "evaluation": _evaluation,
    "forgetting_probe": _forgetting_probe,
}
