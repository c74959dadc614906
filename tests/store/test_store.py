"""The store: contents decide versions, readers never see half an artifact, and makers of one recipe take turns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwf_assets.errors import LwfError
from lwf_assets.store.hashes import canonical_hash, hash_file
from lwf_assets.store.manifest import FileEntry, InputVersion, Manifest, recipe_hash
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact, Store

ASSET, PARTITION = "fisher_diagonal", Partition(learning_task="sums")
FILES = {"a.txt": b"one", "deep/b.bin": b"\x00two"}


def put(
    store: Store, recipe: str = "r1", files: dict[str, bytes] | None = None, *, current: bool = True, **parts: Any
) -> Artifact:
    """An artifact with these files, as `materialize` would put it there."""
    with store.lock(ASSET, PARTITION, recipe), store.draft(ASSET, PARTITION, recipe) as draft:
        for name, content in (FILES if files is None else files).items():
            (draft.path / name).parent.mkdir(exist_ok=True)
            (draft.path / name).write_bytes(content)
        given = {"code_version": "1", "settings": {}, "inputs": (), "summary": {}, "provenance": {}}
        artifact = draft.commit(**{**given, **parts})
        if current:
            store.set_current(artifact, PARTITION)
    return artifact


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def state(store: Store) -> dict[str, bytes]:
    """Every file of the store that a reader may look at."""
    folder = store.folder(ASSET, PARTITION)
    hidden = {"scratch"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in hidden
    }


def test_the_version_is_the_hash_of_the_contents_and_of_nothing_else(tmp_path: Path) -> None:
    first = put(Store(tmp_path / "one"), "r1", code_version="1", summary={"x": 1})
    second = put(Store(tmp_path / "two"), "r2", code_version="2", provenance={"when": "now"}, settings={"y": 2})
    assert first.version == second.version
    assert first.path.name == first.version
    assert {path.name for path in first.path.iterdir()} == {"a.txt", "deep", "manifest.json"}


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": b"one", "deep/b.bin": b"\x00twO"},
        {"a.txt": b"one", "deep/c.bin": b"\x00two"},
        {"a.txt": b"one"},
        {"a.txt": b"\x00two", "deep/b.bin": b"one"},
        {"a.txt": b"one", "deep/b.bin": b"\x00two", "empty": b""},
        {},
    ],
)
def test_other_contents_give_another_version(files: dict[str, bytes], store: Store) -> None:
    assert put(store).version != put(store, "r2", files).version


def test_the_files_of_the_manifest_are_those_on_disk(store: Store) -> None:
    artifact = put(store)
    for entry in artifact.manifest.files:
        path = artifact.path / entry.path
        assert (entry.sha256, entry.size) == (hash_file(path), path.stat().st_size)
    assert {entry.path for entry in artifact.manifest.files} == set(FILES)
    assert Manifest.read(artifact.path / "manifest.json") == artifact.manifest


def test_what_lies_in_the_store_can_be_read_by_other_users(store: Store) -> None:
    artifact = put(store)
    folder = store.folder(ASSET, PARTITION)
    for path in (artifact.path, artifact.path / "a.txt", folder / "current", folder / "recipes" / "r1.json"):
        assert path.stat().st_mode & 0o044 == 0o044


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
SETTINGS = st.dictionaries(st.text(min_size=1, max_size=5), JSON, max_size=4)
TEXT = st.text(min_size=1, max_size=8)


def shuffled(value: Any) -> Any:
    """The same value with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(SETTINGS)
def test_a_hash_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    assert canonical_hash(shuffled(value)) == canonical_hash(value)
    assert canonical_hash(json.loads(json.dumps(value))) == canonical_hash(value)
    assert canonical_hash({**value, "another": 1}) != canonical_hash(value)


@given(st.lists(JSON, min_size=2, max_size=4))
def test_a_hash_depends_on_the_order_of_lists(items: list[Any]) -> None:
    if json.dumps(items, sort_keys=True) != json.dumps(items[::-1], sort_keys=True):
        assert canonical_hash(items) != canonical_hash(items[::-1])


