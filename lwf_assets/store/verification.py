"""Whether the files of an artifact are those of its manifest: asked before anything is computed from them.

A file is hashed once, and again when its stamp (see `disk/hashes.py`) is another. What was hashed is remembered beside
the artifact; a memory that is lost only costs time.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lwf_assets.disk.hashes import hash_file, stamp_of
from lwf_assets.disk.sums import each_in_threads, files_below, trouble_with
from lwf_assets.errors import LwfError
from lwf_assets.store.manifest import MANIFEST, Manifest

Remembered = dict[str, tuple[int, int, int, int, str]]
"""By the name of a file: its stamp, and its sha256."""

_REMEMBERED = TypeAdapter(Remembered)


class DamagedArtifactError(LwfError):
    """The files of an artifact are not those that its manifest lists."""


class Memory:
    """What was hashed: sha256 by name and stamp, in one JSON file. One that is lost only costs time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def known(self) -> Remembered:
        """By path: the stamp, and the sha256 that the file had with it."""
        try:
            known: Remembered = _REMEMBERED.validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return {}
        return known

    def keep(self, known: Remembered) -> None:
        """Remember; where nothing can be written, as on a full disk, do not."""
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f".{self._path.name}-", dir=self._path.parent)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(known, file)
                os.replace(name, self._path)
            finally:
                Path(name).unlink(missing_ok=True)


def troubles(
    folder: Path,
    manifest: Manifest,
    memory: Memory | None = None,
    ending: str | tuple[str, ...] = "",
    hashed: Callable[[Path], object] = lambda path: None,
) -> list[tuple[Path, str]]:
    """Every file in `folder` that is not as `manifest` lists it, one that it does not list included, and what is wrong
    with it.

    Args:
        folder: where the files are.
        manifest: what they should be.
        memory: what was hashed before; without it, every byte is hashed.
        ending: of the names of the files that matter, or several; by default, all do.
        hashed: called with each file that was looked at.
    """
    known = memory.known() if memory is not None else {}
    fresh: Remembered = {}

    def look(entry: tuple[str, str]) -> str | None:
        name, sha256 = entry

        def remembered(path: Path) -> str:
            stamp = stamp_of(path)
            before = known.get(name)
            digest = before[-1] if before is not None and before[:-1] == stamp else hash_file(path)
            fresh[name] = (*stamp, digest)
            return digest

        trouble = trouble_with(folder / name, sha256, remembered)
        hashed(folder / name)
        return trouble

    listed = [(entry.path, entry.sha256) for entry in manifest.files if entry.path.endswith(ending)]
    found = [
        (folder / name, what)
        for (name, _), what in zip(listed, each_in_threads(look, listed), strict=True)
        if what is not None
    ]
    if memory is not None and {**known, **fresh} != known:
        memory.keep({**known, **fresh})
    names = {folder / entry.path for entry in manifest.files} | {folder / MANIFEST}
    added = [path for path in files_below(folder) if path not in names and path.name.endswith(ending)]
    return [*found, *((path, "the file was added: the manifest does not list it") for path in added)]


def refuse_damaged(
    folder: Path, manifest: Manifest, memory: Memory | None = None, ending: str | tuple[str, ...] = ""
) -> None:
    """Hash what was not hashed yet.

    Raises:
        DamagedArtifactError: names the first file that is not as the manifest lists it, and what to do.
    """
    found = troubles(folder, manifest, memory, ending)
    if found:
        path, what = found[0]
        more = f" ({len(found) - 1} more files are damaged too)" if len(found) > 1 else ""
        raise DamagedArtifactError(
            f"{manifest.name} {manifest.version}: {path}: {what}{more}. Nothing was computed from it. `lwf repair` "
            "can make it again from its recipe; or restore the file, or make it anew with "
            f"`lwf build --force {manifest.asset}`"
        )
