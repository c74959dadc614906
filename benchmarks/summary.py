"""From raw results to the tables of the page and of the terminal: rows of text."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

GIB = 2**30


@dataclass(frozen=True)
class Table:
    """A table; the first `text_columns` columns hold words, the others figures."""

    title: str
    header: list[str]
    rows: list[list[str]]
    text_columns: int = 1


def race_tables(data: dict[str, Any]) -> list[Table]:
    """One table for each workload, of the methods that ran on it."""
    return [_race_table(data["methods"], workload) for workload in data["workloads"]]


def _race_table(methods: list[dict[str, Any]], workload: dict[str, Any]) -> Table:
    ran = {row["key"]: row for row in workload["rows"]}
    rows = []
    for method in methods:
        row = ran.get(method["key"])
        if row is None:
            continue
        peaks = [peak for peak in row["peak_bytes"] if peak is not None]
        rows.append(
            [
                named(method) + (f", {row['chunk']} samples at once" if row["chunk"] else ""),
                f"{median(row['seconds']):.2f}",
                f"{median(row['ratios']):.2f}",
                f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}",
                str(len(row["seconds"])),
                f"{median(peaks) / GIB:.2f}" if peaks else "?",
                "all" if row["covers"] == 1 else f"{row['covers']:.0%}",
                "" if method["error"] is None else f"{method['error']:.0e}",
            ]
        )
    header = ["", "s", "ratio", "from to", "rounds", "GiB", "covers", "error"]
    return Table(f"{workload['samples']} samples of {workload['name']}", header, rows)


def named(method: dict[str, Any]) -> str:
    """A method's label with the version of its library."""
    return f"{method['label']} {method['version'] or ''}".strip()


def failures(data: dict[str, Any]) -> list[list[str]]:
    """Name and reason of each method that gave no result."""
    return [[named(method), method["failure"]] for method in data["methods"] if method["failure"]]


def remarks(data: dict[str, Any]) -> list[list[str]]:
    """Name and remark of each method that has one and gave a result."""
    return [[m["label"], m["remark"]] for m in data["methods"] if m["remark"] and not m["failure"]]


def accuracy_table(data: dict[str, Any]) -> Table:
    """One row an architecture."""
    rows = [[row["architecture"], f"{row['fisher']:.0e}", f"{row['terms']:.0e}"] for row in data["rows"]]
    return Table("Largest relative error", ["architecture", "Fisher diagonal", "confidence terms"], rows)


def growth_table(data: dict[str, Any]) -> Table:
    """Exponents, one column an axis."""
    rows = [
        [method["label"], *(f"{curve['exponents'][method['key']]:.2f}" for curve in data["curves"])]
        for method in data["methods"]
    ]
    header = [
        "exponent of",
        *(f"{curve['axis']} ({curve['x'][0]:,} to {curve['x'][-1]:,})" for curve in data["curves"]),
    ]
    return Table("Growth", header, rows)


def growth_seconds(data: dict[str, Any]) -> list[Table]:
    """The medians that the exponents are fitted to, one table an axis."""
    return [
        Table(
            curve["axis"],
            [curve["axis"], *(f"{x:,}" for x in curve["x"])],
            [
                [method["label"], *(f"{seconds:.2f}" for seconds in curve["seconds"][method["key"]])]
                for method in data["methods"]
            ],
        )
        for curve in data["curves"]
    ]


