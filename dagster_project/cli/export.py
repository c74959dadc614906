"""`lwf export`: a checkpoint for others, as a model directory with its papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dagster_project.cli.console import err
from dagster_project.cli.lineage import Artifact
from lwf_assets.store.home import Home


def export(
    checkpoint: Artifact,
    directory: Annotated[Path, typer.Argument(help="Where to; it must not exist, or be empty.")],
    seed: Annotated[int | None, typer.Option(help="Which seed of the checkpoint; the first, if not given.")] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge an adapter into the weights of its base, and write a plain model.")
    ] = False,
    to_hub: Annotated[
        str | None, typer.Option("--to-hub", metavar="OWNER/NAME", help="Also upload it to this repository.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="A new repository on the hub is public.")] = False,
) -> None:
    """Write a checkpoint as a model directory, with a model card, its lineage, its provenance and a bill of materials.
    A checkpoint that is an adapter is written as an adapter, or merged. Every byte that it was made from is hashed
    first."""
    from dagster_project.cli.progress_bars import PhaseBars, phase_bars, quiet_libraries

    quiet_libraries()
    from dagster_project.tracking.find_artifact import find_artifact
    from lwf_assets.delivery.export import export as write

    home = Home.from_environment()
    manifest = find_artifact(home, checkpoint)
    with phase_bars(err) as bars:
        made = write(home.store, manifest, directory, seed=seed, merge=merge, progress=PhaseBars(bars, manifest.name))
    err.print(Text(f"{manifest.name} {manifest.version}, seed {made.seed}: written to {made.folder}"), soft_wrap=True)
    if to_hub is not None:
        from lwf_assets.delivery.hub import upload

        err.print(Text(f"uploaded: {upload(made.folder, to_hub, private=not public)}"), soft_wrap=True)