def test_numbers_that_are_equal_to_python_alone_hash_differently() -> None:
    assert len({canonical_hash(value) for value in (1, 1.0, True, "1")}) == 4


def test_a_number_that_is_none_has_no_hash() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_hash({"x": float("nan")})


def test_every_part_of_a_recipe_counts_and_the_order_of_inputs_does_not() -> None:
    one, two = InputVersion("base_model", None, "v1"), InputVersion("learning_data", "sums", "v2")
    recipe = recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 1}, (one, two))
    assert recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 1}, (two, one)) == recipe
    others = {
        recipe_hash("base_model", PARTITION, "1", {"a": 1}, (one, two)),
        recipe_hash("lwf_checkpoint", Partition(forgetting_task="sums", learning_task="x"), "1", {"a": 1}, (one, two)),
        recipe_hash("lwf_checkpoint", PARTITION, "2", {"a": 1}, (one, two)),
        recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 2}, (one, two)),
        recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 1}, (one,)),
        recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 1}, (one, InputVersion("learning_data", "sums", "v3"))),
        recipe_hash("lwf_checkpoint", PARTITION, "1", {"a": 1}, (one, InputVersion("learning_data", "prod", "v2"))),
    }
    assert len(others | {recipe}) == 8


@given(
    settings=SETTINGS,
    summary=SETTINGS,
    provenance=SETTINGS,
    partition=st.none() | TEXT,
    inputs=st.lists(st.builds(InputVersion, TEXT, st.none() | TEXT, TEXT), max_size=3),
    files=st.lists(st.builds(FileEntry, TEXT, TEXT, st.integers(0)), max_size=3),
)
def test_a_manifest_survives_being_written_and_read(
    tmp_path_factory: pytest.TempPathFactory,
    settings: dict[str, Any],
    summary: dict[str, Any],
    provenance: dict[str, Any],
    partition: str | None,
    inputs: list[InputVersion],
    files: list[FileEntry],
) -> None:
    manifest = Manifest(
        ASSET, partition, "v", "r", "1", settings, tuple(inputs), tuple(files), summary=summary, provenance=provenance
    )
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    path.write_text(manifest.to_json(), encoding="utf-8")
    assert Manifest.read(path) == manifest


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"{", b"[]", b"3", b'"text"', b"null", b"{}", b"\xff\xfe", b'{"inputs": [], "files": []}', b"[" * 20],
)
def test_rubbish_is_no_manifest(rubbish: bytes, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(rubbish)
    with pytest.raises(LwfError, match=r"manifest\.json: not a manifest of this store .*remove it"):
        Manifest.read(path)


@pytest.mark.parametrize("change", [{"files": [{"path": "a"}]}, {"inputs": ["x"]}, {"colour": "red"}, {"files": None}])
def test_a_manifest_of_another_layout_is_refused(change: dict[str, Any], store: Store) -> None:
    entry = store.folder(ASSET, PARTITION) / "recipes" / f"{put(store).manifest.recipe}.json"
    entry.write_text(json.dumps({**json.loads(entry.read_text()), **change}))
    with pytest.raises(LwfError, match=r"r1\.json: not a manifest"):
        store.by_recipe(ASSET, PARTITION, "r1")


def test_nothing_is_current_in_an_empty_store(store: Store) -> None:
    assert store.current(ASSET, PARTITION) is None
    assert store.by_recipe(ASSET, PARTITION, "r1") is None
    assert store.verdicts(ASSET, PARTITION, "v") == {}


def test_current_follows_the_recipe_that_was_asked_for_last(store: Store) -> None:
    first, second = put(store), put(store, "r2", {"a.txt": b"other"})
    assert store.current(ASSET, PARTITION) == second
    store.set_current(first, PARTITION)
    assert store.current(ASSET, PARTITION) == first
    assert store.by_recipe(ASSET, PARTITION, "r2") == second


def test_two_recipes_of_the_same_contents_share_one_folder_and_keep_their_manifests(store: Store) -> None:
    first, second = put(store, settings={"x": 1}), put(store, "r2", settings={"x": 2})
    assert first.path == second.path
    found = [store.by_recipe(ASSET, PARTITION, recipe) for recipe in ("r1", "r2")]
    assert [artifact and artifact.manifest.settings for artifact in found] == [{"x": 1}, {"x": 2}]


@pytest.mark.parametrize("name", FILES)
def test_an_artifact_that_misses_a_file_is_not_there(name: str, store: Store) -> None:
    (put(store).path / name).unlink()
    assert store.by_recipe(ASSET, PARTITION, "r1") is None
    assert store.current(ASSET, PARTITION) is None
    assert put(store).path.joinpath(name).read_bytes() == FILES[name]


def test_an_artifact_without_files_is_there_while_its_folder_is(store: Store) -> None:
    artifact = put(store, files={})
    assert store.by_recipe(ASSET, PARTITION, "r1") == artifact
    (artifact.path / "manifest.json").unlink()
    artifact.path.rmdir()
    assert store.by_recipe(ASSET, PARTITION, "r1") is None


def test_a_damaged_artifact_is_replaced_by_one_made_anew(store: Store) -> None:
    artifact = put(store)
    (artifact.path / "a.txt").write_bytes(b"two")
    assert put(store).path == artifact.path
    assert (artifact.path / "a.txt").read_bytes() == b"one"
    assert not list(store.folder(ASSET, PARTITION).glob(".*"))


def test_an_artifact_that_is_there_is_kept_when_the_same_comes_again(store: Store) -> None:
    inode = (put(store).path / "a.txt").stat().st_ino
    assert (put(store).path / "a.txt").stat().st_ino == inode
    assert not list(store.folder(ASSET, PARTITION).glob(".*"))


class PulledPlugError(Exception):
    """What a test raises in the middle of a commit."""


def interrupt(monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException], countdown: list[int]) -> None:
    """Let the nth of all calls of os.rename, os.replace and os.fsync fail; `countdown` holds n, and then 0."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            countdown[0] -= 1
            if countdown[0] == 0:
                raise error()
            return function(*args, **options)

        return call

    for name in ("rename", "replace", "fsync"):
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))


def steps_of_a_commit(tmp_path: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        countdown = [10_000]
        interrupt(patch, PulledPlugError, countdown)
        put(Store(tmp_path / "counted"))
    return 10_000 - countdown[0]


@pytest.mark.parametrize("error", [PulledPlugError, KeyboardInterrupt, lambda: OSError(28, "No space left on device")])
@pytest.mark.parametrize("earlier", [None, {"a.txt": b"earlier"}, FILES], ids=["empty", "other", "same"])
def test_an_interrupted_commit_leaves_what_was_there(
    error: Callable[[], BaseException], earlier: dict[str, bytes] | None, tmp_path: Path
) -> None:
    total = steps_of_a_commit(tmp_path)
    assert total >= 8
    for step in range(1, total + 1):
        store = Store(tmp_path / f"store-{step}")
        before = put(store, "r0", earlier) if earlier is not None else None
        files_before = state(store)
        with pytest.MonkeyPatch.context() as patch:
            countdown = [step]
            interrupt(patch, error, countdown)
            try:
                put(store)
            except BaseException as caught:  # a keyboard interrupt is one
                failed = caught
            else:  # the rename met the same contents, which is no failure
                assert earlier is FILES
                continue
        assert type(failed) is type(error())
        # A whole version, its recipe and the pointer to it may have come; nothing else has changed or is half there.
        after = state(store)
        assert {name for name in files_before if after.get(name) != files_before[name]} <= {"current"}
        assert not [name for name in after if any(part.startswith(".") for part in Path(name).parts)]
        found = store.by_recipe(ASSET, PARTITION, "r1")
        assert found is None or (found.path / "a.txt").read_bytes() == b"one"
        assert store.current(ASSET, PARTITION) in (before, found)
        put(store)
        again = store.current(ASSET, PARTITION)
        assert again is not None
        assert again.manifest.recipe == "r1"
        assert state(store).keys() >= files_before.keys()


def test_everything_is_on_disk_before_it_is_in_place(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    rename, unsynced = os.rename, []

    def watched(source: Path, target: Path) -> None:
        unsynced.extend(path for path in (source, *source.rglob("*")) if path.stat().st_ino not in synced)
        rename(source, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(os, "rename", watched)
    artifact = put(store)
    assert unsynced == []
    assert artifact.path.parent.stat().st_ino in synced


def test_a_full_disk_is_told_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        put(store)
    assert not list(store.folder(ASSET, PARTITION).glob(".*"))


def test_a_failing_maker_leaves_its_scratch_and_no_draft(store: Store) -> None:
    def fail() -> None:
        with store.draft(ASSET, PARTITION, "r1") as draft:
            (draft.path / "half").write_text("x")
            (draft.scratch / "shard-0").write_text("kept")
            raise PulledPlugError

    with pytest.raises(PulledPlugError):
        fail()
    assert not list(store.folder(ASSET, PARTITION).glob(".*"))
    with store.draft(ASSET, PARTITION, "r1") as draft:
        assert (draft.scratch / "shard-0").read_text() == "kept"
        assert not list(draft.path.iterdir())
    assert not draft.scratch.exists()
    with store.draft(ASSET, PARTITION, "r2") as draft:
        assert not list(draft.scratch.iterdir())


MAKER = """
import sys, time
from pathlib import Path
from lwf_assets.graph.cells import Cell
from lwf_assets.building.materialize import materialize
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Store
from lwf_assets.study.file import load_study
import lwf_assets.assets.forgetting_prompts as asset

