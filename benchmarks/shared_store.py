"""The shared store beside the plain client: seconds of publishing and fetching the same files, and of planning from it.

Files are random bytes; each round has its own, so that nothing is there already. The S3 server is moto, in a process of
its own on this machine, which keeps everything in memory: what is compared is the two clients, not its speed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
from obstore.store import from_url

from lwf_assets.object_storage.bucket import Bucket
from lwf_assets.store.home import HOME_VARIABLE, REMOTE_VARIABLE, STUDY_VARIABLE, Home
from lwf_assets.store.manifest import FileEntry, Manifest, contents_version
from lwf_assets.store.shared.mirror import SharedMirror
from lwf_assets.store.store import Artifact, Store

ROOT = Path(__file__).resolve().parent.parent
MEGABYTE = 2**20


def shared_store(sizes: Sequence[int], rounds: int, sides: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """For S3 and a folder: of each round the seconds of publishing and fetching one artifact, and of the plain client
    with the same files; for studies of `sides` tasks, everything built, what `lwf plan` takes with them shared.

    Args:
        sizes: megabytes of the artifact's files; 0 stands for one of 10 kB.
        rounds: in which ours and the plain client take turns.
        sides: learning tasks, and as many forgetting tasks.
        say: told how far it is.
    """
    data: dict[str, Any] = {"sizes": list(sizes), "transfers": {}, "plans": []}
    with tempfile.TemporaryDirectory() as folder, _s3(Path(folder)) as bucket:
        places = {"S3 (moto)": f"s3://{bucket}", "a folder": f"file://{folder}/shared"}
        for name, url in places.items():
            measured = [
                _round(f"{url}/{number}", Path(folder) / "round", sizes, ours_first=number % 2 == 0)
                for number in range(rounds + 1)
            ][1:]  # the first, not counted, has everything imported
            data["transfers"][name] = {key: [one[key] for one in measured] for key in measured[0]}
            say(
                f"{name}: " + ", ".join(f"{key} {min(values):.2f} s" for key, values in data["transfers"][name].items())
            )
        for side in sides:
            point = _planned(
                side, Path(folder) / f"plan-{side}", {name: f"{url}/plan-{side}" for name, url in places.items()}
            )
            data["plans"].append(point)
            say(f"{point['cells']} cells: " + ", ".join(f"{k} {v:.2f} s" for k, v in point["seconds"].items()))
    return data


@contextmanager
def _s3(folder: Path) -> Iterator[str]:
    sys.path[:0] = [str(ROOT / "tests" / "support")]
    from s3_server import BUCKET, s3_server

    with s3_server(folder / "s3.log"):
        yield BUCKET


def _round(url: str, folder: Path, sizes: Sequence[int], *, ours_first: bool) -> dict[str, float]:
    """Ours and the plain client, each to a place of its own, and back into an empty folder; nothing is left there."""
    shutil.rmtree(folder, ignore_errors=True)
    files = _write_files(folder / "files", sizes)
    plain = from_url(f"{url}-plain", **_options(url))
    sender, receiver = _store(folder / "one", url), _store(folder / "two", url)
    artifact = _artifact(sender, files)
    there: dict[str, Callable[[], object]] = {
        "publish": lambda: sender.mirror.publish(artifact.manifest, artifact.path, instead=False),
        "plain put": lambda: [obstore.put(plain, path.name, path) for path in files],
    }
    back: dict[str, Callable[[], object]] = {
        "fetch": lambda: receiver.verify(receiver.artifact_of(artifact.manifest)),
        "plain get": lambda: _get_all(plain, [path.name for path in files], folder / "got"),
    }
    seconds = {name: _seconds(there[name]) for name in sorted(there, key="publish".__ne__, reverse=not ours_first)}
    receiver.refresh()
    seconds |= {name: _seconds(back[name]) for name in sorted(back, key="fetch".__ne__, reverse=not ours_first)}
    for place in (plain, from_url(url, **_options(url))):
        obstore.delete(place, [meta["path"] for some in obstore.list(place) for meta in some])
    return seconds


def _options(url: str) -> dict[str, Any]:
    return {"mkdir": True} if url.startswith("file:") else {"client_options": {"allow_http": True, "timeout": "300s"}}


def _write_files(folder: Path, sizes: Sequence[int]) -> list[Path]:
    folder.mkdir(parents=True)
    paths = []
    for number, size in enumerate(sizes):
        path = folder / f"file-{number}"
        path.write_bytes(os.urandom(size * MEGABYTE or 10_000))
        paths.append(path)
    return paths


def _store(folder: Path, url: str) -> Store:
    root = folder / "store"
    store = Store(root, SharedMirror(root, Bucket(url)))
    store.refresh()
    return store


def _artifact(store: Store, files: Sequence[Path]) -> Artifact:
    """An artifact of the files, in the local store as its commit leaves it."""
    entries = tuple(
        FileEntry(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size) for path in files
    )
    manifest = Manifest("base_model", None, contents_version(entries), "recipe", "1", {}, (), entries)
    artifact = store.artifact_of(manifest)
    artifact.path.mkdir(parents=True)
    for path in files:
        os.link(path, artifact.path / path.name)
    return artifact


def _get_all(objects: Any, names: Sequence[str], folder: Path) -> None:
    """As the plain client's documentation does it, one after the other."""
    folder.mkdir()
    for name in names:
        with (folder / name).open("wb") as file:
            for some in obstore.get(objects, name):
                file.write(some)


def _planned(side: int, folder: Path, urls: dict[str, str]) -> dict[str, Any]:
    """A large study, everything built, pushed to each place; wall seconds of `lwf plan` alone and with each, in new
    processes with a warm cache: the home knows everything already, and has to make sure."""
    from lwf_assets.store.shared.sync import push

    folder.mkdir()
    subprocess.run(
        [sys.executable, "-m", "benchmarks.load", "fill", str(folder), str(side), "1"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    home = Home(folder / "home")
    seconds, pushed = {"alone": _plan_seconds(folder, None)}, {}
    for name, url in urls.items():
        store = Store(home.store.root, SharedMirror(home.store.root, Bucket(url)))
        pushed[name] = _seconds(lambda store=store: push(store))  # type: ignore[misc]
        _plan_seconds(folder, url)  # not counted: it gets to know what is there
        seconds[name] = min(_plan_seconds(folder, url) for _ in range(3))
    cells = sum(1 for _ in home.store.root.glob("*/*/current"))
    return {"cells": cells, "seconds": seconds, "push_seconds": pushed}


def _plan_seconds(folder: Path, url: str | None) -> float:
    environment = {**os.environ, HOME_VARIABLE: str(folder / "home"), STUDY_VARIABLE: str(folder / "study.yaml")}
    if url is not None:
        environment[REMOTE_VARIABLE] = url
    command = [sys.executable, "-m", "dagster_project.cli", "plan", "--json"]
    return _seconds(lambda: subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True))


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
