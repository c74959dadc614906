"""Writes the model of a checkpoint into a directory of its own, with everything that must be said of it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lwf_assets.delivery.bill_of_materials import bill_of_materials
from lwf_assets.delivery.model_card import Form, base_for_others, model_card
from lwf_assets.delivery.provenance import provenance_statement
from lwf_assets.disk.hashes import hash_file
from lwf_assets.errors import LwfError
from lwf_assets.lineage.audit import Audit, audit
from lwf_assets.lineage.open_lineage import write_events
from lwf_assets.progress import SILENT, Progress
from lwf_assets.store.bases import base_in_store
from lwf_assets.store.layout import SEEDS, UNLEARNING_LEDGER, seed_folder, seeds_of
from lwf_assets.store.manifest import MANIFEST, Manifest
from lwf_assets.store.store import Store

CARD, LINEAGE = "README.md", "lineage.openlineage.jsonl"
PROVENANCE, BILL = "provenance.intoto.json", "bom.cdx.json"


@dataclass(frozen=True)
class Export:
    """What was written, and the audit that it rests on."""

    folder: Path
    seed: int
    audit: Audit


def export(
    store: Store,
    manifest: Manifest,
    folder: Path,
    *,
    seed: int | None = None,
    merge: bool = False,
    progress: Progress = SILENT,
) -> Export:
    """Write the model of one seed of a checkpoint into `folder`.

    Every byte of the chain is hashed first. Beside weights and tokenizer there are the model card (README.md), the
    lineage as OpenLineage events, an in-toto statement with SLSA provenance, and a CycloneDX bill of materials. A
    checkpoint that is an adapter is written as one, whose settings name its base, unless it is to be merged.

    Args:
        store: where the checkpoint is.
        manifest: the checkpoint's.
        folder: where to; must not exist, or be empty.
        seed: which of its seeds; None for the first.
        merge: add the update of an adapter to the weights of its base, in float32, and write a plain model.
        progress: notified of files that are hashed.

    Raises:
        LwfError: not a checkpoint, no such seed, a folder that is in use, nothing to merge, or a chain that is not as
            it was recorded. Nothing is left half written.
    """
    from lwf_assets.engine.adapter import is_adapter

    store.bring(manifest)
    checkpoint = store.artifact_folder(manifest)
    if not (checkpoint / SEEDS).is_file():
        raise LwfError(f"{manifest.name}: is not a checkpoint; give one, such as 'lwf_checkpoint[forgetting|learning]'")
    seeds = seeds_of(checkpoint)
    chosen = seeds[0] if seed is None else seed
    if chosen not in seeds:
        raise LwfError(f"{manifest.name}: has no seed {chosen}; its seeds are {', '.join(map(str, seeds))}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LwfError(f"{folder}: is in use; give a directory that is empty or does not exist")
    adapter = is_adapter(seed_folder(checkpoint, chosen))
    if merge and not adapter:
        raise LwfError(f"{manifest.name}: holds whole models, so there is nothing to merge; leave out --merge")
    found = audit(store, manifest, verify=True, progress=progress)
    if not found.holds:
        raise LwfError(f"{manifest.name}: is not as it was recorded, so it is not exported; see `lwf audit --verify`")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as unfinished:
        out = Path(unfinished) / "model"
        out.mkdir()
        for path in sorted(seed_folder(checkpoint, chosen).iterdir()):
            if path.is_file() and path.name not in (MANIFEST, UNLEARNING_LEDGER):
                shutil.copyfile(path, out / path.name)
        if adapter:
            _finish_adapter(store, found, out, merge=merge)
        form: Form = "whole" if not adapter else "merged" if merge else "adapter"
        (out / CARD).write_text(model_card(store, found, seed=chosen, form=form), encoding="utf-8")
        write_events(out / LINEAGE, store, found.chain)
        (out / BILL).write_text(bill_of_materials(found.chain), encoding="utf-8")
        subjects = {path.name: hash_file(path) for path in sorted(out.iterdir())}
        (out / PROVENANCE).write_text(provenance_statement(found.chain, subjects), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        out.rename(folder)
    return Export(folder, chosen, found)


def _finish_adapter(store: Store, found: Audit, out: Path, *, merge: bool) -> None:
    """Let the adapter in `out` name its base as others know it; or put the merged model in its place."""
    from lwf_assets.engine.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, rewrite_config

    if not merge:
        name, revision = base_for_others(store, found.chain.end)
        rewrite_config(out, base=name, revision=revision)
        return
    from lwf_assets.engine.checkpoint import load_model

    load_model(out, base_in_store(store, found.chain.end.manifest), merged=True).save_pretrained(out)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        (out / name).unlink()
