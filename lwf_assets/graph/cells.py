"""The cells of a study: one partition of one asset each, what it is made from, and the recipe that decides it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lwf_assets.disk.hashes import canonical_hash
from lwf_assets.graph.partitions import partitions
from lwf_assets.graph.settings import HashFile, JsonSettings
from lwf_assets.graph.table import ASSET, ASSETS, AssetSpec
from lwf_assets.store.manifest import InputVersion, recipe_hash
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import Study


@dataclass(frozen=True, order=True)
class Cell:
    """One partition of one asset: the unit that is planned, built and stored."""

    asset: str
    partition: Partition

    @property
    def spec(self) -> AssetSpec:
        """The asset's row of the table."""
        return ASSET[self.asset]

    def __str__(self) -> str:
        return f"{self.asset}[{self.partition.key}]" if self.partition.key else self.asset


def partitions_of(study: Study, spec: AssetSpec) -> tuple[Partition, ...]:
    """Every partition that one asset has in the study; none where the study does not ask for the asset."""
    return tuple(p for p in partitions(study, spec.dimensions) if spec.is_wanted(study, p))


def specs_of(study: Study) -> tuple[AssetSpec, ...]:
    """The assets that the study has any cell of."""
    return tuple(spec for spec in ASSETS if partitions_of(study, spec))


def cells(study: Study) -> tuple[Cell, ...]:
    """Every cell of the study, each after all that it is made from."""
    return tuple(Cell(spec.name, partition) for spec in ASSETS for partition in partitions_of(study, spec))


def inputs_of(study: Study, cell: Cell) -> tuple[Cell, ...]:
    """The cells that `cell` is made from."""
    read_from = cell.spec.read_from or _same_coordinates
    needed = (
        Cell(asset, partition.narrowed(ASSET[asset].dimensions))
        for asset in cell.spec.inputs
        for partition in read_from(study, cell.partition, asset)
    )
    return tuple(dict.fromkeys(needed))


def upstream_of(study: Study, spec: AssetSpec) -> tuple[str, ...]:
    """The assets that some cell of `spec` is made from: an arm may need none of what other kinds of arm need."""
    read = {needed.asset for p in partitions_of(study, spec) for needed in inputs_of(study, Cell(spec.name, p))}
    return tuple(name for name in spec.inputs if name in read)


def checked_with(study: Study, cell: Cell) -> tuple[Cell, ...]:
    """The cells that the checks of `cell` read in addition to it."""
    return tuple(Cell(name, cell.partition.narrowed(ASSET[name].dimensions)) for name in cell.spec.checked_with)


def needs_of(study: Study, cell: Cell) -> set[Cell]:
    """The cells that must be up to date before `cell` is built: those it is made from and checked with."""
    return {*inputs_of(study, cell), *checked_with(study, cell)}


def _same_coordinates(study: Study, partition: Partition, asset: str) -> Iterator[Partition]:
    yield partition


def settings_of(study: Study, cell: Cell, hash_file: HashFile) -> JsonSettings:
    """All settings that decide the cell's contents."""
    return {**cell.spec.settings(study), **cell.spec.own_settings(study, cell.partition, hash_file)}


def recipe_of(cell: Cell, settings: JsonSettings, inputs: tuple[InputVersion, ...]) -> str:
    """The recipe of the cell: a hash of everything that decides its contents."""
    return recipe_hash(cell.asset, cell.partition, cell.spec.code_version, settings, inputs)


def asset_code_version(study: Study, spec: AssetSpec) -> str:
    """The code version that Dagster shows: the asset's code constant with the settings that all its partitions share.

    A partition's own settings (its task's source) are left out, so that a new task leaves the others fresh; the planner
    compares those partition by partition.
    """
    return f"{spec.code_version}-{canonical_hash(spec.settings(study))[:12]}"
