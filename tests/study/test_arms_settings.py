"""The arms of a study file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from study_texts import KINDS, VALUES, message, study_with, write

from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study
from lwf_assets.tasks.settings import FileSource

LWF_ARM = {"kind": "lwf"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("arms.npo", {"kind": "lfw"}, "`arms.npo.kind`: unknown kind 'lfw'; did you mean `lwf`?"),
        ("arms.npo", {}, f"`arms.npo.kind`: missing; give one of {', '.join(KINDS)}"),
        ("arms.npo", None, "`arms.npo`: must be a mapping of keys, but it is empty"),
        ("arms", ["npo"], "`arms`: must be a mapping of keys, got ['npo']"),
        (
            "arms.reference",
            {"kind": "bss"},
            "`arms.reference`: every study has a model of this name; choose another name for",
        ),
        ("arms.base", LWF_ARM, "`arms.base`: every study has a model of this name"),
        ("arms.lwf", LWF_ARM, "`arms.lwf`: every study has a model of this name"),
        ("arms.NPO", LWF_ARM, "`arms.NPO`: the name must begin with a small letter and have only small letters, digi"),
        ("arms.npo", {**LWF_ARM, "forgetting_tasks": ["tooth"]}, "`arms.npo.forgetting_tasks`: unknown name 'tooth';"),
        (
            "arms.l2_sp",
            {**LWF_ARM, "forgetting_tasks": ["mixed"]},
            "`arms.l2_sp.forgetting_tasks`: unknown name 'mixed'",
        ),
        ("arms.l2_sp", {"kind": "l2_sp", "learning_tasks": ["sum"]}, "`arms.l2_sp.learning_tasks`: unknown name 'sum'"),
        ("arms.bss", {"kind": "bss", "forgetting_tasks": ["teeth"]}, "`arms.bss.forgetting_tasks`: unknown key"),
        ("arms.npo", {**LWF_ARM, "intervall": 3}, "`arms.npo.intervall`: unknown key; known here: learning_tasks, "),
        (
            "arms.npo",
            {**LWF_ARM, "unlearning": {"intervall": 3}},
            "`arms.npo.unlearning.intervall`: unknown key; did you mean `interval`?",
        ),
        (
            "arms.npo",
            {**LWF_ARM, "unlearning": {"interval": 0}},
            "`arms.npo.unlearning.interval`: must be greater than 0, got 0",
        ),
        (
            "arms.npo",
            {**LWF_ARM, "unlearning": {"retain": {"kid": "kl"}}},
            "`arms.npo.unlearning.retain.kid`: unknown key; did you mean `kind`?",
        ),
        ("arms.npo", {**LWF_ARM, "unlearning": 3}, "`arms.npo.unlearning`: must be a mapping of keys, got 3"),
        (
            "arms.tokens",
            {"kind": "random_tokens", "confidence": {"end": "lowest"}},
            "`arms.tokens.confidence.end`: must be 'high', 'low' or 'random', got 'lowest'",
        ),
        (
            "arms.low",
            {**LWF_ARM, "confidence": {"selection_count": 2, "selection_ratio": 0.5}},
            "`arms.low.confidence`: give selection_ratio or selection_count, not both",
        ),
        (
            "arms.low",
            {**LWF_ARM, "confidence": {"loss_reduction": "sum"}},
            "`arms.low.confidence.loss_reduction`: all arms share the gradients; set it for the study",
        ),
        (
            "arms.other",
            {"kind": "other_base", "prior": "more"},
            "`arms.other.prior`: unknown name 'more'; the study defines none",
        ),
        ("arms.decay", {"kind": "weight_decay", "weight": 1}, "`arms.decay.weight`: must be less than 1, got 1"),
        ("model.prior", "more", "`model.prior`: unknown name 'more'; the study defines none"),
        ("priors", {"old": {"tasks": {}, "training": {"max_steps": 1}}}, "`priors.old.tasks`: must not be empty"),
        ("priors", {"old": {"tasks": {"sums": None}}}, "`priors.old.training`: missing; it must be given"),
        (
            "priors",
            {"old": {"tasks": {"sums": None}, "training": {"max_steps": 1}}},
            "`priors.old.tasks.sums.preset`: unknown preset 'sums'",
        ),
        ("probe.models", ["npo"], "`probe.models`: unknown name 'npo'; choose from reference, lwf"),
        ("probe.models", ["base"], "`probe.models`: unknown name 'base'"),
        ("probe.models", [], "`probe.models`: must not be empty"),
        ("probe.quantization", [16], "`probe.quantization.0`: must be 8 or 4, got 16"),
        ("probe.prompt_forms", ["Well?"], "`probe.prompt_forms`: 'Well?' does not show the prompt; write {prompt}"),
        (
            "evaluation.known_conflicts",
            ["tooth"],
            "`evaluation.known_conflicts`: unknown name 'tooth'; choose from teeth",
        ),
        ("evaluation.least_seeds", 1, "`evaluation.least_seeds`: must be greater than or equal to 2, got 1"),
        ("evaluation.learning_levels", [0.0], "`evaluation.learning_levels.0`: must be greater than 0, got 0.0"),
    ],
)
def test_mistakes_in_arms_priors_and_measures(key: str, value: Any, expected: str, tmp_path: Path) -> None:
    assert expected in message(study_with(tmp_path, key, value))


def test_every_mistake_in_an_arms_section_is_told(tmp_path: Path) -> None:
    arm = {"kind": "lwf", "unlearning": {"interval": -1, "beta": "hot"}}
    told = message(study_with(tmp_path, "arms.npo", arm))
    assert "`arms.npo.unlearning.interval`: must be greater than 0, got -1" in told
    assert "`arms.npo.unlearning.beta`: must be a number, got 'hot'" in told


def arm_of(tmp_path: Path, study: dict[str, Any], arm: dict[str, Any]) -> tuple[Study, Any]:
    loaded = load_study(write(tmp_path / "study.yaml", {**VALUES, **study, "arms": {"one": {"kind": "lwf", **arm}}}))
    return loaded, loaded.arms["one"]


def test_a_count_takes_the_place_of_a_ratio_and_the_other_way_round(tmp_path: Path) -> None:
    study, arm = arm_of(tmp_path, {}, {"confidence": {"selection_count": 3}})
    chosen = arm.confidence_settings(study.confidence)
    assert (chosen.selection_ratio, chosen.selection_count) == (None, 3)
    study, arm = arm_of(
        tmp_path, {"confidence": {"selection_count": 3, "end": "low"}}, {"confidence": {"selection_ratio": 0.1}}
    )
    chosen = arm.confidence_settings(study.confidence)
    assert (chosen.selection_ratio, chosen.selection_count, chosen.end) == (0.1, None, "low")
    study, arm = arm_of(tmp_path, {"confidence": {"selection_count": 3}}, {"confidence": {"alpha": 0.5}})
    chosen = arm.confidence_settings(study.confidence)
    assert (chosen.selection_count, chosen.alpha) == (3, 0.5)


def test_an_arm_inherits_key_by_key(tmp_path: Path) -> None:
    unlearning = {"interval": 3, "retain": {"kind": "kl", "weight": 0.5}}
    study, arm = arm_of(tmp_path, {"unlearning": unlearning}, {"unlearning": {"retain": {"weight": 2.0}}})
    merged = arm.unlearning_settings(study.unlearning)
    assert merged.interval == 3
    assert merged.retain is not None
    assert (merged.retain.kind, merged.retain.weight) == ("kl", 2.0)
    study, arm = arm_of(tmp_path, {"unlearning": unlearning}, {"unlearning": {"retain": None}})
    assert arm.unlearning_settings(study.unlearning).retain is None
    assert study.unlearning.retain is not None


def test_neutral_text_and_tasks_of_priors_are_found_beside_the_file_that_names_them(tmp_path: Path) -> None:
    task = {"source": {"kind": "file", "train": "old.jsonl"}}
    parent = {
        **VALUES,
        "evaluation": {"neutral_text": "neutral.jsonl", "untouched_tasks": {"leg_counting": None}},
        "priors": {"old": {"tasks": {"facts": task, "chain_sum": None}, "training": {"max_steps": 1}}},
    }
    write(tmp_path / "base/parent.yaml", parent)
    study = load_study(write(tmp_path / "own/child.yaml", "extends: ../base/parent.yaml\n"))
    assert study.evaluation.neutral_text == tmp_path / "base/neutral.jsonl"
    assert study.evaluation.untouched_tasks["leg_counting"].preset == "leg_counting"
    assert study.priors["old"].tasks["facts"].source == FileSource(train=tmp_path / "base/old.jsonl")
    assert study.priors["old"].tasks["chain_sum"].preset == "chain_sum"


def test_an_arm_that_holds_back_the_models_own_weights_does_not_go_with_adapters(tmp_path: Path) -> None:
    values = {**VALUES, "model": {**VALUES["model"], "adapter": {"kind": "lora"}}, "arms": {"pull": {"kind": "l2_sp"}}}
    told = message(write(tmp_path / "study.yaml", values))
    assert told.startswith("`arms.pull`: l2_sp holds back the model's own weights, which do not move where")
    others = {kind: {"kind": kind} for kind in KINDS if kind != "l2_sp"}
    others["lwf_too"] = others.pop("lwf")
    others["other_base"]["prior"] = "more"
    prior = {"tasks": {"old": {"preset": "chain_sum"}}, "training": {"max_steps": 1}}
    study = load_study(write(tmp_path / "study.yaml", {**values, "arms": others, "priors": {"more": prior}}))
    assert set(study.arms) == set(others)


def test_arms_share_the_space_of_confidence(tmp_path: Path) -> None:
    told = message(study_with(tmp_path, "arms.npo", {**LWF_ARM, "confidence": {"space": "adapter"}}))
    assert told.startswith("`arms.npo.confidence.space`: all arms share the gradients; set it for the study")