def experts_table(data: dict[str, Any]) -> Table:
    """Each method's seconds and ratio to the floor of the same round."""
    rows = []
    for row in data["rows"]:
        ratios = [own / floor for own, floor in zip(row["seconds"], data["rows"][0]["seconds"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        rows.append([row["label"], f"{median(row['seconds']):.2f}", f"{median(ratios):.2f}", spread, str(len(ratios))])
    return Table("A mixture of experts", ["", "s", "ratio", "from to", "rounds"], rows)


def training_table(data: dict[str, Any]) -> Table:
    """The fine-tune and the single step, each with its ratio to what stands beside it."""
    ratios = [lwf / plain for lwf, plain in zip(data["lwf_seconds"], data["plain_seconds"], strict=True)]
    steps = [own / least for own, least in zip(data["step_seconds"], data["minimal_step_seconds"], strict=True)]
    count = data["counted_steps"]
    expected = 1 + 1 / data["interval"]
    return Table(
        "Training",
        ["", "s", "ratio", "rounds"],
        [
            [f"{count} learning steps", f"{median(data['plain_seconds']):.2f}", "1", str(len(ratios))],
            [
                f"with an unlearning step every {data['interval']}",
                f"{median(data['lwf_seconds']):.2f}",
                f"{median(ratios):.3f} ({median(ratios) / expected:.3f} of {expected:.2f})",
                str(len(ratios)),
            ],
            ["a minimal ascent step", f"{median(data['minimal_step_seconds']):.3f}", "1", str(len(steps))],
            ["an unlearning step", f"{median(data['step_seconds']):.3f}", f"{median(steps):.3f}", str(len(steps))],
        ],
    )


def generation_table(data: dict[str, Any]) -> Table:
    """One row a way."""
    ours = data["rows"][-1]["seconds"]
    rows = []
    for row in data["rows"]:
        ratios = [seconds / own for seconds, own in zip(row["seconds"], ours, strict=True)]
        same = f"{row['same']} of {data['prompts']}"
        rows.append([row["label"], f"{median(row['seconds']):.2f}", f"{median(ratios):.2f}", same])
    header = ["", "s", "ratio to this project", "same responses as one by one"]
    return Table("Generation", header, rows)


def orchestration_table(data: dict[str, Any]) -> Table:
    """What a user waits for beside the assets' own work."""
    per_asset = (data["wall_seconds"] - data["work_seconds"]) / data["assets"]
    return Table(
        "Orchestration",
        ["", "s"],
        [
            [f"Dagster, the store and MLflow, per asset (of {data['assets']})", f"{per_asset:.2f}"],
            ["loading the code location, a new process", f"{median(data['load_seconds']):.2f}"],
            ["`lwf plan` on an empty home, a new process", f"{median(data['plan_seconds']):.2f}"],
        ],
    )


def load_table(data: dict[str, Any]) -> Table:
    """Seconds and megabytes by command and size."""
    points = data["points"]
    sizes = [f"{point['cells']:,} cells, {point['artifacts']:,} artifacts" for point in points]
    rows = []
    for name, exponent in data["exponents"].items():
        measured = [point["commands"][name] for point in points]
        rows.append([name, *(f"{m['seconds']:.1f} s, {m['megabytes']:.0f} MB" for m in measured), f"{exponent:.2f}"])
    return Table("Load", ["", *sizes, "exponent"], rows)


def transfers_table(data: dict[str, Any]) -> Table:
    """Publishing and fetching, each beside the plain client: the median of the rounds' ratios of speeds."""
    rows = []
    for place, seconds in data["transfers"].items():
        for ours, plain in (("publish", "plain put"), ("fetch", "plain get")):
            speeds = [other / own for own, other in zip(seconds[ours], seconds[plain], strict=True)]
            spread = f"{min(speeds):.0%} to {max(speeds):.0%}"
            times = [f"{median(seconds[name]):.2f}" for name in (ours, plain)]
            rows.append([place, ours, *times, f"{median(speeds):.0%}", spread])
    return Table("Transfers", ["", "", "s", "plain client, s", "of its speed", "from to"], rows, text_columns=2)


def shared_plans_table(data: dict[str, Any]) -> Table:
    """What planning takes with a shared store, and moving a home there."""
    rows = []
    for point in data["plans"]:
        size = f"{point['cells']:,} cells"
        for place, seconds in point["seconds"].items():
            push = point["push_seconds"].get(place)
            rows.append([size, place, f"{seconds:.2f}", "" if push is None else f"{push:.0f}"])
    return Table("Planning", ["", "store", "`lwf plan`, s", "`lwf sync` of all, s"], rows, text_columns=2)


def quickstart_commits(data: dict[str, Any]) -> list[str]:
    """The commits that its cells were made at, short; one that was changed says so."""
    commits = {row["commit"] or "unknown" for row in data["rows"]}
    return sorted(commit[:7] + ("-dirty" if commit.endswith("-dirty") else "") for commit in commits)


def quickstart_table(data: dict[str, Any]) -> Table:
    """One row a cell."""
    rows = [[row["asset"], row["partition"] or "", f"{row['seconds']:.1f}"] for row in data["rows"]]
    rows.append(["all", "", f"{sum(row['seconds'] for row in data['rows']):.1f}"])
    return Table("The quickstart", ["asset", "partition", "s"], rows, text_columns=2)
