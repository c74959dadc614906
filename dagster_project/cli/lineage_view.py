"""The lineage of artifacts in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from lwf_assets.lineage.audit import Audit
from lwf_assets.lineage.chain import Link
from lwf_assets.lineage.difference import Difference, RowChange
from lwf_assets.lineage.forgotten import UnlearnedSample
from lwf_assets.lineage.trace import Traced

ROWS = 20
"""Rows of a table that the terminal shows; --json has all."""
WIDTH = 60


def print_audit(console: Console, audit: Audit) -> None:
    """The chain as a tree, what was unlearned and learned from, and whether it holds."""
    end = audit.chain.end
    console.print(_grow(Tree(_described(audit, end)), audit, end, set()))
    if audit.unlearned:
        console.print(f"\n[bold]Unlearned[/]: {len(audit.unlearned)} samples")
        for sample in audit.unlearned[:ROWS]:
            console.print(_unlearned(sample), soft_wrap=True)
        _more(console, len(audit.unlearned))
    for rows in audit.learned:
        count = f"{len(rows.train)} training and {len(rows.validation)} validation rows"
        console.print(f"\n[bold]Learned from[/]: {count} (learning_data {rows.version}; their ids: --json)")
    console.print()
    for line in _outcome(audit):
        console.print(line, soft_wrap=True)


def print_trace(console: Console, found: Sequence[Traced]) -> None:
    """One block per checkpoint."""
    for traced in found:
        state = "current" if traced.current else "no longer current"
        console.print(Text.assemble((traced.checkpoint, "bold"), f" {traced.version}  ({state})"), soft_wrap=True)
        if traced.learned:
            console.print(Text(f"  learned from {_listed(traced.learned)}"), soft_wrap=True)
        for sample in traced.forgotten[:ROWS]:
            steps = "; ".join(f"seed {turn.seed}: steps {_listed(turn.steps)}" for turn in sample.turns)
            console.print(Text(f"  forgot {sample.id} ({steps})"), soft_wrap=True)
        _more(console, len(traced.forgotten))


def print_differences(console: Console, found: Sequence[Difference]) -> None:
    """First causes with their rows, then what follows from them."""
    for difference in found:
        versions = f"{difference.before or 'none'} -> {difference.after or 'none'}"
        head = Text.assemble((difference.artifact, "bold"), f"  {versions}")
        if not difference.is_first_cause:
            head.append(f"  follows from {', '.join(difference.follows)}", style="dim")
        console.print(head, soft_wrap=True)
        for cause in difference.causes:
            console.print(Text(f"  {cause}", style="yellow"), soft_wrap=True)
        if difference.is_first_cause and not difference.causes:
            files = _listed(difference.files)
            console.print(Text(f"  made twice from the same inputs, with different bytes in {files}", style="yellow"))
        for row in difference.rows[:ROWS]:
            console.print(_row_change(row), soft_wrap=True)
        _more(console, len(difference.rows))


def _grow(tree: Tree, audit: Audit, link: Link, shown: set[str]) -> Tree:
    """`tree` with what the link was made from below it; what it has already is only named again."""
    shown.add(link.name)
    for needed in audit.chain.inputs(link):
        if needed.name in shown:
            tree.add(Text(f"{needed.name} {needed.manifest.version} (above)", style="dim"))
        else:
            _grow(tree.add(_described(audit, needed)), audit, needed, shown)
    return tree


def _described(audited: Audit, link: Link) -> RenderableType:
    manifest, provenance = link.manifest, link.manifest.provenance
    head = Text.assemble((link.name, "bold"), " ", (manifest.version, "cyan"))
    if not link.sealed:
        head.append("  (not sealed)", style="yellow")
    made = [
        str(provenance.get("began") or ""),
        f"in {provenance.get('wall_seconds')} s",
        f"code {manifest.code_version}",
    ]
    if provenance.get("git_commit"):
        commit, changed, _ = str(provenance["git_commit"]).partition("-dirty")
        made.append(f"commit {commit[:12]}{changed}")
    runs = [
        f"{name} run {provenance[key]}"
        for name, key in (("Dagster", "dagster_run"), ("MLflow", "mlflow_run"))
        if provenance.get(key)
    ]
    lines = [head, Text(", ".join(made), style="dim")]
    if runs:
        lines.append(Text(", ".join(runs), style="dim"))
    settings = ", ".join(f"{name} {value}" for name, value in _flat(manifest.settings))
    if settings:
        lines.append(Text(_cut(settings, 400), style="dim"))
    for name, verdict in audited.verdicts[link.name].items():
        mark, style = ("✓", "green") if verdict["passed"] else ("✗", "bold red")
        lines.append(Text.assemble((f"{mark} {name}", style), (f"  {verdict['reason']}", "dim")))
    return Group(*lines)


def _unlearned(sample: UnlearnedSample) -> Text:
    """Three lines: the terms, what was said, and each seed's turns."""
    terms = ("constant", "linear", "quadratic")
    figures = ", ".join(f"{name} {getattr(sample, name):.4g}" for name in terms)
    confidence = f"  FC {sample.forgetting_confidence:.6g} ({figures})"
    lines = Text.assemble(f"  {sample.rank}. ", (sample.id, "cyan"), confidence)
    text = "(random tokens in its place)" if sample.text is None else _cut(sample.text)
    lines.append(f"\n     {_cut(sample.prompt)} -> {text}")
    for turn in sample.turns:
        after = "unknown" if turn.nll_after is None else f"{turn.nll_after:.3f}"
        words = f"seed {turn.seed}, steps {_listed(turn.steps)}: NLL {turn.nll_before:.3f} -> {after}"
        lines.append(f"\n     {words}", style="dim")
    return lines