folder = Path(sys.argv[1])

def slow(work):
    with (folder / "log").open("a") as log:
        log.write("made\\n")
    for part in "abc":
        (work.out / part).write_text(part)
        time.sleep(0.2)
    return {}

asset.materialize = slow
(folder / f"ready-{sys.argv[2]}").touch()
while not (folder / "go").exists():
    time.sleep(0.005)
cell = Cell("forgetting_prompts", Partition(forgetting_task="teeth"))
made = materialize(load_study(folder / "study.yaml"), Store(folder / "store"), cell)
print(made.artifact.path, made.reused, sorted(p.name for p in made.artifact.path.iterdir()))
"""

KILLED = """
import sys, time
from pathlib import Path
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Store

store, partition = Store(Path(sys.argv[1])), Partition(learning_task="sums")
with store.lock("fisher_diagonal", partition, "r1"), store.draft("fisher_diagonal", partition, "r1") as draft:
    (draft.scratch / "shard-0").write_text("kept")
    (draft.path / "a.txt").write_text("half")
    print("holding", flush=True)
    time.sleep(60)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_two_processes_that_make_the_same_do_the_work_once(tmp_path: Path) -> None:
    (tmp_path / "teeth.jsonl").write_text('{"prompt": "why?"}\n')
    (tmp_path / "study.yaml").write_text(
        "name: race\nmodel: {source: {kind: directory, path: model}}\nlearning_tasks: {chain_sum: }\n"
        "forgetting_tasks: {teeth: {source: {kind: file, prompts: teeth.jsonl}}}\ntraining: {max_steps: 1}\n"
    )
    makers = [
        subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path), str(n)], stdout=subprocess.PIPE, text=True)
        for n in range(2)
    ]
    wait_for(lambda: len(list(tmp_path.glob("ready-*"))) == 2)
    (tmp_path / "go").touch()
    told = [maker.communicate(timeout=60)[0].split(maxsplit=2) for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0]
    assert (tmp_path / "log").read_text() == "made\n"
    assert told[0][0] == told[1][0]
    assert {told[0][1], told[1][1]} == {"True", "False"}
    assert told[0][2] == told[1][2] == "['a', 'b', 'c', 'manifest.json']\n"


