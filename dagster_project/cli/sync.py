"""`lwf sync`: a whole store into the shared one, or the other way."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.text import Text

from dagster_project.cli.arguments import JsonOption
from dagster_project.cli.console import err
from lwf_assets.errors import LwfError
from lwf_assets.store.home import REMOTE_VARIABLE, Home


def sync(
    pull: Annotated[
        bool, typer.Option("--pull", help="Fetch all files of what studies last asked for, as to work without a line.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish everything in this home that the shared store of LWF_REMOTE does not have; --pull fetches instead.

    A home is moved to another place by this command alone: what is there already is not copied again."""
    from dagster_project.cli.progress_bars import PhaseBars, phase_bars, quiet_libraries
    from lwf_assets.store.shared.mirror import SharedMirror
    from lwf_assets.store.shared.sync import pull as fetch_all
    from lwf_assets.store.shared.sync import push

    quiet_libraries()
    home = Home.from_environment()
    if not isinstance(home.store.mirror, SharedMirror):
        raise LwfError(
            f"{REMOTE_VARIABLE} is not set: give the address of the shared store, such as s3://bucket/prefix"
        )
    with phase_bars(err) as bars:
        moved = (fetch_all if pull else push)(home.store, progress=PhaseBars(bars, "sync"))
    url = home.store.mirror.bucket.url
    if as_json:
        print(json.dumps({"remote": url, "pulled": pull, **asdict(moved)}, indent=2))
        return
    done = "fetched from" if pull else "published to"
    err.print(Text(f"{moved.artifacts} artifacts, {decimal(moved.size)}, {done} {url}"), soft_wrap=True)
