"""Finds the artifact that a person names: by path, by cell, by version, by seal."""

from __future__ import annotations

import re
from pathlib import Path

from lwf_assets.errors import LwfError
from lwf_assets.store.manifest import MANIFEST, Manifest
from lwf_assets.store.store import Store

SHORTEST = 6
"""Characters of a hash that may stand for it."""

_HASH = re.compile(rf"[0-9a-f]{{{SHORTEST},64}}")
_CELL = re.compile(r"(?P<asset>[a-z_]+)(\[(?P<key>[^\]]+)\])?")


def find_manifest(store: Store, name: str) -> Manifest:
    """The manifest of the artifact called `name`.

    Args:
        store: where to look.
        name: a folder of the store, or a file or folder below it; `asset[partition]`, for what is current of that
            cell; `forgetting|learning`, for that cell's current lwf_checkpoint; a version, a recipe or a seal, or the
            beginning of one.

    Raises:
        LwfError: no such artifact, or there are several.
    """
    path = Path(name).expanduser()
    if path.exists():
        return _at(store, path.resolve())
    if _HASH.fullmatch(name):
        return _by_hash(store, name)
    if "|" in name and "[" not in name:
        return _current(store, "lwf_checkpoint", name)
    cell = _CELL.fullmatch(name)
    if cell is not None and (store.root / cell["asset"]).is_dir():
        return _current(store, cell["asset"], cell["key"])
    raise LwfError(
        f"{name!r}: no such artifact in {store.root}; give the path of its folder, a cell such as "
        "'lwf_checkpoint[forgetting|learning]', a version, or the beginning of one"
    )


def _at(store: Store, path: Path) -> Manifest:
    root = store.root.resolve()
    if root not in path.parents:
        raise LwfError(f"{path}: is outside the store {root}; set LWF_HOME to the home that it belongs to")
    parts = path.relative_to(root).parts
    folder = root.joinpath(*parts[:3])
    if len(parts) < 3 or not (folder / MANIFEST).is_file():
        raise LwfError(f"{path}: is not an artifact; those of {root} are in <asset>/<partition>/<version>")
    return _of_current_recipe(store, Manifest.read(folder / MANIFEST))


def _of_current_recipe(store: Store, manifest: Manifest) -> Manifest:
    """Of several recipes that gave these contents, the manifest of the current one; else of the newest."""
    same = [m for m in store.manifests() if _cell(m) == _cell(manifest) and m.version == manifest.version]
    return next((m for m in same if store.is_current(m)), same[0] if same else manifest)


def _current(store: Store, asset: str, key: str | None) -> Manifest:
    found = store.current_manifest(asset, key)
    if found is None:
        there = ", ".join(sorted({m.name for m in store.manifests(asset) if store.is_current(m)}))
        raise LwfError(f"{asset}[{key}]: is not built; available: {there or 'none of this asset'}")
    return found


def _by_hash(store: Store, beginning: str) -> Manifest:
    found = [m for m in store.manifests() if any(h.startswith(beginning) for h in (m.version, m.recipe, m.seal))]
    artifacts = {store.artifact_folder(m) for m in found}
    if not found:
        raise LwfError(f"{beginning}: no artifact in {store.root} has a version, recipe or seal with this prefix")
    if len(artifacts) > 1:
        names = ", ".join(sorted(f"{m.name} {m.version}" for m in found)[:5])
        raise LwfError(
            f"{beginning}: ambiguous prefix, which matches {len(artifacts)} artifacts: {names}; give more characters"
        )
    if any(m.version.startswith(beginning) for m in found):
        return _of_current_recipe(store, found[0])
    return found[0]


def _cell(manifest: Manifest) -> tuple[str, str | None]:
    return manifest.asset, manifest.partition
