"""The chain of an artifact: itself and all that it was made from, by the manifests alone.

Each manifest names the seals of its inputs' manifests, so the chain is read by hash: what was changed since does not
fit under the name that it was recorded by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lwf_assets.errors import LwfError
from lwf_assets.store.manifest import MANIFEST, InputVersion, Manifest, cell_name
from lwf_assets.store.store import Store


@dataclass(frozen=True)
class Fault:
    """Something of an artifact that is not as it was recorded."""

    artifact: str
    version: str
    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.artifact} {self.version}: {self.path}: {self.what}"


@dataclass(frozen=True)
class Link:
    """One artifact of a chain. `sealed`: its manifest was found under the hash that it was recorded by."""

    manifest: Manifest
    folder: Path
    sealed: bool

    @property
    def name(self) -> str:
        """The artifact's cell, as `asset[partition]`."""
        return self.manifest.name


@dataclass(frozen=True)
class Chain:
    """An artifact with all that it was made from, each after its inputs; the artifact itself is the last."""

    links: tuple[Link, ...]
    faults: tuple[Fault, ...]
    """What kept the chain from being read whole by hash."""

    @property
    def end(self) -> Link:
        """The artifact itself."""
        return self.links[-1]

    def of(self, asset: str) -> tuple[Link, ...]:
        """Its links of one asset."""
        return tuple(link for link in self.links if link.manifest.asset == asset)

    def inputs(self, link: Link) -> tuple[Link, ...]:
        """What a link was made from, as far as it could be read."""
        wanted = {(entry.asset, entry.partition, entry.version) for entry in link.manifest.inputs}
        return tuple(other for other in self.links if _identity(other.manifest) in wanted)


def read_chain(store: Store, manifest: Manifest) -> Chain:
    """The chain that ends in the artifact of `manifest`.

    An input whose manifest is missing, or is not what it was, is a fault; the copy next to its files is used instead,
    so that the rest can still be reported.
    """
    reader = _Reader(store)
    reader.read(manifest, sealed=store.sealed_path(manifest, manifest.seal).is_file())
    return Chain(tuple(reader.links.values()), tuple(reader.faults))


def _identity(entry: InputVersion | Manifest) -> tuple[str, str | None, str]:
    return entry.asset, entry.partition, entry.version


class _Reader:
    """Goes up the chain, inputs first, and takes each artifact once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.links: dict[tuple[str, str | None, str], Link] = {}
        self.faults: list[Fault] = []

    def read(self, manifest: Manifest, *, sealed: bool) -> None:
        if _identity(manifest) in self.links:
            return
        for entry in manifest.inputs:
            if _identity(entry) not in self.links:
                for found, known in self._manifest_of(entry):
                    self.read(found, sealed=known)
        self.links[_identity(manifest)] = Link(manifest, self.store.artifact_folder(manifest), sealed)

    def _manifest_of(self, entry: InputVersion) -> Iterator[tuple[Manifest, bool]]:
        """The manifest of an input and whether it is the one that was recorded; nothing where none can be read."""
        name = cell_name(entry.asset, entry.partition)
        beside = self.store.artifact_folder(entry) / MANIFEST
        if entry.seal is not None:
            path = self.store.sealed_path(entry, entry.seal)
            what = _trouble(path, entry.seal)
            if what is None:
                yield Manifest.read(path), True
                return
            self.faults.append(Fault(name, entry.version, path, what))
        try:
            yield Manifest.read(beside), False
        except (OSError, LwfError) as error:
            self.faults.append(Fault(name, entry.version, beside, f"cannot be read: {error}"))


def _trouble(path: Path, seal: str) -> str | None:
    """Why the file is not the manifest of that seal; None if it is."""
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return "the manifest is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if found == seal else f"the manifest was changed: its sha256 is {found[:16]}.. now"
