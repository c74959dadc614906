"""What a service refuses, asked for real over HTTP: one line that says what to do, and nothing half written."""

from __future__ import annotations

from pathlib import Path

import pytest
from canned_answers import answering
from s3_server import S3Server, s3_server
from stored import ASSET, PARTITION, put

from lwf_assets.errors import LwfError
from lwf_assets.object_storage.bucket import Bucket
from lwf_assets.store.shared.mirror import SharedMirror
from lwf_assets.store.store import Store

URL = "s3://team-bucket/lwf"

REFUSALS = [
    (404, "NoSuchBucket", "there is no such bucket; create it, or correct the name"),
    (
        403,
        "AccessDenied",
        "the credentials of the environment have no right to do this; they need to list, read and write",
    ),
    (403, "InvalidAccessKeyId", "the access key is unknown to it; correct AWS_ACCESS_KEY_ID"),
    (403, "SignatureDoesNotMatch", "the secret key does not belong to the access key; correct AWS_SECRET_ACCESS_KEY"),
    (403, "RequestTimeTooSkewed", "this machine's clock is off by more than it allows; set the clock"),
    (400, "AuthorizationHeaderMalformed", "the bucket is in another region; set AWS_REGION to it"),
    (301, "PermanentRedirect", "the bucket is in another region; set AWS_REGION to it"),
    (400, "ExpiredToken", "the credentials of the environment have expired; renew them"),
]


def of(root: Path) -> Store:
    return Store(root, SharedMirror(root, Bucket(URL, patience=0)))


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")


@pytest.mark.parametrize(("status", "code", "words"), REFUSALS)
def test_a_refusal_is_one_line_and_nothing_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: str
) -> None:
    root = tmp_path / "store"
    with answering(status, code) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        store = of(root)
        for act in (store.refresh, store.mirror.sweep, lambda: put(store)):
            with pytest.raises(LwfError) as raised:
                act()
            assert str(raised.value) == f"LWF_REMOTE={URL}: {words}"
    assert store.current(ASSET, PARTITION) is None
    assert not list(root.rglob(".draft-*"))


@pytest.mark.parametrize("status", [301, 400, 403, 404, 409, 411, 501])
def test_a_refusal_without_words_is_one_line(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """A HEAD has no body that would say why."""
    with answering(status, "Unknown") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        bucket = Bucket(URL, patience=0)
        if status == 404:
            assert bucket.look("x") is None
            return
        with pytest.raises(LwfError) as raised:
            bucket.look("x")
    said = str(raised.value)
    assert said.startswith(f"LWF_REMOTE={URL}: ")
    assert "\n" not in said
    assert len(said) < 400


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_service_that_is_busy_is_waited_for(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    from lwf_assets.object_storage.problems import AwayError

    with answering(status, "SlowDown") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(AwayError, match="does not answer"):
            Bucket(URL, patience=0).read("x")


def test_what_cannot_be_published_can_be_published_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights that are missing in the middle: the artifact is whole here, and goes there when it is asked for again."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    root = tmp_path / "store"
    with answering(403, "AccessDenied") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(LwfError, match="no right"):
            put(of(root))
    with s3_server(tmp_path / "log") as server:
        url = _bucket_of(server)
        store = Store(root, SharedMirror(root, Bucket(url, patience=5)))
        made = put(store)
        other = Store(tmp_path / "other", SharedMirror(tmp_path / "other", Bucket(url, patience=5)))
        other.refresh()
        assert other.built(ASSET, PARTITION).manifest == made.manifest


def _bucket_of(server: S3Server) -> str:
    from s3_server import BUCKET

    server.empty()
    return f"s3://{BUCKET}/lwf"
