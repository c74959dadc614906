"""Making an artifact again from what it was made from: the same bytes, unless something was changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file
from world import World

from lwf_assets.errors import LwfError
from lwf_assets.lineage.audit import audit
from lwf_assets.lineage.chain import read_chain
from lwf_assets.lineage.find import find_manifest
from lwf_assets.lineage.replay import replay
from lwf_assets.store.tables import read_rows, write_rows

CELL = "teeth|sums"


def test_a_checkpoint_made_again_is_the_same_bit_for_bit(built: World) -> None:
    told = audit(built.home.store, find_manifest(built.home.store, CELL), replay_end=True)
    (result,) = told.replayed
    assert result.artifact == f"lwf_checkpoint[{CELL}]"
    assert result.is_same
    assert told.holds
    assert not list(built.home.store.root.glob("lwf-replay-*"))


def test_weights_that_were_changed_differ_by_as_much(built: World) -> None:
    store = built.home.store
    path = built.artifact("lwf_checkpoint") / "seed-0" / "model.safetensors"
    weights = load_file(path)
    name = max(weights, key=lambda key: weights[key].numel())
    weights[name][0, 0] += 0.25
    save_file(weights, path, metadata={"format": "pt"})
    # The manifest is forged to fit: only the training itself can tell.
    chain = read_chain(store, find_manifest(store, CELL))
    result = replay(store, chain, chain.end)
    assert result.is_same  # the recorded hashes are still those of the true weights
    files = tuple(
        replace(entry, sha256="0" * 64) if entry.path == "seed-0/model.safetensors" else entry
        for entry in chain.end.manifest.files
    )
    result = replay(store, chain, replace(chain.end, manifest=replace(chain.end.manifest, files=files)))
    assert result.differing == ("seed-0/model.safetensors",)
    assert result.largest_difference == pytest.approx(0.25, rel=1e-5)


def test_other_training_rows_give_other_weights(built: World) -> None:
    store = built.home.store
    table = built.artifact("learning_data") / "train.parquet"
    rows = read_rows(table)
    rows[0]["target"] = "99"
    write_rows(table, rows, pq.read_schema(table))
    chain = read_chain(store, find_manifest(store, CELL))
    result = replay(store, chain, chain.end)
    assert "seed-0/model.safetensors" in result.differing
    assert result.largest_difference is not None
    assert 0 < result.largest_difference < 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"code_version": "0"}, "check out commit"),
        ({"provenance": {"study_settings": "0" * 64}}, "settings of its study were not kept"),
    ],
)
def test_what_cannot_be_made_again_is_told(built: World, change: dict[str, object], told: str) -> None:
    chain = read_chain(built.home.store, find_manifest(built.home.store, CELL))
    changed = replace(chain.end, manifest=replace(chain.end.manifest, **change))
    with pytest.raises(LwfError, match=told):
        replay(built.home.store, chain, changed)


def test_the_study_that_is_kept_is_the_one_in_the_manifest(built: World, tmp_path: Path) -> None:
    """Editing the study file afterwards changes nothing of what is replayed."""
    built.values["training"]["learning_rate"] = 0.5
    (built.folder / "study.yaml").write_text(json.dumps(built.values))
    chain = read_chain(built.home.store, find_manifest(built.home.store, f"scored_forget_set[{CELL}]"))
    assert replay(built.home.store, chain, chain.end).is_same
