"""What is written down of the artifacts of one partition, and what of it is believed: only what is as it was written.

`folder` is the partition's, `<root>/<asset>/<partition>`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lwf_assets.disk.hashes import canonical_hash, hash_file
from lwf_assets.errors import LwfError
from lwf_assets.store.manifest import MANIFEST, Manifest, contents_version, is_older_than_seals
from lwf_assets.store.partition import folder_name

VERDICTS_SEAL = "sha256"
"""Key, beside the checks' names, of the hash of what they said."""


def current_recipe(folder: Path) -> str | None:
    """None too where the pointer is damaged: the next build sets it anew."""
    try:
        recipe = (folder / "current").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return recipe if re.fullmatch(r"[\w-]+", recipe) else None


def current_manifest_in(folder: Path) -> Manifest | None:
    """The manifest that the pointer leads to; None where it leads to none."""
    recipe = current_recipe(folder)
    return None if recipe is None else manifest_of_recipe(folder, recipe)


def manifest_of_recipe(folder: Path, recipe: str) -> Manifest | None:
    """The manifest of what a recipe last gave. Where its entry is damaged, it is found by its seal."""
    entry = folder / "recipes" / f"{recipe}.json"
    manifest = believed(entry, folder)
    if manifest is not None or not entry.exists():
        return manifest
    kept = sorted((folder / "manifests").glob("*.json"), key=lambda path: -path.stat().st_mtime_ns)
    sealed = (believed(path, folder) for path in kept)
    return next((manifest for manifest in sealed if manifest is not None and manifest.recipe == recipe), None)


def believed(path: Path, folder: Path) -> Manifest | None:
    """The manifest in a file of the `recipes` or the `manifests` of `folder`; None where it is missing, or is not as it
    was written: not sealed, or of another cell or recipe than the place that it is at.

    Raises:
        LwfError: it is as it was written, but not by this version of the code.
    """
    try:
        seal = hash_file(path)
    except OSError:
        return None
    sealed = folder / "manifests" / f"{seal}.json"
    try:
        manifest = Manifest.read(path)
    except LwfError:
        if sealed.is_file():  # it is as it was written, by another version of this code
            raise
        return None
    if path.parent.name == "recipes":
        named = path.stem == manifest.recipe and (sealed.is_file() or _is_beside_the_files(manifest, seal, folder))
    else:
        named = path.stem == seal
    of_folder = (manifest.asset, folder_name(manifest.partition)) == (folder.parent.name, folder.name)
    return manifest if named and of_folder and contents_version(manifest.files) == manifest.version else None


def _is_beside_the_files(manifest: Manifest, seal: str, folder: Path) -> bool:
    """Whether the copy beside the files has that seal too; where they are gone, whether there were no seals yet."""
    beside = folder / manifest.version / MANIFEST
    return hash_file(beside) == seal if beside.is_file() else is_older_than_seals(manifest)


def read_verdicts(path: Path) -> dict[str, dict[str, Any]] | None:
    """What checks said, by check; None where the file is missing or was changed since it was written."""
    try:
        return _verdicts_in(path.read_bytes())
    except OSError:
        return None


def sealed_verdicts(verdicts: dict[str, dict[str, Any]]) -> str:
    """What checks said, as it is written."""
    return json.dumps({**verdicts, VERDICTS_SEAL: canonical_hash(verdicts)}, indent=2, sort_keys=True) + "\n"


def merged_verdicts(theirs: bytes, ours: bytes) -> bytes:
    """What checks said on two machines; of one that ran on both, what it said here."""
    return sealed_verdicts({**(_verdicts_in(theirs) or {}), **(_verdicts_in(ours) or {})}).encode()


def _verdicts_in(content: bytes) -> dict[str, dict[str, Any]] | None:
    try:
        verdicts: dict[str, Any] = json.loads(content.decode("utf-8"))
        seal = verdicts.pop(VERDICTS_SEAL, None)
        whole = seal in (None, canonical_hash(verdicts))  # None: from before there were seals
    except (ValueError, AttributeError):
        return None
    return verdicts if whole and all(isinstance(verdict, dict) for verdict in verdicts.values()) else None
