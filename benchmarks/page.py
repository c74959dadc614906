"""docs/performance.md and its plots, from the raw results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks import summary
from benchmarks.plots import plot_growth, plot_race
from benchmarks.results import GROUPS
from benchmarks.summary import Table

SECTIONS = (*GROUPS["engine"], *GROUPS["pipeline"])


def write_page(sections: dict[str, dict[str, Any]], page: Path, images: Path) -> None:
    """Render every section that there is; the page says which are missing."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Markdown
    )
    environment.filters["table"] = markdown
    data = {name: section["data"] for name, section in sections.items()}
    if "race" in data:
        plot_race(data["race"], images / "race.svg")
    if "growth" in data:
        plot_growth(data["growth"], images / "growth.svg")
    text = environment.get_template("performance.md.j2").render(
        data=data,
        measured={
            group: _measured([sections[name] for name in names if name in sections]) for group, names in GROUPS.items()
        },
        missing=[name for name in SECTIONS if name not in sections],
        summary=summary,
        images=Path(os.path.relpath(images, page.parent)).as_posix(),
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text)


def _measured(sections: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Where, when and on what code the sections of a group were measured, and how long that took."""
    if not sections:
        return None
    newest = max((section["conditions"] for section in sections), key=lambda conditions: conditions["date"])
    return {
        **newest,
        "commits": sorted({section["conditions"]["commit"] for section in sections}),
        "minutes": sum(section["took_seconds"] for section in sections) / 60,
    }


def markdown(table: Table) -> str:
    """A table in Markdown, figures on the right."""
    rule = ["---" if column < table.text_columns else "---:" for column in range(len(table.header))]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in [table.header, rule, *table.rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
