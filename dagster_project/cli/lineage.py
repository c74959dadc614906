"""The lineage commands: `lwf audit`, `repair`, `trace`, `diff`, `keep`, `gc`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from dagster_project.cli.arguments import JsonOption
from dagster_project.cli.console import err, out
from lwf_assets.errors import LwfError
from lwf_assets.store.home import Home

ARTIFACT = (
    "A path in the store, a cell (FORGETTING|LEARNING, or ASSET[PARTITION]), a version, an MLflow run, or a registered "
    "model (NAME/3, NAME@champion)."
)
Artifact = Annotated[str, typer.Argument(metavar="CHECKPOINT", help=ARTIFACT)]


def audit(
    checkpoint: Annotated[str | None, typer.Argument(metavar="[CHECKPOINT]", help=ARTIFACT)] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Hash every file up the chain again, and recompute what takes only seconds."),
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Train it again from the same inputs and compare the weights.")
    ] = False,
    seal: Annotated[str | None, typer.Option(metavar="SHA256", help="The seal that its manifest must have.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write it as one HTML page.")] = None,
    openlineage: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write it as OpenLineage events, one JSON object per line.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a checkpoint was made from, what it forgot, and whether all of it is unchanged. Exit code 1 if not.

    Without a checkpoint, --verify looks through the whole store.
    """
    if checkpoint is None:
        if not verify:
            raise typer.BadParameter("give a checkpoint, or --verify to look through the whole store")
        _audit_store(as_json)
        return
    from dagster_project.cli.lineage_view import print_audit
    from dagster_project.cli.progress_bars import PhaseBars, phase_bars, quiet_libraries
    from dagster_project.tracking.find_artifact import find_artifact
    from dagster_project.tracking.lineage_records import outside_records
    from lwf_assets.lineage.audit import audit as make_audit

    quiet_libraries()
    home = Home.from_environment()
    manifest = find_artifact(home, checkpoint)
    if seal is not None and manifest.seal != seal:
        raise LwfError(f"{manifest.name} {manifest.version}: its seal is {manifest.seal}, not the one given")

    with phase_bars(err) as bars:
        result = make_audit(
            home.store,
            manifest,
            verify=verify,
            replay_end=replay,
            outside=lambda chain: outside_records(home, chain),
            progress=PhaseBars(bars, manifest.name),
        )
    if html is not None:
        from lwf_assets.lineage.page import lineage_page

        html.write_text(lineage_page(result), encoding="utf-8")
    if openlineage is not None:
        from lwf_assets.lineage.open_lineage import write_events

        write_events(openlineage, home.store, result.chain)
    if as_json:
        print(json.dumps(result.to_dict(), indent=2, default=str))
    else:
        print_audit(out, result)
    if not result.holds:
        raise typer.Exit(1)


def _audit_store(as_json: bool) -> None:
    from dagster_project.cli.progress_bars import PhaseBars, phase_bars
    from lwf_assets.lineage.store_faults import files_to_hash, store_faults

    store = Home.from_environment().store
    with phase_bars(err) as bars:
        progress = PhaseBars(bars, "The store")
        progress.begin("Hashing", files_to_hash(store))
        faults = list(store_faults(store, hashed=lambda path: progress.advance()))
    if as_json:
        listed = [{**asdict(fault), "path": str(fault.path)} for fault in faults]
        print(json.dumps({"holds": not faults, "faults": listed}, indent=2))
    else:
        for fault in faults:
            out.print(Text(str(fault)), soft_wrap=True)
        said = f"{len(faults)} faults." if faults else "everything is as it was written."
        err.print(Text(f"{store.root}: {said}"), soft_wrap=True)
    if faults:
        raise typer.Exit(1)


