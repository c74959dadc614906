"""Two machines and what they share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_server import BUCKET, S3Server, s3_server

from lwf_assets.object_storage.bucket import Bucket
from lwf_assets.store.shared.mirror import SharedMirror
from lwf_assets.store.store import Store

Machine = Callable[[str], Store]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as running:
        yield running


@pytest.fixture(params=["s3", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty shared place."""
    if request.param == "file":
        return f"file://{tmp_path}/shared"
    request.getfixturevalue("server").empty()
    return f"s3://{BUCKET}/team"


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Machine:
    """The store of a machine, by its name; known as of now."""

    def of(name: str) -> Store:
        root = tmp_path / name / "store"
        store = Store(root, SharedMirror(root, Bucket(url, patience=5)))
        store.refresh()
        return store

    return of
