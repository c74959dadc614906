"""Where everything that is built lives: the store, Dagster's instance, MLflow's database."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock

from lwf_assets.disk.hashes import hash_file, stamp_of
from lwf_assets.shipped import shipped
from lwf_assets.store.store import Store
from lwf_assets.store.verification import Memory

HOME_VARIABLE = "LWF_HOME"
STUDY_VARIABLE = "LWF_STUDY"
REMOTE_VARIABLE = "LWF_REMOTE"

DEFAULT_STUDY = shipped("studies/quickstart.yaml")
"""The embedded study."""


def default_study() -> Path:
    """What is built where no study is named: `study.yaml` of the working directory, which `lwf init` writes, or else
    the embedded study."""
    here = Path("study.yaml")
    return here if here.is_file() else DEFAULT_STUDY


@dataclass(frozen=True)
class Home:
    """A folder that holds one world of artifacts with its databases."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """`$LWF_HOME`, or `.lwf` in the working directory."""
        return cls(Path(os.environ.get(HOME_VARIABLE) or ".lwf").expanduser().resolve())

    @cached_property
    def store(self) -> Store:
        """The artifact store: a cache of the one that `LWF_REMOTE` names, if it does."""
        root, url = self.root / "store", os.environ.get(REMOTE_VARIABLE)
        if not url:
            return Store(root)
        from lwf_assets.object_storage.bucket import Bucket
        from lwf_assets.store.shared.mirror import SharedMirror

        store = Store(root, SharedMirror(root, Bucket(url)))
        store.refresh()
        return store

    @cached_property
    def file_hashes(self) -> FileHashes:
        """Hashes of source files, remembered."""
        return FileHashes(self.root / "file-hashes.json")


class FileHashes:
    """sha256 of files, read again only when their stamp changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory = Memory(path)

    def __call__(self, path: Path) -> str:
        """sha256, in hex, of the file at `path`.

        Raises:
            OSError: the file cannot be read.
        """
        stamp = stamp_of(path)
        key = str(path.resolve())
        known = self._memory.known().get(key)
        if known is not None and known[:-1] == stamp:
            return known[-1]
        digest = hash_file(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            self._memory.keep({**self._memory.known(), key: (*stamp, digest)})
        return digest
