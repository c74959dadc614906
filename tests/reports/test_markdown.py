"""The reports as Markdown: every figure is the report's, plots lie beside it, and what is asked for in vain is told."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from world import World

from dagster_project.cli.main import app
from lwf_assets.comparison.records import CellReport
from lwf_assets.comparison.stored_reports import built_reports, built_with
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.reports.markdown import write_markdown
from lwf_assets.reports.numbers import significant
from lwf_assets.store.partition import Partition

CELL = Cell("eval_report", Partition("teeth", "sums"))
FACTS = {"study": "tiny", "description": "Small.", "command": "lwf report"}


def _eval_report(world: World) -> Path:
    artifact = world.home.store.current(CELL.asset, CELL.partition)
    assert artifact is not None
    return artifact.path


@pytest.fixture(scope="module")
def reports(built_once: World) -> dict[str, CellReport]:
    return built_reports(built_once.study, built_once.home.store, [CELL])


def test_the_table_has_the_figures_of_the_report(
    built_once: World, reports: dict[str, CellReport], tmp_path: Path
) -> None:
    files = write_markdown(reports, tmp_path / "results.md", facts=FACTS)
    rows = [line.split(" | ") for line in files[0].read_text().splitlines() if line.startswith("| ")]
    table = pq.read_table(_eval_report(built_once) / "effects.parquet").to_pylist()
    expected = {row["model"]: row for row in table if row["measure"] == "accuracy"}
    assert len(expected) == len(rows) - 3  # the head, the line under it, and the reference
    for _, found in zip(expected, rows[3:], strict=True):
        row = next(row for model, row in expected.items() if found[0].removeprefix("| ").lower() == model)
        assert found[1] == significant(row["mean"], 3)
        assert found[-1].removesuffix(" |") == row["verdict"]


def test_plots_lie_beside_it_and_equal_reports_give_equal_files(reports: dict[str, CellReport], tmp_path: Path) -> None:
    first, second = (write_markdown(reports, tmp_path / name / "results.md", facts=FACTS) for name in ("a", "b"))
    assert [path.name for path in first] == ["results.md", "teeth-sums-forest.svg", "teeth-sums-curves.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    for path in first[1:]:
        assert f"results/{path.name}" in first[0].read_text()


def test_a_plot_of_other_models_does_not_replace_the_first(reports: dict[str, CellReport], tmp_path: Path) -> None:
    template = tmp_path / "own.md.j2"
    one, two = (
        "cells['teeth|sums'].plot('arms', ['reference', 'lwf'])",
        "cells['teeth|sums'].plot('arms', ['reference'])",
    )
    template.write_text(f"{{{{ {one} }}}}\n{{{{ {two} }}}}\n")
    target, *plots = write_markdown(reports, tmp_path / "own.md", template=template, facts=FACTS)
    assert [path.name for path in plots] == ["teeth-sums-arms.svg", "teeth-sums-arms_2.svg"]
    assert plots[0].read_bytes() != plots[1].read_bytes()
    assert [line.rpartition("/")[2] for line in target.read_text().splitlines()] == [f"{p.name})" for p in plots]


def test_a_template_says_it_in_its_own_words(reports: dict[str, CellReport], tmp_path: Path) -> None:
    template = tmp_path / "own.md.j2"
    template.write_text(
        "{{ cells['teeth|sums'].effect('lwf', 'target_nll').seeds }} seed, {{ facts.study }}\n"
        "{{ cells['teeth|sums'].figures(['target_nll', 'invalid'], ['base', 'lwf']) }}\n"
    )
    target = tmp_path / "out" / "own.md"
    assert write_markdown(reports, target, template=template, facts=FACTS) == [target]
    first, *table = target.read_text().splitlines()
    assert first == "1 seed, tiny"
    assert [line.split(" | ")[0] for line in table] == ["| model", "| ---", "| base", "| LWF"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("cells['teeth|sums'].table('taste')", "taste was not measured"),
        ("cells['teeth|sums'].effect('nobody', 'target_nll')", "target_nll of nobody was not measured"),
        ("cells['teeth|sums'].plot('pie')", "unknown plot 'pie'"),
        ("cells['teeth|legs'].outcome", "teeth|legs"),
        ("facts.weather", "weather"),
        ("cells[", "own.md.j2"),
    ],
)
def test_what_there_is_not_is_told_and_nothing_is_written(
    reports: dict[str, CellReport], tmp_path: Path, asked: str, told: str
) -> None:
    template = tmp_path / "own.md.j2"
    template.write_text("{{ " + asked + " }}")
    with pytest.raises(LwfError) as caught:
        write_markdown(reports, tmp_path / "own.md", template=template, facts=FACTS)
    assert told in str(caught.value)
    assert not (tmp_path / "own.md").exists()


def test_what_it_was_made_with(built_once: World) -> None:
    facts = built_with(built_once.study, built_once.home.store)
    assert facts["devices"] == ["cpu"]
    assert facts["seconds"] > 0
    assert facts["bytes"] > 1e6
    assert set(facts["libraries"]) >= {"torch", "transformers"}


def test_by_the_command_line(built: World, tmp_path: Path) -> None:
    target = tmp_path / "board.md"
    result = CliRunner().invoke(app, ["report", "--study", str(built.file), "--markdown", str(target)])
    assert result.exit_code == 0, result.output
    assert "## minds|sums" in target.read_text()
    refused = CliRunner().invoke(app, ["report", "--study", str(built.file), "--template", str(target)])
    assert refused.exit_code == 2
