"""Which base a checkpoint was trained from: what an adapter is opened on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lwf_assets.store.manifest import InputVersion, Manifest
from lwf_assets.store.store import Artifact, Store

BASES = ("base_model", "control_base")
"""The assets that fine-tunes begin at."""


def base_input(checkpoint: Manifest) -> InputVersion | None:
    """What the manifest of a checkpoint says; None if it was made from no base."""
    return next((entry for entry in checkpoint.inputs if entry.asset in BASES), None)


def base_among(checkpoint: Manifest, artifacts: Iterable[Artifact]) -> Path | None:
    """The folder of its base, if that is one of `artifacts`."""
    base = base_input(checkpoint)
    if base is None:
        return None
    wanted = (base.asset, base.version)
    return next((made.path for made in artifacts if (made.manifest.asset, made.version) == wanted), None)


def base_in_store(store: Store, checkpoint: Manifest) -> Path | None:
    """The folder of its base, if that is still there; what only a shared store has is brought."""
    base = base_input(checkpoint)
    if base is None:
        return None
    sealed = store.sealed_path(base, str(base.seal))
    if sealed.is_file():
        store.bring(Manifest.read(sealed))
    folder = store.artifact_folder(base)
    return folder if folder.is_dir() else None
