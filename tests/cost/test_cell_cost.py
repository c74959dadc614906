"""What is foreseen: how work and memory follow from the study, and what was measured on a real model."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from header_models import write_header_model
from hypothesis import given, settings
from hypothesis import strategies as st
from places import QUICKSTART
from tiny import save_tiny_model, tiny_llama

from lwf_assets.cost.cell_cost import LIBRARIES, Cost, cost_of
from lwf_assets.cost.model_size import read_facts
from lwf_assets.graph.cells import Cell, cells
from lwf_assets.graph.table import ASSETS
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact
from lwf_assets.study.study import Study
from lwf_assets.tasks.rows import LearningRow, PromptRow, characters

PARAMETERS = 1000 * 64 + 4 * 64 * 1024
BOTH = Partition("teeth", "sums")
LEARNED, FORGOTTEN = Partition(learning_task="sums"), Partition(forgetting_task="teeth")
FISHER, REFERENCE = Cell("fisher_diagonal", LEARNED), Cell("reference_checkpoint", LEARNED)
LWF, TERMS, CORPUS = (
    Cell("lwf_checkpoint", BOTH),
    Cell("confidence_terms", BOTH),
    Cell("self_generated_corpus", FORGOTTEN),
)
EVALUATION = Cell("evaluation", Partition(learning_task="sums", model="lwf.teeth"))
HEAVY = [REFERENCE, FISHER, TERMS, LWF, CORPUS, EVALUATION]
REPORT = Cell("eval_report", BOTH)
ARMS: dict[str, Any] = {
    "same": {"kind": "lwf"},
    "often": {"kind": "lwf", "unlearning": {"interval": 2}},
    "longer": {"kind": "extra_steps"},
    "l2_sp": {"kind": "l2_sp"},
    "taught": {"kind": "other_base", "prior": "old"},
}
PRIORS = {"old": {"tasks": {"old": {"preset": "chain_sum", "rows": {"train": 50}}}, "training": {"max_steps": 40}}}


def arm(name: str) -> Cell:
    """The checkpoint of an arm on the one learning task."""
    key = f"{name}.teeth" if ARMS[name]["kind"] == "lwf" else name
    return Cell("arm_checkpoint", Partition(learning_task="sums", arm=key))


Change = dict[str, Any]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_header_model(tmp_path_factory.mktemp("headers"), [1000, 64], [4, 64, 1024])


@pytest.fixture
def cost(model: Path) -> Callable[..., Cost]:
    return lambda cell, built=None, **changes: foreseen(model, cell, changes, built or {})


def study_of(model: Path, changes: Change) -> Study:
    values: dict[str, Any] = {
        "name": "foreseen",
        "model": {"source": {"kind": "directory", "path": str(model)}},
        "learning_tasks": {"sums": {"preset": "chain_sum", "rows": {"train": 100, "validation": 10, "test": 20}}},
        "forgetting_tasks": {"teeth": {"preset": "chain_sum", "rows": {"train": 30, "validation": 1, "test": 1}}},
        "training": {"max_steps": 40, "learning_rate": 0.1, "autocast": "off"},
        "fisher": {"samples": None},
        "priors": PRIORS,
        "arms": ARMS,
        "probe": {},
    }
    for key, value in copy.deepcopy(changes).items():
        section, _, name = key.partition("__")
        if name:
            values.setdefault(section, {})[name] = value
        else:
            values[section] = value
    return Study.model_validate(values)


def foreseen(model: Path, cell: Cell, changes: Change, built: dict[Cell, dict[str, Any]]) -> Cost:
    """The cost of a cell beside artifacts with these summaries."""

    def known(needed: Cell) -> Artifact | None:
        if needed not in built:
            return None
        return Artifact(model, Manifest(needed.asset, needed.partition.key, "v", "r", "1", {}, (), (), built[needed]))

    return cost_of(study_of(model, changes), cell, known)


def work(cost: Cost) -> float:
    assert cost.work is not None
    return cost.work


def memory(cost: Cost) -> int:
    assert cost.memory is not None
    return cost.memory


def rows(train: int) -> dict[str, Any]:
    return {"sums": {"preset": "chain_sum", "rows": {"train": train, "validation": 10, "test": 20}}}


def data(prompt: float, target: float, longest: float, count: int = 100) -> dict[Cell, dict[str, Any]]:
    summary = {
        "train_rows": count,
        "validation_rows": 10,
        "prompt_characters": prompt,
        "target_characters": target,
        "longest_characters": longest,
    }
    return {Cell("learning_data", LEARNED): summary}


def test_the_size_of_a_model_is_read_from_its_files(model: Path) -> None:
    facts = read_facts(model, "bfloat16")
    assert facts is not None
    assert (facts.parameters, facts.weight_bytes) == (PARAMETERS, 2 * PARAMETERS)
    assert (facts.attention, facts.key_value, facts.context) == (64, 16, 512)


def test_a_saved_model_has_as_many_parameters_as_its_files_say(tmp_path: Path) -> None:
    for tied in (True, False):
        tiny = tiny_llama(tied=tied)
        facts = read_facts(save_tiny_model(tmp_path / str(tied), model=tiny), "float32")
        assert facts is not None
        assert facts.parameters == sum(parameter.numel() for parameter in tiny.parameters())
        assert facts.tied == tied


@pytest.mark.parametrize(
    "rubbish", [b"", b"weights", b"\xff" * 20, (5).to_bytes(8, "little") + b"[1,2]", (2).to_bytes(8, "little") + b"{}"]
)
def test_of_a_model_that_cannot_be_read_nothing_is_known(
    rubbish: bytes, tmp_path: Path, cost: Callable[..., Cost]
) -> None:
    folder = write_header_model(tmp_path)
    (folder / "model.safetensors").write_bytes(rubbish)
    assert read_facts(folder, "float32") is None
    for cell in [*HEAVY, arm("same"), Cell("forgetting_probe", EVALUATION.partition)]:
        assert foreseen(folder, cell, {}, {}) == Cost(None)


def test_a_model_in_older_files_is_measured_by_their_size(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"n_embd": 8, "n_layer": 2, "n_head": 2, "torch_dtype": "float16"})
    )
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(2000))
    facts = read_facts(tmp_path, "float32")
    assert facts is not None
    assert (facts.parameters, facts.weight_bytes, facts.layers, facts.intermediate) == (1000, 4000, 2, 32)


def test_a_config_in_other_words_leaves_memory_unknown_but_not_what_the_weights_need(tmp_path: Path) -> None:
    folder = write_header_model(tmp_path, [1000, 1000], config={"width": 3})
    cost = foreseen(folder, FISHER, {}, {})
    assert cost.memory is None
    assert cost.surely == 2 * 4 * 1_000_000


def test_every_cell_has_a_cost(model: Path) -> None:
    seen = set()
    for cell in cells(study_of(model, {})):
        cost = foreseen(model, cell, {}, {})
        assert cost.work, cell
        assert (cost.memory is None) == (not cost.peak), cell
        assert cost.memory is None or cost.surely + LIBRARIES <= cost.memory, cell
        seen.add(cell.asset)
    assert seen == {spec.name for spec in ASSETS}


@pytest.mark.parametrize(
    ("cell", "before", "after", "factor"),
    [
        (FISHER, {"learning_tasks": rows(100)}, {"learning_tasks": rows(200)}, 2),
        (FISHER, {"fisher__samples": 10}, {"fisher__samples": 20}, 2),
        (FISHER, {"fisher__samples": 1000}, {"fisher__samples": None}, 1),
        (REFERENCE, {"seeds": [0]}, {"seeds": [0, 1, 2]}, 3),
        (REFERENCE, {"learning_tasks": rows(100)}, {"learning_tasks": rows(200)}, 1),
        (CORPUS, {"generation__batch_size": 1}, {"generation__batch_size": 1, "generation__samples_per_prompt": 3}, 3),
        (TERMS, {}, {"generation__samples_per_prompt": 16}, 16),
        (LWF, {"unlearning__interval": 41}, {"unlearning__interval": 80}, 1),
    ],
)
def test_work_follows_the_study(
    cell: Cell, before: Change, after: Change, factor: float, cost: Callable[..., Cost]
) -> None:
    assert work(cost(cell, **after)) == pytest.approx(factor * work(cost(cell, **before)))


def test_training_work_grows_with_steps_and_epochs_and_unlearning(cost: Callable[..., Cost]) -> None:
    few, many = (work(cost(REFERENCE, training__max_steps=n)) for n in (40, 80))
    assert many / few == pytest.approx(2, rel=0.05)  # the validation does not grow
    epochs = {"training": {"epochs": 3, "batch_size": 4, "gradient_accumulation": 2, "learning_rate": 0.1}}
    steps = {"training": {"max_steps": 39, "batch_size": 4, "gradient_accumulation": 2, "learning_rate": 0.1}}
    assert work(cost(REFERENCE, **epochs)) == work(cost(REFERENCE, **steps))
    assert work(cost(LWF, unlearning__interval=41)) == work(cost(REFERENCE))
    assert work(cost(LWF, unlearning__interval=2)) > 1.3 * work(cost(LWF, unlearning__interval=10))


def test_the_weights_before_an_unlearning_step_are_held_once(cost: Callable[..., Cost]) -> None:
    def held(cell: Cell, **changes: Any) -> list[float | None]:
        return [part.size for part in cost(cell, **changes).peak if "before an unlearning step" in part.what]

    assert held(LWF) == held(arm("same")) == [4 * PARAMETERS]
    assert held(REFERENCE) == held(LWF, unlearning__interval=100) == []


def test_an_arm_costs_what_it_does(cost: Callable[..., Cost]) -> None:
    assert work(cost(arm("same"))) == work(cost(LWF))
    assert work(cost(arm("often"))) == work(cost(LWF, unlearning__interval=2)) > work(cost(LWF))
    assert work(cost(arm("taught"))) == work(cost(arm("l2_sp"))) == work(cost(REFERENCE))
    longer = work(cost(arm("longer"), unlearning__interval=10)) / work(cost(REFERENCE))
    assert longer == pytest.approx(1 + 1 / 10)
    assert cost(arm("same")).surely == cost(LWF).surely
    assert cost(LWF, unlearning__interval=100).surely < cost(arm("often"), unlearning__interval=100).surely
    assert cost(arm("l2_sp")).surely == cost(REFERENCE).surely + 4 * PARAMETERS
    assert cost(arm("taught")).surely == cost(REFERENCE).surely


def test_a_base_that_is_taught_costs_its_training(cost: Callable[..., Cost]) -> None:
    plain, taught = Cell("base_model", Partition()), Cell("control_base", Partition(prior="old"))
    trained = work(cost(REFERENCE, training__max_steps=40))
    assert 0.5 * trained < work(cost(taught)) - work(cost(plain)) < 2 * trained
    assert cost(plain, model__prior="old").work == cost(taught).work
    assert cost(plain, model__prior="old").surely == 4 * 4 * PARAMETERS


def test_an_evaluation_grows_with_its_items_and_seeds(cost: Callable[..., Cost]) -> None:
    assert work(cost(EVALUATION, seeds=[0, 1, 2])) == pytest.approx(3 * work(cost(EVALUATION)))
    base = Cell("evaluation", Partition(learning_task="sums", model="base"))
    assert work(cost(base, seeds=[0, 1, 2])) == work(cost(base))
    items = {"sums": {"preset": "chain_sum", "rows": {"train": 100, "validation": 10, "test": 200}}}
    assert work(cost(EVALUATION, learning_tasks=items)) > 2 * work(cost(EVALUATION))
    more = {"evaluation": {"untouched_tasks": {"more": {"preset": "chain_sum", "rows": {"test": 200}}}}}
    assert work(cost(EVALUATION, **more)) > 2 * work(cost(EVALUATION))


def test_a_probe_grows_with_its_looks_and_its_steps(cost: Callable[..., Cost]) -> None:
    cell = Cell("forgetting_probe", EVALUATION.partition)
    assert work(cost(cell, probe__relearning_steps=16)) > 1.2 * work(cost(cell))
    assert work(cost(cell, probe__quantization=[8])) < work(cost(cell))
    assert cost(cell).surely == cost(REFERENCE).surely


def test_a_backward_pass_is_twice_a_forward_pass(cost: Callable[..., Cost]) -> None:
    per_token = 2 * (PARAMETERS - 64_000)
    mean = 80 / 3.5 + 20 / 3.5 + 1
    attention, logits = 2 * 4 * 64 * mean, (20 / 3.5 + 1) * 2 * 64_000
    expected = 3 * 100 * (mean * (per_token + attention) + logits)
    assert work(cost(FISHER, data(80, 20, 120))) == pytest.approx(expected)


def test_fisher_holds_weights_its_result_and_a_batch(cost: Callable[..., Cost]) -> None:
    budget = cost(FISHER, model__token_budget=1000)
    parts = {part.what.split()[-1]: part for part in budget.peak}
    assert (parts["weights"].size, parts["float32"].size) == (4 * PARAMETERS, 4 * PARAMETERS)
    half = cost(FISHER, model__dtype="bfloat16", model__token_budget=1000)
    assert [part.size for part in half.peak][:2] == [2 * PARAMETERS, 4 * PARAMETERS]
    assert memory(budget) == LIBRARIES + round(sum(part.size or 0 for part in budget.peak))


def test_terms_hold_the_difference_too_and_lwf_a_second_optimizer(cost: Callable[..., Cost]) -> None:
    assert cost(TERMS).surely == 3 * 4 * PARAMETERS
    assert cost(REFERENCE).surely == 4 * 4 * PARAMETERS
    assert cost(LWF).surely == 6 * 4 * PARAMETERS
    assert cost(LWF, unlearning__optimizer="sgd").surely == 4 * 4 * PARAMETERS
    assert cost(LWF, unlearning__retain={"kind": "nll"}).surely == 6 * 4 * PARAMETERS
    assert cost(LWF, unlearning__retain={"kind": "kl"}).surely == 7 * 4 * PARAMETERS
    assert cost(LWF, unlearning__interval=100).surely == 4 * 4 * PARAMETERS


@settings(max_examples=50)
@given(budget=st.integers(1, 100_000), more=st.integers(1, 100_000), count=st.integers(1, 500))
def test_memory_never_falls_with_the_budget_and_is_bound_by_it(budget: int, more: int, count: int, model: Path) -> None:
    small, large = (
        foreseen(model, FISHER, {"learning_tasks": rows(count), "model__token_budget": b}, {})
        for b in (budget, budget + more)
    )
    assert memory(small) <= memory(large)
    longest = 80
    assert memory(large) - LIBRARIES - 8 * PARAMETERS <= max(budget + more, longest) * 4 * (
        4 * (4 * 256 + 9 * 64 + 5 * 64 + 2 * 16) + 4000
    )


@pytest.mark.parametrize("cell", [REFERENCE, LWF])
def test_training_memory_grows_with_its_batch(cell: Cell, cost: Callable[..., Cost]) -> None:
    sizes = [memory(cost(cell, training__batch_size=n)) for n in (32, 64, 128)]
    assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]))
    longer = data(80, 20, 800)
    assert memory(cost(cell, longer)) > memory(cost(cell, data(80, 20, 120)))


def test_what_is_needed_for_sure_leaves_room_for_shorter_rows(cost: Callable[..., Cost]) -> None:
    guessed, measured = cost(FISHER), cost(FISHER, data(80, 20, 120))
    assert guessed.guessed
    assert not measured.guessed
    assert guessed.surely == 8 * PARAMETERS
    activations = memory(measured) - LIBRARIES - 8 * PARAMETERS
    assert measured.surely == pytest.approx(8 * PARAMETERS + activations / 2, abs=1)


def test_lengths_of_a_built_corpus_are_taken_as_they_are(cost: Callable[..., Cost]) -> None:
    summary = {"responses": 10, "tokens": 100, "prompt_tokens": 200, "longest": 50}
    built = {Cell("self_generated_corpus", FORGOTTEN): summary}
    ten = cost(TERMS, built)
    assert not ten.guessed
    summary = {"responses": 20, "tokens": 200, "prompt_tokens": 400, "longest": 50}
    assert work(cost(TERMS, {Cell("self_generated_corpus", FORGOTTEN): summary})) == pytest.approx(2 * work(ten))


def test_rows_without_number_leave_the_work_unknown_but_not_the_weights(tmp_path: Path, model: Path) -> None:
    source = {"kind": "file", "train": str(tmp_path / "rows.jsonl")}
    changes = {"learning_tasks": {"sums": {"source": source}}, "training": {"epochs": 1, "learning_rate": 0.1}}
    for cell in (REFERENCE, FISHER, LWF, arm("same"), EVALUATION, REPORT, Cell("learning_data", LEARNED)):
        assert foreseen(model, cell, changes, {}).work is None
    assert foreseen(model, FISHER, changes, {}).surely == 8 * PARAMETERS


def test_a_manifest_of_data_tells_lengths_in_characters() -> None:
    learned = [LearningRow("1", "four", "to"), LearningRow("2", "twelve chars", "a")]
    assert characters(learned) == {"prompt_characters": 8.0, "target_characters": 1.5, "longest_characters": 13}
    assert characters([PromptRow("1", "four", "t")]) == {"prompt_characters": 4.0, "longest_characters": 4}


MEASURE = """
import sys
from pathlib import Path
from lwf_assets.cost.cell_cost import cost_of
from lwf_assets.store.home import Home
from lwf_assets.graph.cells import Cell
from lwf_assets.building.materialize import materialize
from lwf_assets.store.partition import Partition
from lwf_assets.study.file import load_study

