"""The manifest of an artifact: what it is, what it was made from, and the hashes that follow from both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lwf_assets.disk.hashes import canonical_hash
from lwf_assets.errors import LwfError
from lwf_assets.store.partition import Partition

MANIFEST = "manifest.json"
VERSION_LENGTH = 16


def cell_name(asset: str, key: str | None) -> str:
    """A cell in words that can be given back: `asset[partition]`."""
    return f"{asset}[{key}]" if key else asset


@dataclass(frozen=True, order=True)
class InputVersion:
    """One thing that an artifact was made from. `seal` is its manifest's; None in manifests older than seals."""

    asset: str
    partition: str | None
    version: str
    seal: str | None = None


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact: its path inside it, sha256 in hex, size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and what it was made from.

    `recipe` hashes asset, partition, code version, settings and inputs: everything that decides the contents. `version`
    hashes the contents. `provenance` (seeds, library versions, git commit, wall time in seconds, the study's settings,
    Dagster run) and `summary` (figures for people) decide nothing.
    """

    asset: str
    partition: str | None
    version: str
    recipe: str
    code_version: str
    settings: dict[str, Any]
    inputs: tuple[InputVersion, ...]
    files: tuple[FileEntry, ...]
    summary: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The manifest as indented JSON with sorted keys."""
        values = asdict(self)
        for entry in values["inputs"]:
            if entry["seal"] is None:
                del entry["seal"]
        return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @property
    def seal(self) -> str:
        """sha256, in hex, of the manifest as it is written."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def name(self) -> str:
        """The artifact's cell, as `asset[partition]`."""
        return cell_name(self.asset, self.partition)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The manifest in the file `path`.

        Raises:
            LwfError: the file is not a manifest.
        """
        try:
            return cls.parse(path.read_bytes())
        except ValueError as error:
            raise LwfError(f"{path}: not a manifest of this store ({error}); remove it and build again") from None

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """The manifest that is written so.

        Raises:
            ValueError: it is not one.
        """
        try:
            values = json.loads(content.decode("utf-8"))
            values["inputs"] = tuple(InputVersion(**entry) for entry in values["inputs"])
            values["files"] = tuple(FileEntry(**entry) for entry in values["files"])
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None


def is_older_than_seals(manifest: Manifest) -> bool:
    """Whether it was written when manifests were not yet kept by their seals."""
    return "study_settings" not in manifest.provenance


def recipe_hash(
    asset: str, partition: Partition, code_version: str, settings: Mapping[str, Any], inputs: tuple[InputVersion, ...]
) -> str:
    """Hash of everything that decides an artifact's contents."""
    return _recipe(asset, partition.key, code_version, settings, inputs)


def recorded_recipe(manifest: Manifest) -> str:
    """The recipe that follows from what a manifest says: its own, unless somebody changed it."""
    return _recipe(manifest.asset, manifest.partition, manifest.code_version, manifest.settings, manifest.inputs)


def contents_version(files: Iterable[FileEntry]) -> str:
    """Hash of an artifact's contents."""
    return canonical_hash([[entry.path, entry.sha256] for entry in files])[:VERSION_LENGTH]


def _recipe(
    asset: str, key: str | None, code_version: str, settings: Mapping[str, Any], inputs: tuple[InputVersion, ...]
) -> str:
    made_from = [[entry.asset, entry.partition, entry.version] for entry in sorted(inputs, key=input_order)]
    return canonical_hash([asset, key, code_version, settings, made_from])[:VERSION_LENGTH]


def input_order(entry: InputVersion) -> tuple[str, str, str]:
    """Sorts the inputs of a manifest."""
    return entry.asset, entry.partition or "", entry.version
