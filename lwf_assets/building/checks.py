"""What must hold of an artifact before anything is made from it. Plain functions of files; Dagster runs them as
blocking checks."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lwf_assets.store.layout import (
    CORPUS,
    CUT_AT_LENGTH,
    EMPTY_RESPONSE,
    FISHER_DIAGONAL,
    FORGET_SET,
    LEARNING_CURVES,
    SEEDS,
    TEST_ROWS,
    TRAIN_ROWS,
    VALIDATION_ROWS,
)
from lwf_assets.store.tables import read_rows


@dataclass(frozen=True)
class CheckResult:
    """What a check found; `reason` is a sentence for people, also when it passed."""

    passed: bool
    reason: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One blocking check: of the artifact in the first folder, together with those it is checked with (by asset
    name)."""

    asset: str
    name: str
    description: str
    look: Callable[[Path, Mapping[str, Path]], CheckResult]


DEGENERATE_SHARE = 0.5
"""A corpus in which more than this share of the responses is empty, or the same text, says nothing about knowledge.
(Repeated responses are not a fault: a question may have few answers.)"""


def fisher_is_finite_and_non_negative(folder: Path, beside: Mapping[str, Path]) -> CheckResult:
    """Finite, non-negative, and not zero everywhere."""
    from safetensors import safe_open

    total, names = 0.0, 0
    with safe_open(folder / FISHER_DIAGONAL, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            low, high = (value.item() for value in file.get_tensor(name).aminmax())
            if not (math.isfinite(low) and math.isfinite(high)):
                return CheckResult(False, f"{name} holds values that are not finite", {"parameter": name})
            if low < 0:
                return CheckResult(
                    False, f"{name} holds {low}; a mean of squares cannot be negative", {"parameter": name}
                )
            total += high
            names += 1
    if total == 0:
        return CheckResult(False, "zero everywhere: no sample's loss depends on any parameter")
    return CheckResult(True, f"all {names} tensors are finite and non-negative", {"tensors": names})


def corpus_is_not_degenerate(folder: Path, beside: Mapping[str, Path]) -> CheckResult:
    """Not mostly empty, not mostly one and the same text; the share that was cut at the length limit is reported."""

    rows = read_rows(folder / CORPUS)
    if not rows:
        return CheckResult(False, "the corpus has no rows")
    texts = Counter(row["response"].strip() for row in rows if row["ended"] != EMPTY_RESPONSE)
    shares = {
        "share_empty": sum(row["ended"] == EMPTY_RESPONSE for row in rows) / len(rows),
        "share_same": max(texts.values(), default=0) / len(rows) if len(rows) > 1 else 0.0,
        "share_truncated": sum(row["ended"] == CUT_AT_LENGTH for row in rows) / len(rows),
    }
    words = {"share_empty": "empty", "share_same": "the same text", "share_truncated": "truncated"}
    for kind in ("share_empty", "share_same"):
        if shares[kind] > DEGENERATE_SHARE:
            summary = f"{shares[kind]:.0%} of the {len(rows)} responses are {words[kind]}"
            return CheckResult(False, f"{summary}; change the prompts or the generation settings", shares)
    summary = ", ".join(f"{share:.0%} {words[kind]}" for kind, share in shares.items())
    return CheckResult(True, f"{len(rows)} responses: {summary}", shares)


def prompts_do_not_overlap(folder: Path, beside: Mapping[str, Path]) -> CheckResult:
    """No test prompt is among the training or validation prompts."""

    learned = {
        _normalized(row["prompt"])
        for name in (TRAIN_ROWS, VALIDATION_ROWS)
        for row in read_rows(beside["learning_data"] / name)
    }
    shared = [row["id"] for row in read_rows(folder / TEST_ROWS) if _normalized(row["prompt"]) in learned]
    if shared:
        some = ", ".join(shared[:5])
        return CheckResult(
            False, f"{len(shared)} test prompts are also learned from, for example {some}", {"shared": shared[:50]}
        )
    return CheckResult(
        True, f"no test prompt is among the {len(learned)} prompts learned from", {"learned": len(learned)}
    )


def confidence_is_finite_with_spread(folder: Path, beside: Mapping[str, Path]) -> CheckResult:
    """Every FC finite, and not all the same: otherwise the selection would be arbitrary."""

    rows = read_rows(folder / FORGET_SET)
    values = [row["forgetting_confidence"] for row in rows]
    odd = [row["id"] for row in rows if not math.isfinite(row["forgetting_confidence"])]
    if odd:
        return CheckResult(
            False, f"FC of {len(odd)} samples is not finite, for example of {odd[0]}", {"samples": odd[:50]}
        )
    # The constant term is common to all and may dwarf the rest, so the spread is measured in the terms that differ.
    if len(rows) > 1 and len({(row["linear"], row["quadratic"]) for row in rows}) == 1:
        return CheckResult(False, f"FC is {values[0]} for all {len(rows)} samples: they cannot be told apart")
    return CheckResult(
        True, f"FC of {len(rows)} samples is finite and not all the same", {"spread": max(values) - min(values)}
    )


def weights_are_finite(folder: Path, beside: Mapping[str, Path]) -> CheckResult:
    """No NaN and no infinity in any weight of any model directory below the folder."""
    from safetensors import safe_open

    files = sorted(folder.rglob("*.safetensors"))
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                if not all(math.isfinite(value.item()) for value in file.get_tensor(name).aminmax()):
                    place = f"{path.relative_to(folder)}: {name}"
                    return CheckResult(False, f"{place} holds values that are not finite", {"parameter": place})
    if not files:
        return CheckResult(False, "the artifact holds no weights")
    return CheckResult(True, f"all weights in {len(files)} files are finite", {"files": len(files)})


def learning_loss_fell(folder: Path, beside: Mapping[str, Path]) -> CheckResult:
    """For every seed, the loss at the end of the fine-tune is below that at its start.

    Told by the validation NLL before and after; without validation rows by the first and last tenth of the loss curve.
    """
    curves = read_rows(folder / LEARNING_CURVES)
    drops = {}
    for entry in json.loads((folder / SEEDS).read_text()):
        losses = [row["loss"] for row in curves if row["seed"] == entry["seed"]]
        tenth = max(1, len(losses) // 10)
        before, after = entry["validation_nll_before"], entry["validation_nll_after"]
        if before is None:
            before, after = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
        drops[f"seed_{entry['seed']}"] = before - after
        if not after < before:
            reason = (
                f"seed {entry['seed']}: the learning loss went from {before:.4g} to {after:.4g}; it did not decrease"
            )
            return CheckResult(False, reason, drops)
    return CheckResult(True, f"the learning loss decreased by {min(drops.values()):.3g} nats or more", drops)


def _normalized(prompt: str) -> str:
    return " ".join(prompt.split()).casefold()


CHECKS: tuple[Check, ...] = (
    Check(
        "base_model",
        "base_weights_are_finite",
        "A weight that is no number would poison everything.",
        weights_are_finite,
    ),
    Check(
        "control_base",
        "control_base_weights_are_finite",
        "A control that was taught into no numbers controls nothing.",
        weights_are_finite,
    ),
    Check(
        "test_data",
        "no_train_test_overlap",
        "A test prompt that was learned from measures memory.",
        prompts_do_not_overlap,
    ),
    Check(
        "self_generated_corpus",
        "corpus_is_not_degenerate",
        "Empty responses, or the same one throughout, hold no knowledge to forget.",
        corpus_is_not_degenerate,
    ),
    Check(
        "reference_checkpoint",
        "reference_weights_are_finite",
        "A diverged fine-tune is no optimum.",
        weights_are_finite,
    ),
    Check(
        "reference_checkpoint",
        "reference_loss_fell",
        "A fine-tune that learned nothing is no optimum.",
        learning_loss_fell,
    ),
    Check(
        "fisher_diagonal",
        "fisher_is_finite_and_non_negative",
        "A mean of squares is finite and non-negative.",
        fisher_is_finite_and_non_negative,
    ),
    Check(
        "scored_forget_set",
        "confidence_is_finite_with_spread",
        "Without a spread the selection is arbitrary.",
        confidence_is_finite_with_spread,
    ),
    Check(
        "lwf_checkpoint",
        "lwf_weights_are_finite",
        "Unbounded ascent shows first in the weights.",
        weights_are_finite,
    ),
    Check(
        "lwf_checkpoint",
        "lwf_loss_fell",
        "Forgetting must not have undone the learning.",
        learning_loss_fell,
    ),
    Check(
        "arm_checkpoint",
        "arm_weights_are_finite",
        "A diverged fine-tune compares with nothing.",
        weights_are_finite,
    ),
    Check(
        "arm_checkpoint",
        "arm_loss_fell",
        "A fine-tune that learned nothing compares with nothing.",
        learning_loss_fell,
    ),
)


def checks_of(asset: str) -> tuple[Check, ...]:
    """The checks of one asset."""
    return tuple(check for check in CHECKS if check.asset == asset)
