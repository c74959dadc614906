"""Simulates a large study on clusters of 1 to 256 devices, and writes docs/scaling.md.

.venv/bin/python -m benchmarks.cluster [--quick] [--home HOME] [--out FOLDER] [--render]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

SIDE, COUNTS = 13, [1, 2, 4, 8, 16, 32, 64, 128, 256]
QUICK_SIDE, QUICK_COUNTS = 3, [1, 8, 64]


def main(words: Sequence[str] | None = None) -> None:
    """Simulate, or with --render write the page from scaling.json."""
    options = _options().parse_args(words)
    out: Path = options.out
    results = out / "scaling.json"
    if not options.render:
        out.mkdir(parents=True, exist_ok=True)
        results.write_text(
            json.dumps(_simulated(options.home, options.planned_from, quick=options.quick), indent=1) + "\n"
        )
    write_page(json.loads(results.read_text()), out)
    print(out / "scaling.md")


def _simulated(home: Path | None, planned_from: int, *, quick: bool) -> dict[str, Any]:
    from benchmarks.cluster.scenarios import CARDS, CORES, measure
    from benchmarks.cluster.study import built_before, measured_before
    from benchmarks.conditions import conditions
    from benchmarks.measure import short_collections
    from lwf_assets.store.home import Home

    began, here = time.perf_counter(), conditions("a simulated cluster")
    performance = json.loads((ROOT / "docs" / "performance.json").read_text())
    side, counts = (QUICK_SIDE, QUICK_COUNTS) if quick else (SIDE, COUNTS)
    with tempfile.TemporaryDirectory() as folder, short_collections():
        if home is None:
            earlier = measured_before(performance, Path(folder) / "measured")
            source = performance["race"]["conditions"]
        else:
            earlier, source = built_before(Home(home).store), None
        scenarios = []
        for scenario in (CORES, CARDS):
            place = Path(folder) / scenario.name
            place.mkdir()
            scenarios.append(measure(scenario, side, counts, place, earlier, print, planned_from=planned_from))
    return {
        "conditions": here,
        "durations": source,
        "planned_from": planned_from,
        "took_seconds": time.perf_counter() - began,
        "scenarios": scenarios,
    }


def write_page(results: dict[str, Any], out: Path) -> None:
    """scaling.md and its plot, from the raw results."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from benchmarks.cluster import summary
    from benchmarks.cluster.plot import plot_scaling
    from benchmarks.page import markdown

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Markdown
    )
    environment.filters["table"] = markdown
    plot_scaling(results["scenarios"], out / "images" / "scaling.svg")
    text = environment.get_template("scaling.md.j2").render(**results, summary=summary)
    (out / "scaling.md").write_text(text)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description="Write docs/scaling.md.")
    parser.add_argument("--quick", action="store_true", help="a small study on three clusters: a smoke run")
    parser.add_argument("--home", type=Path, help="a home whose manifests say how long cells take")
    parser.add_argument("--planned-from", type=int, default=1, help="devices below which the planner is not asked")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of scaling.md, .json and images/")
    parser.add_argument("--render", action="store_true", help="simulate nothing; write the page from scaling.json")
    return parser


if __name__ == "__main__":
    main()
