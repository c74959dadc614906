"""Makes an artifact again from the same inputs and compares: does the recorded recipe give these bytes?"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from lwf_assets import assets
from lwf_assets.disk.hashes import hash_file
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.graph.table import ASSET
from lwf_assets.graph.work import Work
from lwf_assets.lineage.chain import Chain, Link
from lwf_assets.progress import SILENT, Progress
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact, Store
from lwf_assets.study.study import Study

CHEAP = ("scored_forget_set",)
"""Assets that take seconds and no model, so that every audit can make them again."""

WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Replayed:
    """One artifact that was made again: the files that came out otherwise, and how far its weights differ at most (None
    where it has none, or where none differ in kind)."""

    artifact: str
    version: str
    differing: tuple[str, ...]
    largest_difference: float | None

    @property
    def is_same(self) -> bool:
        """Whether every byte is the same."""
        return not self.differing


def replay(store: Store, chain: Chain, link: Link, *, progress: Progress = SILENT) -> Replayed:
    """Make the artifact of `link` again in a temporary folder, from the inputs in the store, and compare.

    Raises:
        LwfError: its study's settings were not kept, its code is of another version, or an input is missing.
    """
    manifest = link.manifest
    with tempfile.TemporaryDirectory(prefix="lwf-replay-", dir=store.root) as folder:
        out = make_again(store, chain, link, Path(folder), progress=progress)
        found = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
        recorded = {entry.path: entry.sha256 for entry in manifest.files}
        differing = sorted(
            name
            for name in found.keys() | recorded.keys()
            if name not in found or name not in recorded or hash_file(found[name]) != recorded[name]
        )
        weights = [name for name in differing if name.endswith(WEIGHTS) and name in found and name in recorded]
        furthest = max((_furthest(found[name], link.folder / name) for name in weights), default=None)
    return Replayed(link.name, manifest.version, tuple(differing), furthest)


def make_again(store: Store, chain: Chain, link: Link, place: Path, *, progress: Progress = SILENT) -> Path:
    """Make the artifact of `link` again, below the folder `place`, from the inputs in the store; returns its folder.

    Raises:
        LwfError: its study's settings were not kept, its code is of another version, or an input is missing.
    """
    manifest, cell, study = link.manifest, cell_of(link), study_of(store, link)
    if cell.spec.code_version != manifest.code_version:
        raise LwfError(
            f"{link.name} {manifest.version}: was made by code version {manifest.code_version}, and this is "
            f"{cell.spec.code_version}; check out commit {manifest.provenance.get('git_commit')} to make it again"
        )
    for other in chain.inputs(link):
        store.bring(other.manifest)
    inputs = {cell_of(other): Artifact(other.folder, other.manifest) for other in chain.inputs(link)}
    if len(inputs) < len(manifest.inputs) or not all(artifact.path.is_dir() for artifact in inputs.values()):
        raise LwfError(f"{link.name} {manifest.version}: what it was made from is no longer in the store")
    out, scratch = place / "out", place / "scratch"
    out.mkdir()
    scratch.mkdir()
    assets.materialize(cell.asset, Work(study, cell.partition, inputs, out, scratch, progress))
    return out


def study_of(store: Store, link: Link) -> Study:
    """The study, with all its settings, that an artifact was made for.

    Raises:
        LwfError: its settings are not in the store, or are those of another version of this code.
    """
    digest = link.manifest.provenance.get("study_settings")
    path = store.study_path(str(digest))
    if digest is None or not path.is_file():
        raise LwfError(f"{link.name} {link.manifest.version}: the settings of its study were not kept ({path})")
    try:
        return Study.model_validate(json.loads(path.read_text()))
    except ValidationError as error:
        raise LwfError(
            f"{link.name} {link.manifest.version}: its study has settings that this code does not recognize "
            f"({error.errors()[0]['msg']}: {'.'.join(map(str, error.errors()[0]['loc']))}); check out commit "
            f"{link.manifest.provenance.get('git_commit')} to replay it"
        ) from None


def cell_of(link: Link) -> Cell:
    """The cell of the asset graph that an artifact is of."""
    asset = link.manifest.asset
    return Cell(asset, Partition.of_key(ASSET[asset].dimensions, link.manifest.partition))


def _furthest(first: Path, second: Path) -> float:
    """The largest difference in any weight of two safetensors files."""
    from safetensors.torch import load_file

    here, there = load_file(first), load_file(second)
    if here.keys() != there.keys():
        return float("inf")
    return max(float((here[name].double() - there[name].double()).abs().max()) for name in here)