study, home = load_study(Path(sys.argv[1])), Home(Path(sys.argv[2]))
learned = Partition(learning_task="chain_sum")
cell = Cell(sys.argv[3], learned)
foreseen = cost_of(study, cell, lambda needed: home.store.current(needed.asset, needed.partition))
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
materialize(study, home.store, cell)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(foreseen.memory, foreseen.surely, int(peak.split()[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read as Linux tells it")
def test_foreseen_memory_is_what_a_real_model_needs(tmp_path: Path) -> None:
    """Each in a process of its own: memory that a process gave back once is not told apart from what it holds."""
    import yaml

    from lwf_assets.building.materialize import materialize
    from lwf_assets.store.home import Home
    from lwf_assets.study.file import load_study

    path = tmp_path / "study.yaml"
    smaller = {"training": {"max_steps": 2}, "learning_tasks": {"chain_sum": {"rows": {"validation": 2, "test": 2}}}}
    path.write_text(yaml.safe_dump({"extends": str(QUICKSTART), "name": "measured", **smaller}))
    study, home = load_study(path), Home(tmp_path / "home")
    for cell in (Cell("base_model", Partition()), Cell("learning_data", Partition(learning_task="chain_sum"))):
        materialize(study, home.store, cell)
    for asset in ("reference_checkpoint", "fisher_diagonal"):
        command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(path), str(home.root), asset]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told, surely, peak = map(int, done.stdout.split())
        assert peak / 1.3 < told < peak * 1.3, asset
        assert surely < peak, asset
