"""The blocking checks, on artifacts written by hand: each lets the good ones through and names what is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lwf_assets.building.checks import (
    CHECKS,
    DEGENERATE_SHARE,
    CheckResult,
    checks_of,
    confidence_is_finite_with_spread,
    corpus_is_not_degenerate,
    fisher_is_finite_and_non_negative,
    learning_loss_fell,
    prompts_do_not_overlap,
    weights_are_finite,
)
from lwf_assets.graph.table import ASSET
from lwf_assets.store.layout import (
    CORPUS,
    CUT_AT_LENGTH,
    EMPTY_RESPONSE,
    ENDED_BY_MODEL,
    FISHER_DIAGONAL,
    FORGET_SET,
    LEARNING_CURVES,
    SEEDS,
    TEST_ROWS,
    TRAIN_ROWS,
    VALIDATION_ROWS,
)
from lwf_assets.store.tables import write_rows

NAN, INF = math.nan, math.inf


def fisher(folder: Path, **tensors: list[float]) -> CheckResult:
    save_file({name: torch.tensor(values) for name, values in tensors.items()}, folder / FISHER_DIAGONAL)
    return fisher_is_finite_and_non_negative(folder, {})


def test_a_good_fisher_diagonal(tmp_path: Path) -> None:
    verdict = fisher(tmp_path, a=[0.0, 1e-30, 3.0], b=[0.0, 0.0])
    assert verdict == CheckResult(True, "all 2 tensors are finite and non-negative", {"tensors": 2})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ([0.0, NAN], "b holds values that are not finite"),
        ([INF, 1.0], "b holds values that are not finite"),
        ([-INF, 1.0], "b holds values that are not finite"),
        ([1.0, -0.5], "b holds -0.5; a mean of squares cannot be negative"),
    ],
)
def test_a_bad_fisher_diagonal_names_the_parameter(bad: list[float], reason: str, tmp_path: Path) -> None:
    assert fisher(tmp_path, a=[1.0], b=bad) == CheckResult(False, reason, {"parameter": "b"})


def test_a_fisher_diagonal_that_is_zero_everywhere(tmp_path: Path) -> None:
    verdict = fisher(tmp_path, a=[0.0, -0.0], b=[0.0])
    assert not verdict.passed
    assert "zero everywhere" in verdict.reason


@given(st.lists(st.floats(width=32), min_size=1, max_size=5))
def test_a_fisher_diagonal_passes_just_when_every_value_may_be_a_mean_of_squares(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    good = all(math.isfinite(value) and value >= 0 for value in values) and any(value > 0 for value in values)
    assert fisher(tmp_path_factory.getbasetemp(), a=values).passed == good


def corpus(folder: Path, *rows: tuple[str, str]) -> CheckResult:
    table = [{"id": str(n), "response": response, "ended": ended} for n, (response, ended) in enumerate(rows)]
    write_rows(folder / CORPUS, table)
    return corpus_is_not_degenerate(folder, {})


def test_a_good_corpus_tells_its_shares(tmp_path: Path) -> None:
    verdict = corpus(tmp_path, ("a", ENDED_BY_MODEL), ("b", ENDED_BY_MODEL), ("c", CUT_AT_LENGTH), ("", EMPTY_RESPONSE))
    assert verdict.passed
    assert verdict.reason == "4 responses: 25% empty, 25% the same text, 25% truncated"
    assert verdict.figures == {"share_empty": 0.25, "share_same": 0.25, "share_truncated": 0.25}


def test_a_corpus_of_nothing_but_cut_responses_is_good(tmp_path: Path) -> None:
    assert corpus(tmp_path, *((text, CUT_AT_LENGTH) for text in "abcd")).passed


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (
            [(" ", EMPTY_RESPONSE), ("", EMPTY_RESPONSE), ("", EMPTY_RESPONSE), ("a", ENDED_BY_MODEL)],
            "75% of the 4 responses are empty; change the prompts or the gen",
        ),
        (
            [("a", ENDED_BY_MODEL)] * 4,
            "100% of the 4 responses are the same text; change the prompts or the generation settings",
        ),
        (
            [
                (" a", ENDED_BY_MODEL),
                ("a ", CUT_AT_LENGTH),
                ("a\n", ENDED_BY_MODEL),
                ("b", ENDED_BY_MODEL),
                ("a", ENDED_BY_MODEL),
            ],
            "80% of the 5 responses are the same text",
        ),
    ],
)
def test_a_degenerate_corpus(rows: list[tuple[str, str]], reason: str, tmp_path: Path) -> None:
    verdict = corpus(tmp_path, *rows)
    assert not verdict.passed
    assert reason in verdict.reason


def test_a_corpus_at_the_limit_passes(tmp_path: Path) -> None:
    assert DEGENERATE_SHARE == 0.5
    assert corpus(tmp_path, ("", EMPTY_RESPONSE), ("a", ENDED_BY_MODEL)).passed
    assert corpus(
        tmp_path, ("a", ENDED_BY_MODEL), ("a", ENDED_BY_MODEL), ("b", ENDED_BY_MODEL), ("c", ENDED_BY_MODEL)
    ).passed
    assert corpus(tmp_path, *((text, ENDED_BY_MODEL) for text in "ab" * 40)).passed  # a question may have few answers
    assert corpus(tmp_path, ("a", ENDED_BY_MODEL)).passed


def test_a_corpus_without_rows(tmp_path: Path) -> None:
    import pyarrow as pa

    write_rows(tmp_path / CORPUS, [], pa.schema([("response", pa.string()), ("ended", pa.string())]))
    assert corpus_is_not_degenerate(tmp_path, {}) == CheckResult(False, "the corpus has no rows")


def overlap(folder: Path, train: list[str], validation: list[str], test: list[str]) -> CheckResult:
    def rows(prompts: list[str]) -> list[dict[str, str]]:
        return [{"id": f"row-{number}", "prompt": prompt} for number, prompt in enumerate(prompts)]

    write_rows(folder / TRAIN_ROWS, rows(train))
    write_rows(folder / VALIDATION_ROWS, rows(validation))
    write_rows(folder / TEST_ROWS, rows(test))
    return prompts_do_not_overlap(folder, {"learning_data": folder})


def test_prompts_of_their_own(tmp_path: Path) -> None:
    verdict = overlap(tmp_path, ["what is 1 + 1?", "what is 1 + 2?"], ["what is 2 + 2?"], ["what is 2 + 1?"])
    assert verdict == CheckResult(True, "no test prompt is among the 3 prompts learned from", {"learned": 3})


@pytest.mark.parametrize(
    "prompt", ["What is 1 + 1?", "what is 1 + 1? ", "\twhat  is\n1 + 1?", "WHAT IS 1 + 1?", "what\u00a0is 1 + 1?"]
)
@pytest.mark.parametrize("where", ["train", "validation"])
def test_a_test_prompt_that_is_learned_from_is_found_whatever_its_case_and_space(
    where: str, prompt: str, tmp_path: Path
) -> None:
    learned = {"train": ["a"], "validation": ["b"], where: ["c", "what is 1 + 1?"]}
    verdict = overlap(tmp_path, **learned, test=["d", prompt])
    assert not verdict.passed
    assert verdict.reason == "1 test prompts are also learned from, for example row-1"
    assert verdict.figures == {"shared": ["row-1"]}


def test_case_is_folded_as_other_languages_need_it(tmp_path: Path) -> None:
    assert not overlap(tmp_path, ["STRASSE"], ["b"], ["Straße"]).passed


def test_five_shared_prompts_are_named_and_fifty_kept(tmp_path: Path) -> None:
    prompts = [str(number) for number in range(60)]
    verdict = overlap(tmp_path, prompts, ["x"], prompts)
    assert verdict.reason.startswith("60 test prompts")
    assert verdict.reason.endswith("row-0, row-1, row-2, row-3, row-4")
    assert len(verdict.figures["shared"]) == 50


def confidence(folder: Path, *terms: tuple[float, float, float]) -> CheckResult:
    rows = [
        {"id": f"s{number}", "forgetting_confidence": fc, "linear": linear, "quadratic": quadratic}
        for number, (fc, linear, quadratic) in enumerate(terms)
    ]
    write_rows(folder / FORGET_SET, rows)
    return confidence_is_finite_with_spread(folder, {})


def test_confidence_that_tells_samples_apart(tmp_path: Path) -> None:
    verdict = confidence(tmp_path, (1.0, 0.1, 0.2), (3.5, 0.2, 0.2))
    assert verdict.passed
    assert verdict.figures == {"spread": 2.5}


def test_a_spread_that_the_constant_hides_is_a_spread(tmp_path: Path) -> None:
    assert confidence(tmp_path, (1e20, 0.1, 0.2), (1e20, 0.2, 0.2)).passed


def test_one_sample_alone_passes(tmp_path: Path) -> None:
    assert confidence(tmp_path, (1.0, 0.1, 0.2)).passed


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_confidence_that_is_no_number_names_the_sample(bad: float, tmp_path: Path) -> None:
    verdict = confidence(tmp_path, (1.0, 0.1, 0.2), (bad, 0.2, 0.2), (bad, 0.3, 0.2))
    assert verdict == CheckResult(False, "FC of 2 samples is not finite, for example of s1", {"samples": ["s1", "s2"]})


def test_confidence_without_a_spread(tmp_path: Path) -> None:
    verdict = confidence(tmp_path, *[(0.25, 0.1, 0.2)] * 3)
    assert verdict == CheckResult(False, "FC is 0.25 for all 3 samples: they cannot be told apart")


def test_finite_weights(tmp_path: Path) -> None:
    for name in ("seed-0", "seed-1"):
        (tmp_path / name).mkdir()
        save_file({"w": torch.ones(3)}, tmp_path / name / "model.safetensors")
    assert weights_are_finite(tmp_path, {}) == CheckResult(True, "all weights in 2 files are finite", {"files": 2})


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_that_is_no_number_is_named_with_its_file(bad: float, dtype: torch.dtype, tmp_path: Path) -> None:
    (tmp_path / "seed-1").mkdir()
    save_file({"w": torch.ones(3)}, tmp_path / "model.safetensors")
    tensors = {"a": torch.ones(3), "layers.0.q": torch.tensor([1.0, bad]).to(dtype)}
    save_file(tensors, tmp_path / "seed-1" / "model.safetensors")
    verdict = weights_are_finite(tmp_path, {})
    assert not verdict.passed
    assert verdict.reason == "seed-1/model.safetensors: layers.0.q holds values that are not finite"


def test_a_checkpoint_without_weights(tmp_path: Path) -> None:
    assert weights_are_finite(tmp_path, {}) == CheckResult(False, "the artifact holds no weights")


def fine_tune(
    folder: Path, curves: dict[int, list[float]], validation: dict[int, tuple[float | None, float | None]]
) -> CheckResult:
    points = [
        {"seed": seed, "step": n, "loss": loss} for seed, losses in curves.items() for n, loss in enumerate(losses)
    ]
    write_rows(folder / LEARNING_CURVES, points)
    outcomes: list[dict[str, Any]] = [
        {"seed": seed, "validation_nll_before": before, "validation_nll_after": after}
        for seed, (before, after) in validation.items()
    ]
    (folder / SEEDS).write_text(json.dumps(outcomes))
    return learning_loss_fell(folder, {})


def test_the_validation_loss_decides_where_there_is_one(tmp_path: Path) -> None:
    verdict = fine_tune(tmp_path, {0: [1.0, 2.0]}, {0: (3.0, 2.5)})
    assert verdict == CheckResult(True, "the learning loss decreased by 0.5 nats or more", {"seed_0": 0.5})
    verdict = fine_tune(tmp_path, {0: [2.0, 1.0]}, {0: (3.0, 3.25)})
    assert not verdict.passed
    assert verdict.reason == "seed 0: the learning loss went from 3 to 3.25; it did not decrease"


def test_without_validation_rows_the_ends_of_the_curve_decide(tmp_path: Path) -> None:
    noisy = [2.0, 4.0, *[9.0] * 16, 1.0, 2.0]
    assert fine_tune(tmp_path, {0: noisy}, {0: (None, None)}).figures == {"seed_0": 1.5}
    assert not fine_tune(tmp_path, {0: noisy[::-1]}, {0: (None, None)}).passed
    assert not fine_tune(tmp_path, {0: [2.0]}, {0: (None, None)}).passed


@pytest.mark.parametrize("after", [2.0, NAN, INF])
def test_a_loss_that_stood_still_or_is_no_number_did_not_fall(after: float, tmp_path: Path) -> None:
    assert not fine_tune(tmp_path, {0: [2.0, 1.0]}, {0: (2.0, after)}).passed
    assert not fine_tune(tmp_path, {0: [2.0, after]}, {0: (None, None)}).passed


def test_one_seed_of_several_that_did_not_learn_is_named(tmp_path: Path) -> None:
    curves = {0: [2.0, 1.0], 7: [2.0, 1.0]}
    verdict = fine_tune(tmp_path, curves, {0: (3.0, 1.0), 7: (3.0, 3.5)})
    assert not verdict.passed
    assert verdict.reason.startswith("seed 7: ")
    assert fine_tune(tmp_path, curves, {0: (3.0, 1.0), 7: (3.0, 2.5)}).reason.startswith(
        "the learning loss decreased by 0.5"
    )


def test_every_check_belongs_to_an_asset_and_every_trained_model_is_checked() -> None:
    assert {check.asset for check in CHECKS} <= set(ASSET)
    for asset in ("reference_checkpoint", "lwf_checkpoint", "arm_checkpoint"):
        assert {check.look for check in checks_of(asset)} == {weights_are_finite, learning_loss_fell}
    for asset in ("base_model", "control_base"):
        assert {check.look for check in checks_of(asset)} == {weights_are_finite}
    assert checks_of("leaderboard") == ()
