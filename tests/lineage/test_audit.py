"""What an audit tells: the chain, what was unlearned, what was learned from; from the store alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from armed import SEEDS, Armed
from world import World

from dagster_project.tracking.find_artifact import find_artifact
from dagster_project.tracking.lineage_records import outside_records
from lwf_assets.errors import LwfError
from lwf_assets.lineage.audit import audit
from lwf_assets.lineage.chain import read_chain
from lwf_assets.lineage.find import find_manifest
from lwf_assets.lineage.forgotten import learned_rows, unlearned_samples
from lwf_assets.lineage.open_lineage import write_events
from lwf_assets.lineage.page import lineage_page
from lwf_assets.store.tables import read_rows

CELL = "teeth|sums"


@pytest.mark.parametrize(
    "name", ["lwf_checkpoint[teeth|sums]", "lwf_checkpoint[mixed|sums]", "arm_checkpoint[low.teeth|sums]"]
)
def test_every_pushed_sample_is_told_with_its_terms_and_steps(armed: Armed, name: str) -> None:
    chain = read_chain(armed.store, find_manifest(armed.store, name))
    found = {sample.id: sample for sample in unlearned_samples(chain)}
    checkpoint = chain.end.folder
    own = checkpoint / "scored_forget_set.parquet"
    scored = read_rows(own if own.is_file() else chain.of("scored_forget_set")[0].folder / own.name)
    pushed = [entry for entry in armed.ledger(checkpoint) if entry["pushed"]]
    assert found.keys() == {entry["sample_id"] for entry in pushed}
    assert pushed
    for row in scored:
        if row["id"] not in found:
            continue
        sample = found[row["id"]]
        assert (sample.prompt, sample.text, sample.rank) == (row["prompt"], row["response"], row["rank"])
        assert sample.forgetting_confidence == row["forgetting_confidence"]
        assert row["selected"]
        for turn in sample.turns:
            entries = [e for e in pushed if e["sample_id"] == row["id"] and e["seed"] == turn.seed]
            assert turn.steps == tuple(entry["step"] for entry in entries)
            assert (turn.nll_before, turn.nll_after) == (entries[0]["nll_before"], entries[-1]["nll_after"])
    assert {turn.seed for sample in found.values() for turn in sample.turns} == set(SEEDS)


def test_the_control_with_random_tokens_did_not_unlearn_the_texts(armed: Armed) -> None:
    chain = read_chain(armed.store, find_manifest(armed.store, "arm_checkpoint[tokens.teeth|sums]"))
    found = unlearned_samples(chain)
    assert found
    assert {sample.text for sample in found} == {None}


@pytest.mark.parametrize("name", ["reference_checkpoint[sums]", "arm_checkpoint[bss|sums]", f"lwf_checkpoint[{CELL}]"])
def test_every_row_that_was_learned_from_is_told(armed: Armed, name: str) -> None:
    chain = read_chain(armed.store, find_manifest(armed.store, name))
    (rows,) = learned_rows(chain)
    folder = armed.path("learning_data", "sums")
    assert list(rows.train) == [row["id"] for row in read_rows(folder / "train.parquet")]
    assert list(rows.validation) == [row["id"] for row in read_rows(folder / "validation.parquet")]
    assert (unlearned_samples(chain) == []) == (not name.startswith("lwf"))


def test_with_both_databases_gone_the_audit_still_answers(built: World) -> None:
    def told() -> dict[str, object]:
        store = built.home.store
        made = audit(
            store,
            find_artifact(built.home, CELL),
            verify=True,
            outside=lambda chain: outside_records(built.home, chain),
        )
        return made.to_dict()

    before = told()
    outside = before.pop("outside")
    assert isinstance(outside, list)
    assert [record["system"] for record in outside].count("Dagster") == 9
    assert [record["system"] for record in outside].count("MLflow") == 9
    assert all(record["agrees"] for record in outside)
    shutil.rmtree(built.home.root / "dagster")
    for path in built.home.root.glob("mlflow*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    after = told()
    assert after.pop("outside") == []
    assert after == before
    assert after["holds"] is True
    assert not (built.home.root / "mlflow.db").exists()  # asking makes nothing


def test_a_run_that_is_no_longer_there_is_told(built: World) -> None:
    import dagster as dg

    from dagster_project.runs.instance import open_instance

    manifest = find_artifact(built.home, CELL)
    instance: dg.DagsterInstance = open_instance(built.home)
    instance.delete_run(manifest.provenance["dagster_run"])
    records = outside_records(built.home, read_chain(built.home.store, manifest))
    gone = [record for record in records if record.missing]
    assert {record.system for record in gone} == {"Dagster"}
    assert manifest.name in {record.artifact for record in gone}


def test_an_artifact_is_found_by_every_name_it_has(built: World) -> None:
    home, store = built.home, built.home.store
    manifest = find_manifest(store, CELL)
    folder = store.folder_of(manifest.asset, manifest.partition) / manifest.version
    names = [
        f"lwf_checkpoint[{CELL}]",
        manifest.version,
        manifest.version[:8],
        manifest.recipe,
        manifest.seal,
        str(folder),
        str(folder / "seed-0"),
        str(folder / "seed-0" / "model.safetensors"),
        manifest.provenance["mlflow_run"],
        "tiny.sums.forgetting.teeth/1",
        "models:/tiny.sums.forgetting.teeth/1",
        "tiny.sums.forgetting.teeth@challenger",
    ]
    for name in names:
        assert find_artifact(home, name) == manifest, name
    assert find_artifact(home, "base_model").asset == "base_model"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("teeth|subtraction", "there is base_model|lwf_checkpoint"),
        ("lwf_checkpoint[hair|sums]", r"lwf_checkpoint\[minds\|sums\], lwf_checkpoint\[teeth\|sums\]"),
        ("nonsense", "give the path of its folder"),
        ("deadbeef", "with this prefix"),
        ("0" * 32, "neither the store nor MLflow"),
        ("tiny.sums.forgetting.teeth/9", "9"),
        ("no.such.model@champion", "no.such.model"),
    ],
)
def test_a_name_that_is_none_is_told(built: World, name: str, told: str) -> None:
    with pytest.raises(LwfError, match=told):
        find_artifact(built.home, name)


def test_a_path_outside_the_store_is_told(built: World, tmp_path: Path) -> None:
    with pytest.raises(LwfError, match="outside the store"):
        find_artifact(built.home, str(tmp_path))


def test_the_page_shows_what_was_forgotten_and_escapes_it(armed: Armed) -> None:
    told = audit(armed.store, find_manifest(armed.store, CELL), verify=True)
    page = lineage_page(told)
    assert told.chain.end.manifest.seal in page
    for sample in told.unlearned:
        assert sample.id in page
    for link in told.chain.links:
        assert link.manifest.version in page
    assert "every byte as recorded" in page
    assert "<script" not in page


def test_open_lineage_events_tell_the_same_chain(built: World, tmp_path: Path) -> None:
    store = built.home.store
    chain = read_chain(store, find_manifest(store, CELL))
    write_events(tmp_path / "events.jsonl", store, chain)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["job"]["name"] for event in events] == [link.name for link in chain.links]
    written: set[tuple[str, str]] = set()
    for event, link in zip(events, chain.links, strict=True):
        assert event["eventType"] == "COMPLETE"
        assert event["run"]["runId"].replace("-", "") == link.manifest.provenance["mlflow_run"]
        read = {(data["name"], data["facets"]["version"]["datasetVersion"]) for data in event["inputs"]}
        assert {version for _, version in read} == {entry.version for entry in link.manifest.inputs}
        assert read <= written  # inputs come first
        (output,) = event["outputs"]
        written.add((output["name"], output["facets"]["version"]["datasetVersion"]))
