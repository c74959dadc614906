"""Generated tasks: the same rows each time, no row in two splits, and splits that do not move one another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwf_assets.errors import LwfError
from lwf_assets.tasks import Task, TaskSettings, score
from lwf_assets.tasks.presets import PRESETS

GENERATED = [name for name, preset in PRESETS.items() if preset["source"]["kind"] == "reasoning_gym"]

# What seed 0 gave first. If this changes, every study made of generated tasks changes with it.
GOLDEN = [
    ("Question: State the final answer to the following arithmetic problem: 96 - 91 - 85 =\nAnswer:", "-80"),
    ("Question: State the final answer to the following arithmetic problem: 0 + 8 =\nAnswer:", "8"),
]


def build(preset: str = "chain_sum", *, train: int = 30, validation: int = 5, test: int = 8, **source: Any) -> Task:
    rows = {"train": train, "validation": validation, "test": test}
    return Task(preset, TaskSettings.model_validate({"preset": preset, "source": source, "rows": rows}))


@pytest.mark.parametrize("name", GENERATED)
def test_every_preset_generates_and_scores_its_own_answers(name: str) -> None:
    task = build(name, train=60, validation=10, test=12)
    train, validation = task.learning_rows()
    test, prompts = task.test_rows(), task.prompt_rows()
    assert [len(train), len(validation), len(test), len(prompts)] == [60, 10, 12, 60]
    everything = [row.prompt for row in [*train, *validation]] + [row.prompt for row in test]
    assert len(set(everything)) == len(everything)
    assert [row.prompt for row in prompts] == [row.prompt for row in train]
    assert train[0].prompt.startswith("Question: ")
    assert train[0].prompt.endswith("\nAnswer:")
    for row in test:
        assert score("reasoning_gym", f" {row.target}\nQuestion: and now?", row).correct == 1.0


@pytest.mark.parametrize("name", GENERATED)
def test_the_presets_own_sizes_can_be_had(name: str) -> None:
    task = Task(name, TaskSettings.model_validate({"preset": name}))
    train, validation = task.learning_rows()
    assert (len(train), len(validation), len(task.test_rows())) == (2000, 200, 200)


def test_golden_rows() -> None:
    train, _ = build(train=2).learning_rows()
    assert [row.id for row in train] == ["train-0", "train-1"]
    assert [(row.prompt, row.target) for row in train] == GOLDEN


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31 - 1),
    train=st.integers(1, 60),
    growth=st.integers(1, 60),
    test=st.integers(1, 20),
)
def test_splits_are_disjoint_and_grow_without_moving(seed: int, train: int, growth: int, test: int) -> None:
    small, large = build(seed=seed, train=train, test=test), build(seed=seed, train=train + growth, test=test)
    assert small.test_rows() == large.test_rows()
    (few, watched), (many, watched_again) = small.learning_rows(), large.learning_rows()
    assert many[: len(few)] == few
    assert watched == watched_again
    prompts = [row.prompt for row in [*many, *watched]] + [row.prompt for row in large.test_rows()]
    assert len(set(prompts)) == len(prompts)


def test_another_seed_gives_other_rows() -> None:
    assert build(seed=1).test_rows() != build(seed=2).test_rows()


def test_too_few_items_says_which_generator_and_how_many() -> None:
    task = build("chain_sum", test=200, parameters={"min_terms": 2, "max_terms": 2, "max_digits": 1})
    with pytest.raises(LwfError, match=r"generator chain_sum: only \d+ different test items .* rows.test asks for 200"):
        task.test_rows()


def test_unknown_generator_and_parameters() -> None:
    def generated(generator: str, parameters: dict[str, Any]) -> Task:
        source = {"kind": "reasoning_gym", "generator": generator, "parameters": parameters}
        rows = {"train": 1, "validation": 1, "test": 1}
        return Task("sums", TaskSettings.model_validate({"source": source, "rows": rows}))

    with pytest.raises(LwfError, match=r"task sums: source.generator: .*no generator 'chainsum'.*: chain_sum"):
        generated("chainsum", {}).test_rows()
    with pytest.raises(LwfError, match=r"source.parameters.max_term: .*has: allow_negation, max_digits, max_terms"):
        generated("chain_sum", {"max_term": 3}).test_rows()
    with pytest.raises(LwfError, match=r"source.parameters: .*chain_sum refuses .*max_terms must be >= min_terms"):
        generated("chain_sum", {"max_terms": 1}).test_rows()
    with pytest.raises(LwfError, match=r"test item 0: the scorer 'reasoning_gym' does not accept the row's own answer"):
        generated("arc_agi", {}).test_rows()
    # A generator without answers can be forgotten with, and with nothing else.
    assert len(generated("propositional_logic", {}).prompt_rows()) == 1
    with pytest.raises(LwfError, match=r"propositional_logic, .*no target: column 'answer' is empty"):
        generated("propositional_logic", {}).learning_rows()


def test_the_whole_item_goes_to_its_scorer() -> None:
    data = json.loads(build().test_rows()[0].scorer_data)
    assert data["generator"] == "chain_sum"
    assert data["parameters"] == {"max_terms": 3, "max_digits": 2}
    assert data["entry"]["metadata"]["source_dataset"] == "chain_sum"
    assert data["stop"] == ["\nQuestion:"]
