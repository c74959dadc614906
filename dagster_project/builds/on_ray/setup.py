"""Whether a node would make of a study what this machine plans: the same store, code, libraries and source files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import dagster_project
import lwf_assets
from dagster_project.runs.instance import POSTGRES_VARIABLE
from dagster_project.runs.secrets import redacted
from lwf_assets.building.materialize import LIBRARIES
from lwf_assets.disk.hashes import canonical_hash
from lwf_assets.graph.cells import cells, settings_of
from lwf_assets.store.home import HOME_VARIABLE, REMOTE_VARIABLE, Home
from lwf_assets.study.study import Study

RECORDS = ("MLFLOW_TRACKING_URI", POSTGRES_VARIABLE)
"""Variables that say where records are kept; without them, each node would have its own."""


@dataclass(frozen=True)
class Setup:
    """What has to be the same on a node.

    `records` are those of `RECORDS` that are set, `code` is a hash of this package's own files, `libraries` their
    versions, and `contents` hashes of the settings of each cell, in which source files count by their contents.
    """

    remote: str
    records: tuple[str, ...]
    code: str
    libraries: Mapping[str, str]
    contents: Mapping[str, str]


def setup_of(study: Study, home: Home) -> Setup:
    """That of this machine.

    Raises:
        LwfError: a file that the study names cannot be read.
    """
    contents = {
        str(cell): canonical_hash([cell.spec.code_version, settings_of(study, cell, home.file_hashes)])[:16]
        for cell in cells(study)
    }
    records = tuple(name for name in RECORDS if os.environ.get(name))
    return Setup(os.environ.get(REMOTE_VARIABLE, "").rstrip("/"), records, _code_hash(), _libraries(), contents)


def refusal_without_home() -> str | None:
    """What to do where this node does not say where its own things are kept; None if it does."""
    if os.environ.get(HOME_VARIABLE):
        return None
    return f"{HOME_VARIABLE} is not set there; set it, to a folder of the node's own, before `ray start`"


def difference(wanted: Setup, here: Setup) -> str | None:
    """The first thing in which a node is not as the machine that plans, with what to do; None if there is none."""
    if here.remote != wanted.remote:
        is_there = f"is {redacted(here.remote)} there" if here.remote else "is not set there"
        return f"{REMOTE_VARIABLE} {is_there} and {redacted(wanted.remote)} here; set it before `ray start`"
    for name in wanted.records:
        if name not in here.records:
            return f"{name} is set here and not there; set it before `ray start`"
    if here.code != wanted.code:
        return "the code of lwf-assets there is another version; install the same, and restart Ray"
    for name, version in wanted.libraries.items():
        if here.libraries.get(name) != version:
            return f"{name} is {here.libraries.get(name)} there and {version} here; install the same, and restart Ray"
    for cell, contents in wanted.contents.items():
        if here.contents.get(cell) != contents:
            return f"the files that {cell} is made from are others there; copy the study's folder, to the same path"
    return None


@cache
def _code_hash() -> str:
    digest = hashlib.sha256()
    for package in (lwf_assets, dagster_project):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _libraries() -> dict[str, str]:
    # The part behind the `+` says for which device torch was compiled, which may differ.
    return {name: metadata.version(name).partition("+")[0] for name in LIBRARIES}
