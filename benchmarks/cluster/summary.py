"""From the simulated builds to the tables and sentences of docs/scaling.md."""

from __future__ import annotations

import itertools
from statistics import median
from typing import Any

from benchmarks.summary import Table

WORTHWHILE = 0.5
"""The efficiency from which on more devices are worth what they cost; below it, half of them idle."""


def bound(data: dict[str, Any], point: dict[str, Any]) -> float:
    """Seconds that no schedule on so many devices is faster than."""
    return float(max(data["critical_path"], data["work"] / point["devices"]))


def efficiency(data: dict[str, Any], point: dict[str, Any]) -> float:
    """The share of the devices' time that is work."""
    return float(data["work"] / (point["devices"] * point["makespan"]))


def scaling_table(data: dict[str, Any]) -> Table:
    """Makespans beside their bounds, one row a count of devices."""
    rows = [
        [
            f"{point['devices']}",
            f"{point['machines']}",
            hours(point["makespan"]),
            hours(data["work"] / point["devices"]),
            f"{point['makespan'] / bound(data, point):.2f}",
            f"{efficiency(data, point):.0%}",
        ]
        for point in data["points"]
    ]
    header = ["devices", "machines", "makespan, h", "work / devices, h", "over the bound", "efficiency"]
    return Table("Scaling", header, rows, text_columns=0)


def transfers_table(data: dict[str, Any]) -> Table:
    """Bytes and planner, one row a count of devices."""
    rows = [
        [
            f"{point['devices']}",
            terabytes(point["bytes_fetched"]),
            f"{1 - point['bytes_fetched'] / point['bytes_read']:.0%}",
            f"{point['fetching'] / _spent(point):.1%}",
            f"{point['publishing'] / _spent(point):.1%}",
            f"{point['plannings']}",
            *(f"{of(point['planner_seconds']):.2f}" if point["planner_seconds"] else "" for of in (median, max)),
        ]
        for point in data["points"]
    ]
    header = ["devices", "fetched, TB", "read from caches", "time fetching", "time publishing", "plannings"]
    return Table("Transfers", [*header, "median, s", "longest, s"], rows, text_columns=0)


def causes_table(data: dict[str, Any]) -> Table:
    """What the makespan is made of beyond its bound, by leaving out one cost at a time."""
    rows = []
    for point in data["points"]:
        whole = point["makespan"]
        rows.append(
            [
                f"{point['devices']}",
                f"{bound(data, point) / whole:.0%}",
                f"{(point['without_all'] - bound(data, point)) / whole:.0%}",
                *(f"{(whole - other) / whole:+.1%}" for other in point["without"].values()),
                f"{(whole - point['near']['makespan']) / whole:+.1%}",
            ]
        )
    names = [f"saved without {name}" for name in data["points"][0]["without"]]
    header = ["devices", "the bound", "order of cells", *names, "saved by placing cells near their files"]
    return Table("Causes", header, rows, text_columns=0)


def last_worthwhile(data: dict[str, Any]) -> dict[str, Any]:
    """The largest of the simulated clusters whose devices work half of their time."""
    good = [point for point in data["points"] if efficiency(data, point) >= WORTHWHILE]
    return dict(good[-1] if good else data["points"][0])


def first_without_gain(data: dict[str, Any]) -> dict[str, Any] | None:
    """The first cluster that is not a tenth faster than the one before it, of half its size."""
    pairs = itertools.pairwise(data["points"])
    return next((new for old, new in pairs if new["makespan"] > 0.9 * old["makespan"]), None)


def largest_cause(data: dict[str, Any], point: dict[str, Any]) -> str:
    """What keeps a cluster from being faster, in words."""
    whole = point["makespan"]
    path = data["critical_path"]
    saved = {name: whole - other for name, other in point["without"].items()}
    saved["order"] = point["without_all"] - bound(data, point)
    name = max(saved, key=saved.__getitem__)
    if path >= data["work"] / point["devices"] and path / whole > 0.5:
        return f"the critical path, which alone takes {path / whole:.0%} of the makespan"
    words = {
        "transfers": "transfers: without them it would be {} shorter",
        "orchestration": "the constant cost of a cell: without it it would be {} shorter",
        "planning": "planning: without it it would be {} shorter",
        "order": "the order of the cells, which do not fill all devices at all times: {} of the makespan",
    }
    return words[name].format(f"{saved[name] / whole:.0%}")


def chain_words(data: dict[str, Any]) -> str:
    """The assets of the critical path."""
    return ", ".join(f"`{name.partition('[')[0]}`" for name in data["chain"])


def hours(seconds: float) -> str:
    """Seconds as hours with three digits."""
    return f"{seconds / 3600:.3g}"


def terabytes(size: float) -> str:
    """Bytes as terabytes."""
    return f"{size / 1e12:.2f}"


def _spent(point: dict[str, Any]) -> float:
    """Seconds for which devices were taken."""
    return float(sum(point[name] for name in ("orchestrating", "fetching", "computing", "publishing")))
