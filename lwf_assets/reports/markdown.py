"""The reports of a study as one Markdown file with its plots: for a paper, a wiki, a repository's docs.

The words are a Jinja template's: the embedded one has a table for every cell, and a study may bring its own, whose
figures then come from the reports and cannot drift from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwf_assets.comparison.measures import measure_name
from lwf_assets.errors import LwfError
from lwf_assets.reports import numbers, wording
from lwf_assets.reports.plots import curves as curve_plots
from lwf_assets.reports.plots.confidence import terms_scatter
from lwf_assets.reports.plots.export import save_svg
from lwf_assets.reports.plots.forest import effects_forest

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

    from lwf_assets.comparison.records import ArmEffect, CellReport

DEFAULT_TEMPLATE = Path(__file__).parent / "templates" / "results.md.j2"


def write_markdown(
    reports: Mapping[str, CellReport],
    target: Path,
    *,
    template: Path = DEFAULT_TEMPLATE,
    facts: Mapping[str, Any],
) -> list[Path]:
    """Render `template` to `target` and its plots into the folder of the same name next to it; returns what was
    written.

    Args:
        reports: by cell, `forgetting|learning`.
        target: the Markdown file.
        template: sees `cells` (by key, each with `report`, `effects(measure)`, `table(measure)`, `plot(name)`) and
            `facts`.
        facts: what else the template may show, such as where the study is and what it ran on.

    Raises:
        LwfError: the template asks for a cell, a measure or a plot that there is not.
    """
    from jinja2 import TemplateError

    written: list[Path] = []
    cells = {key: _Cell(report, target, written) for key, report in reports.items()}
    try:
        text = _environment().from_string(template.read_text(encoding="utf-8")).render(cells=cells, facts=facts)
    except (OSError, TemplateError) as error:
        raise LwfError(f"{template}: {error}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return [target, *written]


class _Cell:
    """What a template may say of one cell."""

    def __init__(self, report: CellReport, target: Path, written: list[Path]) -> None:
        self.report = report
        self.outcome = wording.outcome(report)
        self._target = target
        self._written = written

    def effect(self, model: str, measure: str) -> ArmEffect:
        """One model's difference to the reference in one measure."""
        found = self.report.effect(model, measure)
        if found is None:
            raise LwfError(f"{self._name}: {measure} of {model} was not measured")
        return found

    def effects(self, measure: str) -> list[ArmEffect]:
        """That of every model, in the study's order."""
        return [effect for effect in self.report.effects if effect.measure == measure]

    def table(self, measure: str, models: Sequence[str] | None = None) -> str:
        """A Markdown table of a measure: models by mean, difference, interval, p-values, smallest effect, verdict."""
        effects = [e for e in self.effects(measure) if models is None or e.model in models]
        if not effects:
            raise LwfError(f"{self._name}: {measure} was not measured")
        reference = effects[0].reference_mean
        head = ["model", measure_name(measure), "difference", "95 % interval", "p", "p (Holm)", "detectable", "verdict"]
        rows = [["reference", numbers.significant(reference, 3), "", "", "", "", "", ""]]
        rows += [
            [
                self.report.label(e.model),
                numbers.significant(e.mean, 3),
                numbers.mean(e.difference, signed=True),
                numbers.bounds(e.difference, signed=True),
                numbers.probability(e.p_value),
                numbers.probability(e.adjusted_p),
                numbers.significant(e.minimum_detectable, 2),
                e.verdict,
            ]
            for e in effects
        ]
        return _table(head, rows)

    def figures(self, measures: Sequence[str], models: Sequence[str] | None = None) -> str:
        """A Markdown table of the means of several measures, model by model."""
        head = ["model", *(measure_name(measure) for measure in measures)]
        rows = [
            [
                self.report.label(figures.model),
                *(numbers.significant(self.report.figures(figures.model, m).mean, 3) for m in measures),
            ]
            for figures in self.report.models
            if models is None or figures.model in models
        ]
        return _table(head, rows)

    def plot(self, name: str, models: Sequence[str] = ("reference", "lwf")) -> str:
        """One of the plots, as a Markdown image; written next to the file, and numbered if the name is used again."""
        folder, stem = self._target.with_suffix(""), f"{self._name.replace('|', '-')}-{name}"
        before = sum(path.stem.rpartition("_")[0] == stem or path.stem == stem for path in self._written)
        path = folder / (f"{stem}_{before + 1}.svg" if before else f"{stem}.svg")
        save_svg(self._figure(name, models), path)
        self._written.append(path)
        return f"![{name}]({folder.name}/{path.name})"

    @property
    def _name(self) -> str:
        return f"{self.report.forgetting_task}|{self.report.learning_task}"

    def _figure(self, name: str, models: Sequence[str]) -> Figure:
        report = self.report
        names = {figures.model: report.label(figures.model) for figures in report.models}
        curves = report.validation_curves or report.learning_curves
        what = "NLL of the validation split" if report.validation_curves else "training loss"
        match name:
            case "forest":
                return effects_forest(report.effects, report.primary_measure, names)
            case "curves":
                chosen = [curve for curve in curves if curve.label in models]
                return curve_plots.loss_curves(chosen, what=f"{what}\n(nats per token)")
            case "arms":
                arms = {model: label for model, label in names.items() if model in models}
                return curve_plots.arm_panels(curves, arms, what=what)
            case "relearning":
                return curve_plots.relearning_curves(report.relearning, names)
            case "terms":
                samples = report.samples
                alpha = report.alpha
                return terms_scatter(
                    [-alpha * s.linear for s in samples],
                    [alpha**2 * s.quadratic for s in samples],
                    [s.selected for s in samples],
                )
        raise LwfError(f"unknown plot {name!r}; choose from forest, curves, arms, relearning and terms")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 2) + " --- |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters.update(
        mean=numbers.mean, bounds=numbers.bounds, significant=numbers.significant, measure=measure_name
    )
    return environment
