"""Kills, full disks and two writers: the store never holds half an artifact."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stored import ASSET, FILES, PARTITION, put

from lwf_assets.store.store import Store


def state(store: Store) -> dict[str, bytes]:
    """Every file of the store that a reader may look at."""
    folder = store.folder(ASSET, PARTITION)
    hidden = {"scratch"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in hidden
    }


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
            else:  # the rename met the same contents, or what was hashed is not remembered: no failures
                assert earlier is FILES or step == total
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
