"""A cell asks for what study and estimate say it needs, and is refused in one line where no node has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_study_values, write_study

from dagster_project.cluster.machine_needs import Needs, Node, needs_of_machine, problem_of_size
from lwf_assets.cost.cell_cost import LIBRARIES
from lwf_assets.cost.disk_space import DiskSpace
from lwf_assets.graph.cells import Cell, cells
from lwf_assets.planning.forecast import Foreseen
from lwf_assets.planning.plan import Action, Step
from lwf_assets.store.partition import Partition
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study

GB = 1_000_000_000


@pytest.fixture
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("needs")
    return load_study(write_study(folder, {**tiny_study_values(folder), "compute": {"processes": 2}}))


def foreseen(memory: int | None) -> Foreseen:
    return Foreseen(None, memory, DiskSpace(0, 0), 0, None, False)


def step(study: Study, asset: str, action: Action = Action.MAKE) -> Step:
    return Step(next(cell for cell in cells(study) if cell.asset == asset), action)


def test_what_computes_with_a_model_has_a_gpu_for_each_process_or_its_share_of_cpus(study: Study) -> None:
    training = step(study, "lwf_checkpoint")
    assert needs_of_machine(study, training, foreseen(30 * GB), on_gpus=True) == Needs(2, 2, 2 * LIBRARIES)
    assert needs_of_machine(study, training, foreseen(3 * GB), on_gpus=False) == Needs(2, 0, 6 * GB)
    assert needs_of_machine(study, training, foreseen(3 * GB), on_gpus=False, threads=4) == Needs(8, 0, 6 * GB)
    assert needs_of_machine(study, training, None, on_gpus=False) == Needs(2, 0, 2 * LIBRARIES)


@pytest.mark.parametrize("asset", ["learning_data", "scored_forget_set", "eval_report", "base_model"])
def test_what_computes_with_none_has_one_cpu(study: Study, asset: str) -> None:
    assert needs_of_machine(study, step(study, asset), foreseen(None), on_gpus=True, threads=4) == Needs(
        1, 0, LIBRARIES
    )


def test_an_import_has_the_memory_of_its_model(study: Study) -> None:
    imported = step(study, "base_model")
    assert needs_of_machine(study, imported, foreseen(16 * GB), on_gpus=True) == Needs(1, 0, 16 * GB)


@pytest.mark.parametrize("action", [Action.TAKE, Action.CHECK])
def test_what_is_there_already_asks_for_no_gpu(study: Study, action: Action) -> None:
    assert needs_of_machine(study, step(study, "lwf_checkpoint", action), None, on_gpus=True) == Needs(1, 0, LIBRARIES)


def test_vllm_has_processes_of_its_own(study: Study) -> None:
    generation = study.generation.model_copy(update={"engine": "vllm"})
    drawn = study.model_copy(update={"generation": generation})
    corpus = step(study, "self_generated_corpus")
    assert needs_of_machine(drawn, corpus, None, on_gpus=True) == Needs(1, 1, LIBRARIES)
    assert needs_of_machine(study, corpus, None, on_gpus=True) == Needs(2, 2, 2 * LIBRARIES)


def node(name: str, cpus: float, gpus: float, memory: float) -> Node:
    return Node(name * 8, name, cpus, gpus, memory)


NODES = (node("small", 4, 0, 8 * GB), node("card", 8, 1, 64 * GB))


@pytest.mark.parametrize(
    ("needs", "remedy"),
    [
        (Needs(2, 2, GB), "more GPUs"),
        (Needs(9, 1, GB), "more CPUs"),
        (Needs(1, 0, 65 * GB), "more memory"),
    ],
)
def test_what_no_node_has_is_said_in_one_line_with_what_the_largest_has(needs: Needs, remedy: str) -> None:
    problem = problem_of_size(Cell("leaderboard", Partition()), needs, NODES)
    assert problem is not None
    assert "\n" not in problem
    assert problem.startswith(f"leaderboard needs {needs}")
    assert "the largest, card, has 1 GPU, 8 CPUs and 64.0 GB of memory" in problem
    assert remedy in problem


sizes = st.integers(0, 9)


@given(st.tuples(sizes, sizes, sizes), st.lists(st.tuples(sizes, sizes, sizes), min_size=1, max_size=4))
def test_a_cell_is_refused_if_no_single_node_has_all_of_it(
    needs: tuple[int, int, int], have: list[tuple[int, int, int]]
) -> None:
    nodes = [node(f"n{index}", *size) for index, size in enumerate(have)]
    fits = any(all(n <= h for n, h in zip(needs, size, strict=True)) for size in have)
    problem = problem_of_size(Cell("leaderboard", Partition()), Needs(*needs), nodes)
    assert (problem is None) == fits