def repair(
    yes: Annotated[bool, typer.Option("--yes", help="Repair what is listed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the damaged artifacts. --yes makes them again from their recipes. Exit code 1 if one is left."""
    from dagster_project.cli.progress_bars import PhaseBars, phase_bars, quiet_libraries
    from lwf_assets.lineage.repair import Repair, damaged_artifacts
    from lwf_assets.lineage.repair import repair as make_again

    quiet_libraries()
    store = Home.from_environment().store
    with phase_bars(err) as bars:
        progress = PhaseBars(bars, "The store")
        if yes:
            found = list(make_again(store, progress=progress))
        else:
            damaged = damaged_artifacts(store, progress=progress)
            found = [Repair(m.name, m.version, path, what) for m, path, what in damaged]
    left = [entry for entry in found if not yes or entry.problem is not None]
    if as_json:
        listed = [{**asdict(entry), "path": str(entry.path)} for entry in found]
        print(json.dumps({"damaged": listed, "repaired": len(found) - len(left)}, indent=2))
    else:
        for entry in found:
            outcome = "" if not yes else f". {entry.problem or 'Made again'}"
            line = f"{entry.artifact} {entry.version}: {entry.path}: {entry.what}{outcome}"
            out.print(Text(line), soft_wrap=True)
        said = f"{len(found) - len(left)} repaired, {len(left)} left." if yes else f"{len(found)} damaged."
        err.print(said + ("" if yes or not found else " --yes makes them again from their recipes."))
    if left:
        raise typer.Exit(1)


def trace(
    sample: Annotated[str | None, typer.Option(metavar="ID", help="Id of a row, sample or prompt.")] = None,
    text: Annotated[str | None, typer.Option(help="Part of its prompt or text.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the checkpoints that learned from a row or forgot it."""
    from dagster_project.cli.lineage_view import print_trace
    from lwf_assets.lineage.trace import trace as find_checkpoints

    if (sample is None) == (text is None):
        raise typer.BadParameter("give either --sample or --text")
    found = find_checkpoints(Home.from_environment().store, sample=sample, text=text)
    if as_json:
        print(json.dumps([asdict(traced) for traced in found], indent=2))
    elif found:
        print_trace(out, found)
    else:
        err.print("No checkpoint in the store learned from it or forgot it.")


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help=ARTIFACT)],
    second: Annotated[str, typer.Argument(metavar="B", help="The other one, in any of these forms.")],
    as_json: JsonOption = False,
) -> None:
    """Compare what two checkpoints were made from; first causes come first."""
    from dagster_project.cli.lineage_view import print_differences
    from dagster_project.tracking.find_artifact import find_artifact
    from lwf_assets.lineage.chain import read_chain
    from lwf_assets.lineage.difference import differences
    from lwf_assets.store.layout import TABLES

    home = Home.from_environment()
    before, after = (read_chain(home.store, find_artifact(home, name)) for name in (first, second))
    for link in (*before.links, *after.links):
        home.store.bring(link.manifest, TABLES)
    found = differences(before, after)
    if as_json:
        entries = [{**asdict(difference), "first_cause": difference.is_first_cause} for difference in found]
        print(json.dumps(entries, indent=2, default=str))
    elif found:
        print_differences(out, found)
    else:
        err.print(f"{before.end.name} and {after.end.name} were made from the same inputs.")


def keep(
    artifact: Artifact,
    why: Annotated[str, typer.Option(help="A note on why it is kept.")] = "",
    undo: Annotated[bool, typer.Option("--release", help="Stop keeping it.")] = False,
) -> None:
    """Protect an artifact, such as a published report, and all that it was made from against `lwf gc`."""
    from dagster_project.tracking.find_artifact import find_artifact
    from lwf_assets.lineage import garbage

    home = Home.from_environment()
    manifest = find_artifact(home, artifact)
    if undo:
        garbage.release(home.store, manifest)
    else:
        garbage.keep(home.store, manifest, why)
    err.print(Text(f"{manifest.name} {manifest.version}: {'released' if undo else 'kept'}"), soft_wrap=True)


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed.")] = False,
    without_mlflow: Annotated[
        bool, typer.Option("--without-mlflow", help="Go on if MLflow cannot be reached to list the registered models.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the versions that nothing needs: not current, not kept, and not behind a registered model. --yes removes
    them."""
    from dagster_project.tracking.registry import registered_recipes
    from lwf_assets.lineage.garbage import remove, unneeded_versions

    home = Home.from_environment()
    registered = registered_recipes(home, without_mlflow=without_mlflow)
    unneeded = unneeded_versions(home.store, registered)
    if as_json:
        listed = [{**asdict(version), "folder": str(version.folder)} for version in unneeded]
        print(json.dumps({"unneeded": listed, "removed": yes}, indent=2))
    else:
        table = Table("artifact", "version", "size")
        for version in unneeded:
            table.add_row(Text(version.artifact), version.version, decimal(version.size))
        if unneeded:
            out.print(table)
        total = decimal(sum(version.size for version in unneeded))
        err.print(f"{len(unneeded)} versions that nothing needs, {total}." + ("" if yes else " --yes removes them."))
    if yes:
        stay = len(unneeded) - len(remove(home.store, unneeded, registered))
        if stay:
            err.print(f"{stay} of them stay: a build that ended meanwhile needs them.")
