"""The reverse question: which checkpoints learned from a row, or forgot a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lwf_assets.errors import LwfError
from lwf_assets.lineage.chain import read_chain
from lwf_assets.lineage.forgotten import UnlearnedSample, unlearned_samples
from lwf_assets.store.layout import TABLES, TRAIN_ROWS
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.store import Store
from lwf_assets.store.tables import read_rows

CHECKPOINTS = ("reference_checkpoint", "lwf_checkpoint", "arm_checkpoint")


@dataclass(frozen=True)
class Traced:
    """One checkpoint that has to do with what was asked for."""

    checkpoint: str
    version: str
    current: bool
    """Whether it is what its study last asked for."""
    learned: tuple[str, ...]
    """Ids of the training rows."""
    forgotten: tuple[UnlearnedSample, ...]


def trace(store: Store, *, sample: str | None = None, text: str | None = None) -> list[Traced]:
    """Every checkpoint in the store that was trained on, or unlearned, a row; newest first.

    Args:
        store: where to look; checkpoints of which only the manifest is left are passed over.
        sample: id of a training row or of a sample of D_self; a prompt's id stands for all samples of the prompt.
        text: part of the prompt, the target or the sample's text; case and spacing do not matter.

    Raises:
        LwfError: neither is given, or both are.
    """
    if (sample is None) == (text is None):
        raise LwfError("trace: give either the id of a sample or a text")
    matches = _by_id(sample) if sample is not None else _by_text(str(text))
    learned: dict[str, tuple[str, ...]] = {}
    found = []
    for manifest in _checkpoints(store):
        chain = read_chain(store, manifest)
        for link in chain.links:
            store.bring(link.manifest, TABLES)
        rows: list[str] = []
        for link in chain.inputs(chain.end):
            version = link.manifest.version
            if link.manifest.asset == "learning_data":
                if version not in learned:
                    table = read_rows(link.folder / TRAIN_ROWS)
                    learned[version] = tuple(row["id"] for row in table if matches(row))
                rows += learned[version]
        forgot = tuple(s for s in unlearned_samples(chain) if matches({"id": s.id, "prompt": s.prompt, "text": s.text}))
        if rows or forgot:
            current = store.is_current(manifest)
            found.append(Traced(manifest.name, manifest.version, current, tuple(rows), forgot))
    return found


def _checkpoints(store: Store) -> Iterator[Manifest]:
    """Every checkpoint that is there, once, whatever number of recipes gave it."""
    seen = set()
    for manifest in store.manifests():
        folder = store.artifact_folder(manifest)
        if manifest.asset in CHECKPOINTS and folder not in seen and store.is_there(manifest):
            seen.add(folder)
            yield manifest


def _by_id(name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda row: row["id"] == name or row["id"].rpartition("/")[0] == name


def _by_text(words: str) -> Callable[[Mapping[str, Any]], bool]:
    wanted = _plain(words)
    if not wanted:
        raise LwfError("trace: the text is empty; give some words of the row")
    return lambda row: any(wanted in _plain(row.get(name) or "") for name in ("prompt", "target", "text"))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
