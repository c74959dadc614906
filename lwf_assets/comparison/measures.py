"""What is measured on a model: each measure's name, what it is, and which way is the better one."""

from __future__ import annotations

from dataclasses import dataclass

STEPS_TO = "steps_to_nll_"
"""Prefix of the measures "learning steps until the curve reaches this NLL"; the level follows it."""


@dataclass(frozen=True)
class Measure:
    """How a measure is called, what it is, and whether more of it is better; None where neither way is."""

    name: str
    hint: str
    higher_is_better: bool | None


MEASURES = {
    "accuracy": Measure("Accuracy", "share of test items answered right", True),
    "macro_f1": Measure("Macro F1", "unweighted mean of the F1 of each answer class", True),
    "exact_match_strict": Measure(
        "Exact match (strict)", "share of right answers in the form that was asked for", True
    ),
    "exact_match_flexible": Measure("Exact match (flexible)", "share of right answers in whatever form", True),
    "exact_match": Measure("Exact match", "share of test items answered in the words of the answer", True),
    "bleu": Measure("BLEU, by sentence", "mean over the test items, on a scale of 1 (sacrebleu)", True),
    "chrf": Measure("chrF2, by sentence", "mean over the test items, on a scale of 1 (sacrebleu)", True),
    "corpus_bleu": Measure("BLEU", "of the whole test set, on a scale of 1 (sacrebleu)", True),
    "corpus_chrf": Measure("chrF2", "of the whole test set, on a scale of 1 (sacrebleu)", True),
    "partial_credit": Measure("Partial credit", "the generator's own score, with part of a point for a part", True),
    "invalid": Measure("Invalid answers", "share of responses without an answer that can be read", False),
    "target_nll": Measure("NLL of the targets", "test set, nats per token", False),
    "learning_auc": Measure("Mean of the learning curve", "area under the curve by its length, nats per token", False),
    "untouched_accuracy": Measure("Accuracy, untouched tasks", "tasks neither learned nor forgotten", True),
    "untouched_nll": Measure("NLL, untouched tasks", "targets of tasks neither learned nor forgotten", False),
    "neutral_nll": Measure("NLL of neutral text", "text of no task, nats per token", False),
    "forgetting_task_accuracy": Measure("Accuracy, forgetting task", "its own test items", None),
    "forgetting_task_nll": Measure("NLL, forgetting task", "targets of its own test items, nats per token", None),
    "forgotten_nll": Measure(
        "NLL of the samples chosen", "self-generated, chosen for unlearning, nats per token", None
    ),
    "kept_nll": Measure("NLL of the samples not chosen", "self-generated, scored only, nats per token", None),
    "forgotten_memorised": Measure(
        "Memorised, samples chosen", "share of their tokens that are still the model's first choice", None
    ),
    "kept_memorised": Measure(
        "Memorised, samples not chosen", "share of their tokens that are still the model's first choice", None
    ),
    "distance": Measure("Weight distance from base", "L2 norm of the change of all weights", None),
    "relative_distance": Measure("Relative weight distance", "the same, as a share of the base's norm", None),
}


def measure_of(key: str) -> Measure:
    """The measure of a key; an unknown one under its key, without underscores and without a better direction."""
    if key in MEASURES:
        return MEASURES[key]
    if key.startswith(STEPS_TO):
        level = key.removeprefix(STEPS_TO)
        return Measure(f"Steps to NLL {level}", "learning steps until the curve first comes down to it", False)
    # Whether more of it is better cannot be read off its name: there is no verdict on it.
    return Measure(key.replace("_", " "), "", None)


def measure_name(key: str) -> str:
    """A measure's name for people."""
    return measure_of(key).name


def steps_to(level: float) -> str:
    """The key of the measure "steps to reach `level`"."""
    return f"{STEPS_TO}{level:g}"
