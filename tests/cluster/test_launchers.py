"""Dagster's launchers are told what each run needs, in their own words; its default one is told nothing."""

from __future__ import annotations

import inspect
import json
from types import SimpleNamespace

import pytest
from tiny import tiny_study_values, write_study

from dagster_project.cluster import launchers
from dagster_project.cluster.launchers import CELLS_ON, K8S_TAG, RAY_TAG, place, tags_of, threads_of_a_process
from dagster_project.cluster.machine_needs import Needs, Node
from dagster_project.cluster.ray_nodes import nodes_of_driver, nodes_of_job_server
from dagster_project.runs.instance import launches_elsewhere, open_instance
from lwf_assets.errors import LwfError
from lwf_assets.planning.plan import make_plan
from lwf_assets.store.home import Home
from lwf_assets.study.file import load_study


class RayRunLauncher:
    """By its name, as it is recognized where the package need not be installed."""


class K8sRunLauncher:
    """The same."""


NEEDS = Needs(2, 2, 3_000_000_000)


def test_ray_is_asked_for_cpus_gpus_and_memory() -> None:
    tags = tags_of(RayRunLauncher(), NEEDS)
    assert json.loads(tags[RAY_TAG]) == {"num_cpus": 2, "num_gpus": 2, "memory": 3_000_000_000}
    configs = pytest.importorskip("dagster_ray.configs")
    read = configs.RayExecutionConfig.from_tags(tags)
    assert (read.num_cpus, read.num_gpus, read.memory) == (2, 2, 3_000_000_000)


def test_kubernetes_is_asked_for_a_gpu_as_a_limit() -> None:
    resources = json.loads(tags_of(K8sRunLauncher(), NEEDS)[K8S_TAG])["container_config"]["resources"]
    assert resources == {"requests": {"cpu": "2", "memory": "3000000000"}, "limits": {"nvidia.com/gpu": 2}}
    without = json.loads(tags_of(K8sRunLauncher(), Needs(1, 0, 5))[K8S_TAG])["container_config"]["resources"]
    assert without == {"requests": {"cpu": "1", "memory": "5"}}


class _Elsewhere:
    run_launcher = K8sRunLauncher()


def test_the_default_launcher_is_told_nothing(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(write_study(tmp_path, tiny_study_values(tmp_path)))
    home = Home(tmp_path / "home")
    plan = make_plan(study, home.store, home.file_hashes)
    instance = open_instance(home)
    assert not launches_elsewhere(instance)
    placed = place(study, home.store, plan, plan.stale, instance)
    assert placed.tags == {step.cell: {} for step in plan.stale}

    def asked(asset: str) -> dict[str, object]:
        tags = place(study, home.store, plan, plan.stale, _Elsewhere()).tags
        found = next(tags[cell] for cell in tags if cell.asset == asset)
        return json.loads(found[K8S_TAG])["container_config"]["resources"]

    assert asked("lwf_checkpoint")["limits"] == {"nvidia.com/gpu": 1}
    assert "limits" not in asked("eval_report")
    monkeypatch.setenv(CELLS_ON, "cpus")
    assert "limits" not in asked("lwf_checkpoint")
    monkeypatch.setenv(CELLS_ON, "cards")
    with pytest.raises(LwfError, match="LWF_CELLS_ON=cards: write gpus or cpus"):
        asked("lwf_checkpoint")


class _OnRay:
    run_launcher = RayRunLauncher()


def test_what_no_node_of_ray_has_is_told_and_holds_up_nothing_else(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tiny_study_values(tmp_path) | {"compute": {"processes": 4}}
    study = load_study(write_study(tmp_path, values))
    home = Home(tmp_path / "home")
    plan = make_plan(study, home.store, home.file_hashes)
    nodes = (Node("1" * 8, "one", 2, 0, 64e9), Node("2" * 8, "card", 8, 1, 64e9))
    monkeypatch.setattr(launchers, "nodes_of_job_server", lambda address: nodes)
    placed = place(study, home.store, plan, plan.stale, _OnRay())
    assert len(placed.tags) + len(placed.problems) == len(plan.stale)
    assert {cell.asset for cell in placed.tags} >= {"learning_data", "eval_report", "base_model"}
    trained = [problem for problem in placed.problems if problem.startswith("lwf_checkpoint")]
    assert trained
    assert all("needs 4 GPUs, 4 CPUs" in problem and "the largest, card, has 1 GPU" in problem for problem in trained)


@pytest.mark.parametrize(("value", "threads"), [("", 1), ("4", 4), ("8,2", 8), ("0", 1), ("many", 1)])
def test_a_process_computes_with_as_many_cores_as_it_has_threads(
    value: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads_of_a_process() == threads


def listed(id: str, name: str, host: str, **resources: float) -> dict[str, object]:
    """As `ray.nodes()` lists a node."""
    return {
        "NodeID": id * 8,
        "NodeName": name,
        "NodeManagerHostname": host,
        "NodeManagerAddress": "10.0.0.1",
        "Alive": bool(resources),
        "Resources": resources,
    }


def test_the_job_server_is_asked_for_the_nodes_that_are_up(monkeypatch: pytest.MonkeyPatch) -> None:
    state = pytest.importorskip("ray.util.state")
    takes = inspect.signature(state.list_nodes)

    def lists(**asked: object) -> list[SimpleNamespace]:
        assert takes.bind(**asked).arguments["address"] == "http://head:8265"
        one = {"node_id": "a" * 8, "node_name": "gpu-1", "node_ip": "10.0.0.1"}
        two = {"node_id": "b" * 8, "node_name": "10.0.0.2", "node_ip": "10.0.0.2", "resources_total": {"CPU": 4.0}}
        return [
            SimpleNamespace(**one, state="ALIVE", resources_total={"CPU": 8.0, "GPU": 1.0, "memory": 5e9}),
            SimpleNamespace(**two, state="DEAD"),
        ]

    monkeypatch.setattr(state, "list_nodes", lists)
    (node,) = nodes_of_job_server("http://head:8265")
    assert (node.name, node.cpus, node.gpus, node.memory) == ("gpu-1", 8.0, 1.0, 5e9)

    def fails(**asked: object) -> list[SimpleNamespace]:
        raise ConnectionError("refused\nand more")

    monkeypatch.setattr(state, "list_nodes", fails)
    with pytest.raises(LwfError, match=r"the Ray cluster at http://head:8265 does not answer \(refused\)"):
        nodes_of_job_server("http://head:8265")


def test_nodes_are_called_by_their_names_and_told_apart() -> None:
    nodes = nodes_of_driver(
        [
            listed("a", "10.0.0.1", "gpu-1", CPU=8.0, GPU=2.0, memory=1e9),
            listed("b", "chosen", "gpu-2", CPU=4.0),
            listed("c", "10.0.0.1", "twin", CPU=1.0),
            listed("d", "10.0.0.1", "twin", CPU=1.0),
            listed("e", "10.0.0.1", "down"),
        ]
    )
    assert [node.name for node in nodes] == ["chosen", "gpu-1", "twin-cccccc", "twin-dddddd"]
    assert (nodes[1].cpus, nodes[1].gpus, nodes[1].memory) == (8.0, 2.0, 1e9)
    assert (nodes[0].gpus, nodes[0].memory) == (0.0, 0.0)
