"""Checks this card, prints what it found, and writes docs/gpu.json and docs/gpu.md.

.venv/bin/python -m benchmarks.gpu_check [--seconds 230] [--only CHECK ...] [--render] [--device cpu --tiny]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu_check.check import Check

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = "page.md.j2"


def main(words: Sequence[str] | None = None) -> int:
    """Run the checks one after the other while there is time. Without a GPU, say so and write nothing."""
    options = _options().parse_args(words)
    results = options.out / "gpu.json"
    if options.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported, which reads it once
    if options.render:
        found = json.loads(results.read_text()) if results.exists() else None
        write_page(found, options.out / "gpu.md")
        return 0
    import torch

    from benchmarks.gpu_check.check import Place

    if options.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here: nothing was checked or written.")
        return 0
    place = Place(torch.device(options.device), options.tiny)
    found = {"card": _card(place.device), "checks": _run(place, options.seconds, options.only)}
    options.out.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(found, indent=1) + "\n")
    write_page(found, options.out / "gpu.md")
    print(f"Written: {results} and {options.out / 'gpu.md'}")
    missed = [f["what"] for check in found["checks"] for f in check["figures"] if f["passed"] is False]
    failed = [check["title"] for check in found["checks"] if check.get("failed")]
    print(f"Bars missed: {', '.join(missed) or 'none'}. Checks that failed: {', '.join(failed) or 'none'}.")
    return 1 if failed else 0


def all_checks() -> tuple[Check, ...]:
    """In the order of their value: the last are skipped when time is short. To add one, add it here."""
    from benchmarks.gpu_check.devices import TWO_DEVICES
    from benchmarks.gpu_check.exactness import EXACTNESS
    from benchmarks.gpu_check.generation import GENERATION
    from benchmarks.gpu_check.ratios import RATIOS
    from benchmarks.gpu_check.tiles import TILES

    return (EXACTNESS, *RATIOS[:3], GENERATION, TILES, *RATIOS[3:], TWO_DEVICES)


def _run(place: Any, seconds: float, only: Sequence[str] | None) -> list[dict[str, Any]]:
    from benchmarks.gpu_check.check import run_check

    began, outcomes = time.perf_counter(), []
    for check in all_checks():
        if only and check.name not in only:
            continue
        left = seconds - (time.perf_counter() - began)
        print(f"{check.title} ({left:.0f} s left)", flush=True)
        outcome = run_check(check, place, left)
        outcomes.append(outcome)
        for figure in outcome["figures"]:
            print("  " + told(figure))
        if outcome["reason"]:
            print(f"  {'failed' if outcome.get('failed') else 'skipped'}: {outcome['reason']}")
    return outcomes


def told(figure: dict[str, Any]) -> str:
    """A figure as a line: value, bar, notes."""
    bar = figure["bar"]
    verdict = "" if bar is None else f" (bar {number(bar)}: {'met' if figure['passed'] else 'missed'})"
    notes = [f"{what} {number(note)}" for what, note in figure["notes"].items() if note is not None]
    return f"{figure['what']}: {number(figure['value'])}{figure['unit']}{verdict}" + "".join(f"; {n}" for n in notes)


def number(value: float | str) -> str:
    """Three significant digits; words as they are."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def write_page(found: dict[str, Any] | None, page: Path) -> None:
    """docs/gpu.md: what was measured on which card, and what was not. None: nothing was."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Markdown
    )
    environment.filters["number"] = number
    titles = [check.title for check in all_checks()]
    page.write_text(environment.get_template(TEMPLATE).render(found=found, titles=titles))


def _card(device: Any) -> dict[str, Any]:
    import torch

    from benchmarks.conditions import conditions

    here = conditions("random Llamas")
    name, gib, capability = "a CPU, with kernels in Triton's interpreter", 0.0, ""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, gib = properties.name, properties.total_memory / 2**30
        capability = f"{properties.major}.{properties.minor}"
    return {
        "name": name,
        "gib": round(gib, 1),
        "capability": capability,
        "commit": here["commit"],
        "date": here["date"],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": _version_of("triton"),
        "transformers": here["same"]["transformers"],
    }


def _version_of(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description="Check this machine's GPU.")
    parser.add_argument("--seconds", type=float, default=230, help="no check begins that would not end within these")
    parser.add_argument("--only", action="append", help="the check of this name alone; may be repeated")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of gpu.json and gpu.md")
    parser.add_argument("--render", action="store_true", help="check nothing; write the page from gpu.json")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: in Triton's interpreter")
    parser.add_argument("--tiny", action="store_true", help="tiny models: a test of the checks themselves")
    return parser


if __name__ == "__main__":
    sys.exit(main())
