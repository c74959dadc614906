"""Everything in a store that is not as it was written: artifacts, manifests, pointers, verdicts, unfinished work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lwf_assets.disk.hashes import hash_file
from lwf_assets.disk.sums import SUMS, is_as_summed, unsealed
from lwf_assets.lineage.chain import Fault
from lwf_assets.lineage.garbage import KEPT
from lwf_assets.store.manifest import MANIFEST, VERSION_LENGTH, Manifest, is_older_than_seals
from lwf_assets.store.records import believed, read_verdicts
from lwf_assets.store.store import STUDIES, Store


def store_faults(store: Store, *, hashed: Callable[[Path], object] = lambda path: None) -> Iterator[Fault]:
    """Every fault of a store, by folder. Versions that were removed on purpose are none.

    Args:
        store: what is looked through; every byte of its artifacts is hashed.
        hashed: called with each file that was hashed, to show progress.
    """
    current = dict(store.current_manifests())
    for folder in sorted(path for path in store.root.glob("*/*") if path.is_dir()):
        yield from _of_links(folder)
        yield from _of_records(folder)
        yield from _of_pointer(folder, current)
        yield from _of_versions(store, folder, current.get(folder / "current"), hashed)
        yield from _of_scratch(folder)
    for path in sorted((store.root / STUDIES).glob("*.json")):
        if path.stem != hash_file(path):
            yield Fault(STUDIES, "", path, "the settings of a study were changed")
    yield from _of_kept(store.root / KEPT)


def files_to_hash(store: Store) -> int:
    """How many files `store_faults` hashes."""
    return sum(len(manifest.files) for _, manifest in _versions_of(store, store.root.glob("*/*")))


def _of_links(folder: Path) -> Iterator[Fault]:
    """Of the records; in artifacts, links are among the other troubles."""
    names = ("current", "recipes/*", "manifests/*", "checks/*", "scratch/**/*")
    for path in sorted(path for name in names for path in folder.glob(name) if path.is_symlink()):
        yield Fault(_name(folder), "", path, f"the file was replaced by a link to {path.readlink()}")


def _of_records(folder: Path) -> Iterator[Fault]:
    for path in (*sorted((folder / "recipes").glob("*.json")), *sorted((folder / "manifests").glob("*.json"))):
        if believed(path, folder) is None:
            yield Fault(_name(folder), "", path, "the manifest is not as it was written")
    studies = folder.parent.parent / STUDIES
    for path in sorted((folder / "manifests").glob("*.json")):
        manifest = believed(path, folder)
        if manifest is None:
            continue
        recipe = folder / "recipes" / f"{manifest.recipe}.json"
        if not recipe.exists():
            yield Fault(_name(folder), manifest.version, recipe, "the manifest is missing where its recipe leads to it")
        study = studies / f"{manifest.provenance.get('study_settings')}.json"
        if "study_settings" in manifest.provenance and not study.exists():
            yield Fault(_name(folder), manifest.version, study, "the settings of its study are missing")
    for path in sorted((folder / "checks").glob("*.json")):
        if read_verdicts(path) is None:
            yield Fault(_name(folder), "", path, "what the checks said was changed; the next build runs them again")


def _of_pointer(folder: Path, current: dict[Path, Manifest | None]) -> Iterator[Fault]:
    pointer = folder / "current"
    if not pointer.exists() and _version_folders(folder):
        yield Fault(_name(folder), "", pointer, "no version is current; the next build sets one")
    if pointer in current and current[pointer] is None:
        yield Fault(_name(folder), "", pointer, "leads to no manifest; the next build sets it anew")


def _of_versions(
    store: Store, folder: Path, current: Manifest | None, hashed: Callable[[Path], object]
) -> Iterator[Fault]:
    found = dict(_versions_of(store, [folder]))
    for version, manifest in found.items():
        for path, what in store.troubles(manifest, hashed):
            yield Fault(manifest.name, manifest.version, path, what)
        if not version.is_dir():
            continue  # the shared store alone has its files
        beside = version / MANIFEST
        sealed = folder / "manifests" / f"{_seal_of(beside)}.json"
        if believed(sealed, folder) is None and not is_older_than_seals(manifest):
            if sealed.stem != manifest.seal:
                yield Fault(manifest.name, manifest.version, beside, "the manifest is not as it was written")
            elif not sealed.exists():
                yield Fault(manifest.name, manifest.version, sealed, "the manifest is missing")
    for version in _version_folders(folder):
        if version not in found:
            yield Fault(_name(folder), version.name, version, "no manifest of this artifact is as it was written")
    if current is not None and not store.is_there(current):
        yield Fault(current.name, current.version, folder / current.version, "the artifact's files are missing")


def _seal_of(path: Path) -> str:
    return hash_file(path) if path.is_file() and not path.is_symlink() else ""


def _of_scratch(folder: Path) -> Iterator[Fault]:
    what = "unfinished work is not as it was written; the next build does it again"
    for path in sorted((folder / "scratch").rglob(SUMS)):
        if not is_as_summed(path.parent):
            yield Fault(_name(folder), "", path.parent, what)
    for path in sorted((folder / "scratch").glob("*/shard-*.json")):
        if unsealed(path) is None:
            yield Fault(_name(folder), "", path, what)


def _of_kept(path: Path) -> Iterator[Fault]:
    try:
        if path.exists() and not isinstance(json.loads(path.read_text(encoding="utf-8")), list):
            raise ValueError
    except ValueError:
        yield Fault(KEPT, "", path, "the list of what is kept cannot be read")


def _versions_of(store: Store, folders: Iterable[Path]) -> Iterator[tuple[Path, Manifest]]:
    """Every folder of an artifact, here or in the shared store, with the newest manifest that is of its version."""
    for folder in folders:
        records = [*(folder / "manifests").glob("*.json"), *(folder / "recipes").glob("*.json")]
        by_version: dict[str, Manifest] = {}
        for path in sorted(records, key=lambda path: path.stat().st_mtime_ns):
            manifest = believed(path, folder)
            if manifest is not None:
                by_version[manifest.version] = manifest
        for version, manifest in sorted(by_version.items()):
            if store.is_there(manifest):
                yield folder / version, manifest


def _version_folders(folder: Path) -> list[Path]:
    hexadecimal = "[0-9a-f]" * VERSION_LENGTH
    return sorted(path for path in folder.glob(hexadecimal) if path.is_dir())


def _name(folder: Path) -> str:
    return f"{folder.parent.name}[{folder.name}]"