def _outcome(audit: Audit) -> list[Text]:
    lines = [Text(str(fault), style="bold red") for fault in audit.faults]
    for result in audit.replayed:
        if result.is_same:
            lines.append(Text(f"{result.artifact} {result.version}: recomputed, the same bytes", style="green"))
        else:
            most = result.largest_difference
            weights = "" if most is None else f"; weights differ by {most:.3g} at most"
            words = f"{result.artifact} {result.version}: recomputed, and {_listed(result.differing)} differ{weights}"
            lines.append(Text(words, style="bold red"))
    for record in audit.outside:
        place = f"{record.artifact} {record.version}: {record.system} run {record.run}"
        if record.missing:
            lines.append(Text(f"{place} no longer exists", style="yellow"))
        elif record.differences:
            lines.append(Text(f"{place}: {'; '.join(record.differences)}", style="bold red"))
    agreeing = {system: sum(r.system == system and r.agrees for r in audit.outside) for system in ("Dagster", "MLflow")}
    asked = [f"{system} agrees on {count}" for system, count in agreeing.items() if count]
    looked = "every byte of them" if audit.verified else "their manifests (--verify: every byte)"
    count = len(audit.chain.links)
    if audit.holds:
        words = f"{count} artifacts; {looked} as recorded" + "".join(f"; {words}" for words in asked)
        lines.append(Text(words, style="green"))
    lines.append(Text(f"Seal of {audit.chain.end.name}: {audit.chain.end.manifest.seal}"))
    return lines


def _row_change(row: RowChange) -> Text:
    if row.before is None:
        return Text(f"  + {row.table}: {row.id}  {_columns(row.after)}", style="green")
    if row.after is None:
        return Text(f"  - {row.table}: {row.id}  {_columns(row.before)}", style="red")
    text = Text(f"  ~ {row.table}: {row.id}")
    for name, value in row.before.items():
        text.append(f"\n      {name}: {_cut(str(value))}", style="red")
        text.append(f"\n      {' ' * len(name)}  {_cut(str(row.after[name]))}", style="green")
    return text


def _columns(row: Any) -> str:
    return _cut(", ".join(f"{name}: {value}" for name, value in row.items() if name != "id"), 160)


def _more(console: Console, count: int) -> None:
    if count > ROWS:
        console.print(f"  ... and {count - ROWS} more (--json has all)")


def _listed(values: Sequence[Any]) -> str:
    text = ", ".join(map(str, values[:8]))
    return text if len(values) <= 8 else f"{text} and {len(values) - 8} more"


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return flat


def _cut(text: str, width: int = WIDTH) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 2] + ".."
