"""The nodes of a Ray cluster, as Ray lists them to a driver and to a job server's clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dagster_project.cluster.machine_needs import Node
from lwf_assets.errors import LwfError


def nodes_of_driver(listed: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    """The living nodes among those that `ray.nodes()` returns."""
    return _named(
        _node(entry["NodeID"], (entry["NodeName"], entry["NodeManagerHostname"]), entry["NodeManagerAddress"], has)
        for entry in listed
        if entry["Alive"] and (has := entry["Resources"])
    )


def nodes_of_job_server(address: str) -> tuple[Node, ...]:
    """The living nodes of the cluster whose job server is at `http://HOST:8265`.

    Raises:
        LwfError: it does not answer.
    """
    from ray.util.state import list_nodes

    try:
        # Not by Ray's own filter, for which it takes the nodes that it leaves out for lost.
        listed = list_nodes(address=address, limit=10_000, timeout=30, raise_on_missing_output=False)
    except Exception as error:  # whatever of requests, grpc and Ray's own it is
        said = str(error).strip().partition("\n")[0]
        raise LwfError(f"the Ray cluster at {address} does not answer ({said}); see whether its head is up") from None
    living = (node for node in listed if node.state == "ALIVE")
    return _named(_node(n.node_id, (n.node_name,), n.node_ip, n.resources_total or {}) for n in living)


def _node(id: str, names: Iterable[str], address: str, has: Mapping[str, float]) -> Node:
    name = next((name for name in names if name and name != address), address)
    return Node(id, name, has.get("CPU", 0.0), has.get("GPU", 0.0), has.get("memory", 0.0))


def _named(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Nodes of one name get a piece of their id, so that one can tell them apart."""
    found = sorted(nodes, key=lambda node: (node.name, node.id))
    names = [node.name for node in found]
    return tuple(
        node
        if names.count(node.name) == 1
        else Node(node.id, f"{node.name}-{node.id[:6]}", node.cpus, node.gpus, node.memory)
        for node in found
    )
