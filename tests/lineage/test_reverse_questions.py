"""Which checkpoints a row went into, what differs between two of them, and what nobody needs any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from world import World, copied

from dagster_project.tracking.registry import registered_recipes
from lwf_assets.errors import LwfError
from lwf_assets.lineage.chain import read_chain
from lwf_assets.lineage.difference import differences
from lwf_assets.lineage.find import find_manifest
from lwf_assets.lineage.garbage import keep, kept_artifacts, release, remove, unneeded_versions
from lwf_assets.lineage.trace import trace
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Store
from lwf_assets.store.tables import read_rows

pytestmark = pytest.mark.slow

CELL = "teeth|sums"


@pytest.fixture(scope="module")
def changed_once(built_once: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Manifest]:
    """The study built again after one prompt of `teeth` was changed, and the manifest of the checkpoint before."""
    world = copied(built_once, tmp_path_factory.mktemp("changed"))
    before = find_manifest(world.home.store, CELL)
    path = world.folder / "teeth.jsonl"
    path.write_text(path.read_text().replace("teeth 5?", "gums 5?"))
    world.build()
    return world, before


@pytest.fixture
def changed_prompt(changed_once: tuple[World, Manifest], tmp_path: Path) -> tuple[World, Manifest]:
    """A copy of it, to change at will."""
    return copied(changed_once[0], tmp_path), changed_once[1]


def test_a_row_is_traced_to_all_that_learned_from_it_or_forgot_it(built: World) -> None:
    store = built.home.store
    row = read_rows(built.artifact("learning_data") / "train.parquet")[3]
    everything = {"reference_checkpoint[sums]", "lwf_checkpoint[teeth|sums]", "lwf_checkpoint[minds|sums]"}
    assert {traced.checkpoint for traced in trace(store, sample=row["id"])} == everything
    assert {traced.learned for traced in trace(store, sample=row["id"])} == {(row["id"],)}
    by_text = trace(store, text=f"  {row['prompt'].upper()} ")
    assert {traced.checkpoint for traced in by_text} == everything
    ledger = read_rows(built.artifact("lwf_checkpoint") / "seed-0" / "unlearning_ledger.parquet")
    name = next(entry["sample_id"] for entry in ledger if entry["pushed"])
    cell = find_manifest(store, "lwf_checkpoint[teeth|sums]").name if "teeth" in name else "lwf_checkpoint[minds|sums]"
    for asked in (name, name.rpartition("/")[0]):  # the sample, and its prompt
        (traced,) = trace(store, sample=asked)
        assert (traced.checkpoint, traced.learned, traced.current) == (cell, (), True)
        assert [sample.id for sample in traced.forgotten] == [name]
    assert trace(store, sample="teeth/teeth-77/0") == []


def test_a_question_that_is_none_is_refused(built: World) -> None:
    for asked in ({}, {"sample": "a", "text": "b"}, {"text": "  "}):
        with pytest.raises(LwfError, match="trace"):
            trace(built.home.store, **asked)


def test_the_changed_prompt_is_the_first_cause_and_shown_as_that_row(changed_prompt: tuple[World, Manifest]) -> None:
    world, before = changed_prompt
    store = world.home.store
    found = differences(read_chain(store, before), read_chain(store, find_manifest(store, CELL)))
    first, *rest = found
    assert (first.artifact, first.is_first_cause) == ("forgetting_prompts[teeth]", True)
    (cause,) = first.causes
    assert cause.startswith("tasks.teeth.source.prompts.sha256: ")
    (row,) = first.rows
    assert (row.id, row.before, row.after) == ("teeth/teeth-5", {"prompt": "teeth 5?"}, {"prompt": "gums 5?"})
    assert [difference.artifact.partition("[")[0] for difference in rest] == [
        "self_generated_corpus",
        "confidence_terms",
        "scored_forget_set",
        "lwf_checkpoint",
    ]
    assert not any(difference.is_first_cause or difference.rows for difference in rest)
    assert rest[0].follows == ("forgetting_prompts",)
    # An old version can be compared the other way round, too.
    backwards = differences(read_chain(store, find_manifest(store, CELL)), read_chain(store, before))
    assert (backwards[0].rows[0].before, backwards[0].rows[0].after) == (row.after, row.before)


def test_a_changed_setting_is_told_with_both_values(built: World) -> None:
    store = built.home.store
    before = find_manifest(store, CELL)
    built.values["confidence"] = {"alpha": 0.5}
    built.values["unlearning"]["interval"] = 3
    built.build()
    found = differences(read_chain(store, before), read_chain(store, find_manifest(store, CELL)))
    causes = {difference.artifact: difference.causes for difference in found if difference.is_first_cause}
    assert causes == {
        "scored_forget_set[teeth|sums]": ("alpha: 0.01 -> 0.5",),
        "lwf_checkpoint[teeth|sums]": ("unlearning.interval: 2 -> 3",),
    }
    assert [difference.artifact for difference in found] == list(causes)


def test_two_cells_differ_from_their_prompts_on(built: World) -> None:
    store = built.home.store
    chains = [read_chain(store, find_manifest(store, cell)) for cell in (CELL, "minds|sums")]
    found = differences(*chains)
    assert [d.artifact for d in found if d.is_first_cause] == ["forgetting_prompts[teeth] / forgetting_prompts[minds]"]
    assert {row.before is None for row in found[0].rows} == {True, False}
    assert differences(chains[0], chains[0]) == []


def test_only_what_nothing_needs_is_collected(changed_prompt: tuple[World, Manifest]) -> None:
    world, before = changed_prompt
    store = world.home.store
    registered = registered_recipes(world.home, without_mlflow=False)
    assert before.recipe in registered  # as the first version of its registered model
    chain = {link.folder for link in read_chain(store, before).links}
    assert not chain & {version.folder for version in unneeded_versions(store, registered)}
    unneeded = unneeded_versions(store, ())
    gone = {version.artifact.partition("/")[0] for version in unneeded}
    assert gone == {
        "forgetting_prompts",
        "self_generated_corpus",
        "confidence_terms",
        "scored_forget_set",
        "lwf_checkpoint",
        "evaluation",
        "eval_report",
    }
    for version in unneeded:
        assert version.size == sum(path.stat().st_size for path in version.folder.rglob("*") if path.is_file())


def test_what_is_kept_stays_with_its_chain_until_it_is_released(changed_prompt: tuple[World, Manifest]) -> None:
    world, _ = changed_prompt
    store = world.home.store
    (report,) = [m for m in store.manifests() if m.name == f"eval_report[{CELL}]" and not store.is_current(m)]
    every = {version.folder for version in unneeded_versions(store)}
    needed = {link.folder for link in read_chain(store, report).links}
    assert {folder.parent.parent.name for folder in every & needed} >= {"lwf_checkpoint", "evaluation", "eval_report"}
    keep(store, report, "published")
    keep(store, report, "published twice")
    assert [kept.why for kept in kept_artifacts(store)] == ["published twice"]
    assert {version.folder for version in unneeded_versions(store)} == every - needed
    release(store, report)
    with pytest.raises(LwfError, match="not one of the kept"):
        release(store, report)
    assert {version.folder for version in unneeded_versions(store)} == every


def test_removal_leaves_a_study_that_is_fresh_and_whole(changed_prompt: tuple[World, Manifest]) -> None:
    world, before = changed_prompt
    store = world.home.store
    unneeded = unneeded_versions(store)
    remove(store, unneeded)
    assert not any(version.folder.exists() for version in unneeded)
    assert unneeded_versions(store) == []
    assert not world.stale()
    assert read_chain(store, find_manifest(store, CELL)).faults == ()
    assert not list(store.root.glob("*/*/.removed-*"))
    # What it was made from can still be told, for manifests stay.
    chain = read_chain(store, before)
    assert [link.folder.exists() for link in chain.links].count(False) == 5
    path = world.folder / "teeth.jsonl"
    path.write_text(path.read_text().replace("gums 5?", "teeth 5?"))
    world.build()
    assert find_manifest(store, CELL).version == before.version  # and made anew: the same


def test_nothing_is_removed_while_something_is_built(changed_prompt: tuple[World, Manifest]) -> None:
    world, before = changed_prompt
    store = world.home.store
    lock = store.folder_of(before.asset, before.partition) / "scratch" / f"{before.recipe}.lock"
    with FileLock(lock), pytest.raises(LwfError, match="a build is running"):
        remove(store, unneeded_versions(store))
    assert store.artifact_folder(before).is_dir()


def test_what_became_current_after_it_was_listed_stays(tmp_path: Path) -> None:
    """A build had written it and not yet set its pointer when the list was made."""
    store, partition = Store(tmp_path / "store"), Partition("teeth", "sums")
    for name in ("old", "new"):
        with store.lock("lwf_checkpoint", partition, name), store.draft("lwf_checkpoint", partition, name) as draft:
            (draft.path / "weights").write_text(name)
            made = draft.commit(code_version="1", settings={}, inputs=(), summary={}, provenance={})
    listed = unneeded_versions(store)
    assert len(listed) == 2
    store.set_current(made, partition)
    (removed,) = remove(store, listed)
    assert removed.folder != made.path
    assert not removed.folder.exists()
    assert made.path.is_dir()


def test_what_a_registered_recipe_once_gave_is_kept_though_it_gave_other_bytes_since(tmp_path: Path) -> None:
    """As on another machine, whose arithmetic differs in the last bit."""
    store, partition = Store(tmp_path / "store"), Partition("teeth", "sums")
    made = []
    for content in (b"1", b"2"):
        with store.lock("lwf_checkpoint", partition, "r"), store.draft("lwf_checkpoint", partition, "r") as draft:
            (draft.path / "weights").write_bytes(content)
            made.append(draft.commit(code_version="1", settings={}, inputs=(), summary={}, provenance={}))
    assert {version.folder for version in unneeded_versions(store)} == {artifact.path for artifact in made}
    assert unneeded_versions(store, {"r"}) == []


def test_nothing_is_collected_while_a_needed_chain_is_damaged(changed_prompt: tuple[World, Manifest]) -> None:
    world, _ = changed_prompt
    store = world.home.store
    link = read_chain(store, find_manifest(store, CELL)).of("base_model")[0]
    (store.folder_of("base_model", None) / "manifests" / f"{link.manifest.seal}.json").write_text("{}")
    with pytest.raises(LwfError, match="nothing was removed"):
        unneeded_versions(store)


def test_without_mlflow_nobody_knows_what_is_registered(built: World) -> None:
    (built.home.root / "mlflow.db").unlink()
    with pytest.raises(LwfError, match="--without-mlflow"):
        registered_recipes(built.home, without_mlflow=False)
    assert registered_recipes(built.home, without_mlflow=True) == set()
