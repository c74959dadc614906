"""Nothing in a chain can be changed without being named: a byte of any file, a manifest, a row with fresh hashes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from world import World

from lwf_assets.disk.hashes import hash_file
from lwf_assets.lineage.audit import Audit, audit
from lwf_assets.lineage.chain import Chain, Fault, read_chain
from lwf_assets.lineage.find import find_manifest
from lwf_assets.lineage.integrity import find_faults
from lwf_assets.store.manifest import MANIFEST, FileEntry, Manifest, contents_version
from lwf_assets.store.store import Store
from lwf_assets.store.tables import read_rows, write_rows

CELL = "teeth|sums"
UP_THE_CHAIN = {
    "base_model",
    "learning_data[sums]",
    "forgetting_prompts[teeth]",
    "self_generated_corpus[teeth]",
    "reference_checkpoint[sums]",
    "fisher_diagonal[sums]",
    "confidence_terms[teeth|sums]",
    "scored_forget_set[teeth|sums]",
    "lwf_checkpoint[teeth|sums]",
}


def chain_in(store: Store) -> Chain:
    return read_chain(store, find_manifest(store, CELL))


def faults_in(store: Store) -> list[Fault]:
    return list(find_faults(store, chain_in(store)))


def verified(store: Store) -> Audit:
    return audit(store, find_manifest(store, CELL), verify=True)


def flipped(path: Path) -> Iterator[None]:
    """The file with one bit of its middle byte flipped, and then as it was."""
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    yield
    path.write_bytes(whole)


def test_a_chain_that_nobody_touched_has_no_fault(built: World) -> None:
    chain = chain_in(built.home.store)
    assert {link.name for link in chain.links} == UP_THE_CHAIN
    assert chain.end.name == f"lwf_checkpoint[{CELL}]"
    assert all(link.sealed for link in chain.links)
    for number, link in enumerate(chain.links):
        made_from = {entry.version for entry in link.manifest.inputs}
        assert made_from == {earlier.manifest.version for earlier in chain.links[:number]} & made_from
    told = verified(built.home.store)
    assert told.holds
    assert [result.artifact for result in told.replayed] == [f"scored_forget_set[{CELL}]"]


def test_a_byte_of_any_file_of_any_artifact_is_named(built: World) -> None:
    store = built.home.store
    files = [(link, link.folder / entry.path) for link in chain_in(store).links for entry in link.manifest.files]
    assert {link.name for link, _ in files} == UP_THE_CHAIN
    for link, path in files:
        for _ in flipped(path):
            (fault,) = faults_in(store)
            assert (fault.artifact, fault.version, fault.path) == (link.name, link.manifest.version, path)
            assert "changed" in fault.what
    assert faults_in(store) == []


def test_a_byte_of_any_copy_of_any_manifest_is_named(built: World) -> None:
    store = built.home.store
    for link in chain_in(store).links:
        folder = store.folder_of(link.manifest.asset, link.manifest.partition)
        for path in (link.folder / MANIFEST, store.sealed_path(link.manifest, link.manifest.seal)):
            for _ in flipped(path):
                assert path in {fault.path for fault in faults_in(store)}, path
        # What the recipe points to is where a chain begins: change a word, so that it can still be read.
        path = folder / "recipes" / f"{link.manifest.recipe}.json"
        whole = path.read_text()
        path.write_text(whole.replace('"wall_seconds": ', '"wall_seconds": 1'))
        assert path in {fault.path for fault in faults_in(store)}, path
        path.write_text(whole)
    assert faults_in(store) == []


def test_a_file_or_manifest_that_is_gone_or_added_is_named(built: World) -> None:
    store = built.home.store
    corpus = built.artifact("self_generated_corpus") / "corpus.parquet"
    (corpus.parent / "more.parquet").write_bytes(corpus.read_bytes())
    assert [(fault.path.name, fault.what) for fault in faults_in(store)] == [
        ("more.parquet", "the file was added: the manifest does not list it")
    ]
    (corpus.parent / "more.parquet").rename(corpus)
    corpus.unlink()
    assert [(fault.path, fault.what) for fault in faults_in(store)] == [(corpus, "the file is missing")]
    manifest = chain_in(store).of("self_generated_corpus")[0].manifest
    sealed = store.sealed_path(manifest, manifest.seal)
    sealed.unlink()
    assert (sealed, "the manifest is missing") in {(fault.path, fault.what) for fault in faults_in(store)}


@pytest.mark.parametrize("cover_up", ["hashes", "version", "seal"])
def test_a_replaced_row_is_named_whatever_is_written_beside_it(built: World, cover_up: str) -> None:
    """Someone replaces what the model said, and makes the hashes beside it fit, further and further."""
    store = built.home.store
    manifest = chain_in(store).of("self_generated_corpus")[0].manifest
    corpus = store.artifact_folder(manifest) / "corpus.parquet"
    rows = read_rows(corpus)
    rows[2]["response"] = "I never said that"
    write_rows(corpus, rows, pq.read_schema(corpus))
    files = (FileEntry("corpus.parquet", hash_file(corpus), corpus.stat().st_size),)
    forged = replace(manifest, files=files)
    if cover_up == "version":
        forged = replace(forged, version=contents_version(files))
        corpus.parent.rename(corpus.parent.with_name(forged.version))
    folder = store.folder_of(manifest.asset, manifest.partition)
    for path in (store.artifact_folder(forged) / MANIFEST, folder / "recipes" / f"{manifest.recipe}.json"):
        path.write_text(forged.to_json())
    store.sealed_path(forged, forged.seal).write_text(forged.to_json())
    if cover_up == "seal":
        store.sealed_path(manifest, manifest.seal).write_text(forged.to_json())
    told = verified(store)
    assert not told.holds
    assert {fault.artifact for fault in told.faults} == {"self_generated_corpus[teeth]"}


def test_a_forged_end_of_the_chain_does_not_fit_what_dagster_and_mlflow_have(built: World) -> None:
    from dagster_project.tracking.lineage_records import outside_records

    store = built.home.store
    manifest = find_manifest(store, CELL)
    assert all(record.agrees for record in outside_records(built.home, chain_in(store)))
    forged = replace(manifest, provenance={**manifest.provenance, "git_commit": "0" * 40})
    folder = store.folder_of(manifest.asset, manifest.partition)
    for path in (store.artifact_folder(manifest) / MANIFEST, folder / "recipes" / f"{manifest.recipe}.json"):
        path.write_text(forged.to_json())
    store.sealed_path(forged, forged.seal).write_text(forged.to_json())
    told = audit(
        store, find_manifest(store, CELL), verify=True, outside=lambda chain: outside_records(built.home, chain)
    )
    assert told.faults == ()  # from the store alone nobody can tell
    assert not told.holds
    disagreeing = [record for record in told.outside if not record.agrees]
    assert {(record.system, record.artifact) for record in disagreeing} == {
        ("Dagster", manifest.name),
        ("MLflow", manifest.name),
    }


def test_the_settings_of_the_study_are_part_of_the_chain(built: World) -> None:
    store = built.home.store
    manifest = find_manifest(store, CELL)
    path = store.study_path(manifest.provenance["study_settings"])
    there = (
        str(built.home.root.parent),
        json.loads(path.read_text())["model"]["source"]["path"].removesuffix("/study/model"),
    )
    kept = json.loads(path.read_text().replace(there[1], there[0]))  # the study was moved since
    assert kept == built.study.model_dump(mode="json")
    for _ in flipped(path):
        assert {fault.path for fault in faults_in(store)} == {path}


def test_an_edited_selection_is_found_by_selecting_again(built: World) -> None:
    """Even with every hash in the store forged anew, scoring the same terms gives other bytes."""
    store = built.home.store
    link = chain_in(store).of("scored_forget_set")[0]
    table = link.folder / "scored_forget_set.parquet"
    rows = read_rows(table)
    rows[0]["selected"] = not rows[0]["selected"]
    write_rows(table, rows, pq.read_schema(table))
    files = (FileEntry(table.name, hash_file(table), table.stat().st_size),)
    forged = replace(link.manifest, files=files, version=contents_version(files))
    shutil.move(link.folder, store.artifact_folder(forged))
    folder = store.folder_of(link.manifest.asset, link.manifest.partition)
    for path in (
        store.artifact_folder(forged) / MANIFEST,
        folder / "recipes" / f"{forged.recipe}.json",
        store.sealed_path(forged, forged.seal),
    ):
        path.write_text(forged.to_json())
    told = audit(store, find_manifest(store, f"scored_forget_set[{CELL}]"), verify=True)
    assert told.faults == ()
    (result,) = told.replayed
    assert result.differing == (table.name,)
    assert not told.holds


def test_manifests_older_than_seals_are_read_by_version(built: World) -> None:
    """A store from before chains were sealed can still be audited, and says that it is not sealed."""
    store = built.home.store
    for path in store.root.glob("*/*/manifests/*"):
        path.unlink()
    for path in [*store.root.glob("*/*/recipes/*.json"), *store.root.glob(f"*/*/*/{MANIFEST}")]:
        values = asdict(Manifest.read(path))
        values["provenance"].pop("study_settings")
        for entry in values["inputs"]:
            entry.pop("seal")
        path.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    chain = chain_in(store)
    assert {link.name for link in chain.links} == UP_THE_CHAIN
    assert not any(link.sealed for link in chain.links)
    assert faults_in(store) == []
    for _ in flipped(built.artifact("learning_data") / "train.parquet"):
        assert [fault.artifact for fault in faults_in(store)] == ["learning_data[sums]"]
