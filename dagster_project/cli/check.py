"""`lwf check`: what the model will be shown, before anything is built."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from dagster_project.cli.arguments import JsonOption, StudyOption
from dagster_project.cli.console import out
from lwf_assets.study.file import load_study

if TYPE_CHECKING:
    from lwf_assets.starting.look import ShownSample, ShownTask

_MOST_NAMED = 3


def check(study: StudyOption, as_json: JsonOption = False) -> None:
    """Show three samples of each task as the model will see them: the exact text, where the loss is, how many tokens;
    and what is cut, what is in two splits, and how long the longest row is."""
    from dagster_project.cli.progress_bars import quiet_libraries

    quiet_libraries()
    from lwf_assets.starting.look import look_at

    settings = load_study(study)
    shown = list(look_at(settings))
    if as_json:
        print(json.dumps({"study": settings.name, "tasks": [asdict(task) for task in shown]}, indent=2))
        return
    for task in shown:
        _print_task(task)


def _print_task(task: ShownTask) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in task.rows.items())
    out.print(Text.assemble((task.name, "bold"), f" ({task.role}): {counts}"), soft_wrap=True)
    for sample in task.samples:
        _print_sample(sample)
    longest = task.longest
    out.print(
        f"  longest: {longest.id}, {longest.prompt_tokens + longest.target_tokens} of {task.context} tokens",
        soft_wrap=True,
        markup=False,
    )
    for line in _oddities(task):
        out.print(Text(f"  {line}", style="yellow"), soft_wrap=True)
    out.print()


def _print_sample(sample: ShownSample) -> None:
    loss = f", {sample.target_tokens} with loss" if sample.target else ""
    cut = f", {sample.cut} do not fit" if sample.cut else ""
    out.print(Text(f"  {sample.id}: {sample.prompt_tokens} tokens shown{loss}{cut}", style="dim"), soft_wrap=True)
    text = Text.assemble(sample.prompt, (sample.target, "bold green"))
    for line in text.split("\n", allow_blank=True):
        out.print(Text("    ").append_text(line), soft_wrap=True)


def _oddities(task: ShownTask) -> list[str]:
    lines = []
    if task.too_long:
        end = "cut from the left" if task.truncates else "refused by a build, for they do not fit (model.max_length)"
        lines.append(f"prompts that are {end}: {_named(task.too_long)}")
    if task.shared:
        lines.append(f"prompts in two splits: {_named([f'{first} and {second}' for first, second in task.shared])}")
    if task.repeated:
        lines.append(f"rows that repeat another one of the same split: {task.repeated}")
    return lines


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