def test_after_a_kill_the_next_maker_takes_over(store: Store) -> None:
    folder = store.folder(ASSET, PARTITION)
    with subprocess.Popen([sys.executable, "-c", KILLED, str(store.root)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=30)
    assert len(list(folder.glob(".draft-r1-*"))) == 1
    foreign = folder / ".draft-r2-somebody"  # another recipe's maker may well be alive
    foreign.mkdir()
    assert store.current(ASSET, PARTITION) is None
    with store.lock(ASSET, PARTITION, "r1"):
        assert list(folder.glob(".draft-*")) == [foreign]
        with store.draft(ASSET, PARTITION, "r1") as draft:
            assert (draft.scratch / "shard-0").read_text() == "kept"
            assert not list(draft.path.iterdir())
    assert put(store).version


def test_verdicts_of_two_checks_are_kept_beside_each_other(tmp_path: Path) -> None:
    passed = {"passed": True, "reason": "fine", "figures": {"spread": 0.5}}
    failed = {"passed": False, "reason": "did not fall", "figures": {}}
    Store(tmp_path).save_verdict(ASSET, PARTITION, "v1", "finite", passed)
    Store(tmp_path).save_verdict(ASSET, PARTITION, "v1", "fell", failed)
    Store(tmp_path).save_verdict(ASSET, PARTITION, "v2", "finite", failed)
    assert Store(tmp_path).verdicts(ASSET, PARTITION, "v1") == {"finite": passed, "fell": failed}
    Store(tmp_path).save_verdict(ASSET, PARTITION, "v1", "fell", passed)
    assert Store(tmp_path).verdicts(ASSET, PARTITION, "v1") == {"finite": passed, "fell": passed}
    assert Store(tmp_path).verdicts(ASSET, PARTITION, "v2") == {"finite": failed}


def test_an_interrupted_verdict_leaves_the_earlier_ones(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = {"passed": True, "reason": "fine", "figures": {}}
    store.save_verdict(ASSET, PARTITION, "v1", "finite", verdict)
    interrupt(monkeypatch, PulledPlugError, [2])
    with pytest.raises(PulledPlugError):
        store.save_verdict(ASSET, PARTITION, "v1", "fell", verdict)
    monkeypatch.undo()
    assert store.verdicts(ASSET, PARTITION, "v1") == {"finite": verdict}
    assert {path.name for path in (store.folder(ASSET, PARTITION) / "checks").iterdir()} == {"v1.json", "v1.lock"}


def test_partitions_do_not_see_each_other(store: Store) -> None:
    artifact = put(store)
    for other in (Partition(), Partition(learning_task="other"), Partition("sums", "sums")):
        assert store.current(ASSET, other) is None
        assert store.by_recipe(ASSET, other, artifact.manifest.recipe) is None
    names = {
        store.folder(ASSET, p).name for p in (Partition(), Partition("a", "b"), Partition("a"), Partition(None, "b"))
    }
    assert len(names) == 4


def test_every_manifest_is_found_newest_first_also_one_whose_recipe_gave_something_else_since(store: Store) -> None:
    made = [put(store, recipe, {"a": content}) for recipe, content in (("r1", b"1"), ("r2", b"2"), ("r1", b"3"))]
    for age, artifact in enumerate(reversed(made)):
        manifest = artifact.manifest
        recipe = store.folder(ASSET, PARTITION) / "recipes" / f"{manifest.recipe}.json"
        for path in (store.sealed_path(manifest, manifest.seal), recipe):
            if hash_file(path) == manifest.seal:
                os.utime(path, (1000 - age, 1000 - age))
    assert list(store.manifests()) == [artifact.manifest for artifact in reversed(made)]
    assert list(store.manifests(ASSET)) == list(store.manifests())
    assert list(store.manifests("base_model")) == []
    assert [store.is_current(artifact.manifest) for artifact in made] == [False, False, True]


def test_a_manifest_that_was_changed_is_passed_over(store: Store) -> None:
    old, new = put(store, "r1", {"a": b"1"}), put(store, "r1", {"a": b"2"})
    path = store.sealed_path(old.manifest, old.manifest.seal)
    path.write_text(path.read_text().replace(old.version, new.version))
    assert list(store.manifests()) == [new.manifest]


def test_manifests_older_than_seals_are_found(store: Store) -> None:
    artifact = put(store)
    store.sealed_path(artifact.manifest, artifact.manifest.seal).unlink()
    assert list(store.manifests()) == [artifact.manifest]
