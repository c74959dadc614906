"""What goes from a cache, and from the shared place, and what never does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stored import ASSET, PARTITION, put

from lwf_assets.errors import LwfError
from lwf_assets.lineage import garbage
from lwf_assets.object_storage.bucket import Bucket
from lwf_assets.store.shared.cache import VARIABLE, cache_limit, drop_unused, in_use
from lwf_assets.store.shared.garbage import sweep
from lwf_assets.store.shared.place import GRACE
from lwf_assets.store.shared.sync import pull, push, unshared
from lwf_assets.store.store import Artifact, Store

Machine = Callable[[str], Store]


def _put_three(store: Store) -> list[Artifact]:
    made = [put(store, f"r{number}", {"a": bytes([number]) * 1000}) for number in range(3)]
    for age, artifact in zip((10, 30, 20), made, strict=True):
        memory = store.folder(ASSET, PARTITION) / "verified" / f"{artifact.version}.json"
        os.utime(memory, (time.time() - age, time.time() - age))
    return made


def test_what_was_unused_longest_goes_first_and_comes_back_when_it_is_needed(machine: Machine) -> None:
    store = machine("one")
    made = _put_three(store)
    assert drop_unused(store, 2000) == 1000
    assert [artifact.path.exists() for artifact in made] == [True, False, True]
    assert drop_unused(store, 1000) == 1000
    assert [artifact.path.exists() for artifact in made] == [True, False, False]
    for artifact in made:
        store.verify(artifact)
        assert (artifact.path / "a").stat().st_size == 1000


def test_what_is_not_published_stays(machine: Machine, tmp_path: Path) -> None:
    store = machine("one")
    _put_three(store)
    alone = Store(store.root)
    kept = put(alone, "r9", {"a": b"9" * 1000})
    drop_unused(store, 1)
    assert [path.name for path in store.folder(ASSET, PARTITION).glob("*/a")] == ["a"]
    assert kept.path.exists()


def test_what_a_build_reads_stays(machine: Machine) -> None:
    store = machine("one")
    made = _put_three(store)
    with store.lock("other", PARTITION, "r"):
        lock = store.folder("other", PARTITION) / "scratch" / "r.lock"
        with in_use(store.root, lock, [made[1].path]):
            drop_unused(store, 1)
    assert [artifact.path.exists() for artifact in made] == [False, True, False]
    drop_unused(store, 1)
    assert not made[1].path.exists()


def test_what_a_dead_build_read_goes(machine: Machine) -> None:
    store = machine("one")
    made = _put_three(store)
    scratch = store.folder("other", PARTITION) / "scratch"
    scratch.mkdir(parents=True)
    (scratch / "r.reads").write_text(f'["{made[0].path}"]')
    drop_unused(store, 1)
    assert not made[0].path.exists()


@pytest.mark.parametrize("value", ["none", "0", "-1", "inf", "nan"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(LwfError, match=f"{VARIABLE}={value}: give a number of gigabytes"):
        cache_limit()


def test_what_nothing_needs_goes_in_two_steps(machine: Machine, url: str) -> None:
    store, other = machine("one"), machine("two")
    put(store, "r1", {"a": b"old", "both": b"x"})
    put(store, "r2", {"a": b"new", "both": b"x"})
    bucket = Bucket(url)
    garbage.remove(store, garbage.unneeded_versions(store))
    other.refresh()
    assert other.by_recipe(ASSET, PARTITION, "r1") is None
    assert other.built(ASSET, PARTITION)
    assert len(bucket.list("files")) == 3
    later = time.time() + GRACE + 60
    assert sweep(bucket, store.manifests(), now=later) == len(b"old")
    assert len(bucket.list("files")) == 2
    assert bucket.list("doomed") == {}


def test_what_is_made_again_meanwhile_is_whole(machine: Machine, url: str) -> None:
    store = machine("one")
    put(store, "r1", {"a": b"old"})
    put(store, "r2", {"a": b"new"})
    garbage.remove(store, garbage.unneeded_versions(store))
    again = put(machine("two"), "r1", {"a": b"old"})
    sweep(Bucket(url), store.manifests(), now=time.time() + GRACE + 60)
    third = machine("three")
    third.verify(again)
    assert (third.built(ASSET, PARTITION).path / "a").read_bytes() == b"old"


def test_what_another_machine_keeps_is_not_unneeded(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    first = put(one, "r1", {"a": b"old"})
    put(one, "r2", {"a": b"new"})
    two.refresh()
    garbage.keep(two, first.manifest, "published")
    one.refresh()
    assert garbage.unneeded_versions(one) == []


def test_a_home_is_moved_by_one_command(machine: Machine, tmp_path: Path) -> None:
    """Everything that a home without a shared store has built is found by a machine that never built anything."""
    alone = Store(tmp_path / "one" / "store")
    made = put(alone)
    alone.save_verdict(ASSET, PARTITION, made.version, "check", {"passed": True})
    digest = alone.keep_study({"name": "mine"})
    store = machine("one")
    assert unshared(store) == [made.manifest]
    assert push(store).artifacts == 1
    assert push(store).artifacts == 0
    other = machine("two")
    assert pull(other).artifacts == 1
    assert other.built(ASSET, PARTITION).manifest == made.manifest
    assert other.verdicts(ASSET, PARTITION, made.version) == {"check": {"passed": True}}
    assert other.study_path(digest).is_file()
