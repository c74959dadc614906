"""Measures, prints and writes docs/performance.md.

.venv/bin/python -m benchmarks [--only SECTION ...] [--quick] [--home HOME] [--render]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from benchmarks import summary
from benchmarks.page import SECTIONS, write_page
from benchmarks.results import Results

if TYPE_CHECKING:
    from rich.table import Table
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROOT = Path(__file__).resolve().parent.parent

_SUBJECTS = {False: "SmolLM2-135M", True: "a tiny random Llama"}
"""What is measured; by whether the run is quick."""

TABLES: dict[str, Callable[[dict[str, Any]], list[summary.Table]]] = {
    "race": summary.race_tables,
    "accuracy": lambda data: [summary.accuracy_table(data)],
    "growth": lambda data: [*summary.growth_seconds(data), summary.growth_table(data)],
    "experts": lambda data: [summary.experts_table(data)],
    "training": lambda data: [summary.training_table(data)],
    "generation": lambda data: [summary.generation_table(data)],
    "orchestration": lambda data: [summary.orchestration_table(data)],
    "load": lambda data: [summary.load_table(data)],
    "shared_store": lambda data: [summary.transfers_table(data), summary.shared_plans_table(data)],
    "quickstart": lambda data: [summary.quickstart_table(data)],
}


def main(words: Sequence[str] | None = None) -> None:
    """Measure the sections that are asked for, one after the other; write results and page after each."""
    options = _options().parse_args(words)
    console = Console()
    out: Path = options.out
    results = Results(out / "performance.json")
    if not options.render:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from benchmarks.conditions import conditions
        from benchmarks.measure import short_collections
        from dagster_project.cli.progress_bars import quiet_libraries

        quiet_libraries()
        here = conditions(
            subject=_SUBJECTS[options.quick]
        )  # before anything else is imported: this is the code that is measured
        with tempfile.TemporaryDirectory() as scratch:
            subject = _Subject(quick=options.quick, home=options.home, scratch=Path(scratch), console=console)
            for name in options.only or SECTIONS:
                began = time.perf_counter()
                with short_collections():
                    data = subject.measure(name)
                took = time.perf_counter() - began
                for dropped in results.put(name, data, here, took):
                    console.print(f"dropped, for it was measured on other code or another machine: {dropped}")
                for table in TABLES[name](data):
                    console.print(_for_the_terminal(table))
                if name == "race":
                    for method, failure in summary.failures(data):
                        console.print(escape(f"{method}: {failure}"))
                console.print(f"{name} took {took:.0f} s")
                write_page(results.sections, out / "performance.md", out / "images")
            if conditions(subject=_SUBJECTS[options.quick])["same"] != here["same"]:
                console.print("The code was changed while it was measured: these results are of no known code.")
            built = subject.quickstart()
            if built is not None:
                results.put("quickstart", built, here, 0.0)
    write_page(results.sections, out / "performance.md", out / "images")
    console.print(escape(str(out / "performance.md")))


class _Subject:
    """The model that is measured, loaded when first asked for, and the sections."""

    def __init__(self, *, quick: bool, home: Path | None, scratch: Path, console: Console) -> None:
        from benchmarks.plan import FULL, QUICK

        self.quick = quick
        self.home = home
        self.scratch = scratch
        self.plan = QUICK if quick else FULL
        self.console = console

    def say(self, line: str) -> None:
        """A line on how far the work is."""
        self.console.print(escape(line), style="dim", highlight=False)

    @cached_property
    def _model(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
        from benchmarks.models import real_model, tiny_model

        if self.quick:
            return tiny_model("llama"), None
        self.say(f"loading {_SUBJECTS[False]}")
        return real_model(self.home or self.scratch)

    def measure(self, section: str) -> dict[str, Any]:
        """The raw results of one section."""
        self.console.rule(section)
        match section:
            case "race":
                from benchmarks.race import race

                return race(self._model[0], self.plan.workloads, self.say)
            case "accuracy":
                from benchmarks.accuracy import accuracy

                return accuracy()
            case "growth":
                from benchmarks.growth import growth

                return growth(self._model[0], self.plan, self.say)
            case "experts":
                from benchmarks.experts import experts

                return experts(self.plan, self.say)
            case "training":
                from benchmarks.training import training

                return training(self._model[0], self.plan, self.say)
            case "generation":
                return self._generation()
            case "orchestration":
                from benchmarks.orchestration import orchestration

                return orchestration()
            case "load":
                from benchmarks.load import load

                return load(self.plan.load_sides, self.say)
            case "shared_store":
                from benchmarks.shared_store import shared_store

                plan = self.plan
                return shared_store(plan.shared_sizes, plan.shared_rounds, plan.shared_sides, self.say)
        raise ValueError(section)

    def _generation(self) -> dict[str, Any]:
        from benchmarks.generation import dentistry_prompts, generation, random_prompts
        from lwf_assets.engine.generation import end_token_ids

        model, tokenizer = self._model
        if tokenizer is None:
            vocabulary = model.config.vocab_size
            return generation(
                model, random_prompts(self.plan.prompts, vocabulary), [vocabulary - 1], self.plan, self.say
            )
        ends = end_token_ids(model, tokenizer.eos_token_id)
        return generation(model, dentistry_prompts(tokenizer, self.plan.prompts), ends, self.plan, self.say)

    def quickstart(self) -> dict[str, Any] | None:
        """The seconds of a built quickstart, if `--home` has one."""
        from benchmarks.quickstart import quickstart

        return quickstart(self.home) if self.home is not None else None


def _for_the_terminal(table: summary.Table) -> Table:
    from rich.table import Table

    drawn = Table(title=escape(table.title), title_justify="left")
    for column, name in enumerate(table.header):
        drawn.add_column(escape(name), justify="left" if column < table.text_columns else "right")
    for row in table.rows:
        drawn.add_row(*(escape(cell) for cell in row))
    return drawn


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and write docs/performance.md.")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a tiny random model and few rounds: a smoke run")
    parser.add_argument("--home", type=Path, help="a home of `lwf build`: its base model is used, its seconds are told")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of performance.md, .json and images/")
    parser.add_argument("--render", action="store_true", help="measure nothing; write the page from performance.json")
    return parser


if __name__ == "__main__":
    main()
