"""An object store that is not there, does not know us, or is away for a while: one line, or patience."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import BUCKET, S3Server, s3_server

from lwf_assets.object_storage.bucket import Bucket, DamagedObjectError
from lwf_assets.object_storage.problems import AwayError, ObjectStorageError, problem_with


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as running:
        yield running


@pytest.fixture
def bucket(server: S3Server) -> Bucket:
    server.empty()
    return Bucket(f"s3://{BUCKET}/a", patience=5)


def test_only_one_creates_and_only_what_was_read_is_replaced(bucket: Bucket) -> None:
    assert bucket.is_empty()
    first = bucket.create("x", b"1")
    assert first is not None
    assert bucket.create("x", b"2") is None
    read = bucket.read("x")
    assert read is not None
    assert (read.content, read.tag) == (b"1", first)
    second = bucket.replace("x", b"3", read)
    assert second is not None
    assert bucket.replace("x", b"4", read) is None
    assert {name: entry.tag for name, entry in bucket.list("").items()} == {"x": second}
    bucket.delete(["x", "never there"])
    assert bucket.read("x") is None
    assert bucket.look("x") is None


def test_a_large_file_travels_in_parts(bucket: Bucket, tmp_path: Path) -> None:
    import hashlib

    content = os.urandom(40 * 2**20)
    (tmp_path / "big").write_bytes(content)
    bucket.upload("big", tmp_path / "big")
    bucket.download("big", tmp_path / "again", hashlib.sha256(content).hexdigest())
    assert (tmp_path / "again").read_bytes() == content


def test_a_download_that_is_not_what_it_should_be_leaves_nothing(bucket: Bucket, tmp_path: Path) -> None:
    bucket.write("x", b"1")
    for key, word in (("x", "changed"), ("y", "missing")):
        with pytest.raises(DamagedObjectError, match=f"the object {key} .*{word}"):
            bucket.download(key, tmp_path / "out", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_no_bucket_is_one_line(server: S3Server) -> None:
    with pytest.raises(ObjectStorageError) as raised:
        Bucket("s3://no-such-bucket/a").list("")
    assert str(raised.value) == (
        "LWF_REMOTE=s3://no-such-bucket/a: there is no such bucket; create it, or correct the name"
    )


@pytest.mark.parametrize("url", ["http://x/y", "bucket/prefix", "ftp://x", ""])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ObjectStorageError, match="give s3://bucket/prefix, gs://"):
        Bucket(url)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("403 Forbidden: <Error><Code>AccessDenied</Code>", "no right"),
        ("403 Forbidden: <Error><Code>InvalidAccessKeyId</Code>", "AWS_ACCESS_KEY_ID"),
        ("403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code>", "AWS_SECRET_ACCESS_KEY"),
        ("403 Forbidden: <Error><Code>RequestTimeTooSkewed</Code>", "clock"),
        ("301 Moved Permanently: <Error><Code>PermanentRedirect</Code>", "AWS_REGION"),
        ("400 Bad Request: <Error><Code>AuthorizationHeaderMalformed</Code>", "AWS_REGION"),
        ("400 Bad Request: <Error><Code>ExpiredToken</Code>", "expired"),
        ("Error performing PUT http://169.254.169.254/latest/api/token: error sending request", "no credentials"),
        ("something else\nDebug source: lots", "something else"),
    ],
)
def test_what_a_service_says_becomes_one_line_that_says_what_to_do(said: str, words: str) -> None:
    problem = problem_with("s3://b", OSError(said))
    assert words in str(problem)
    assert "\n" not in str(problem)
    assert not isinstance(problem, AwayError)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ObjectStorageError, match="LWF_REMOTE=file://"):
        Bucket(f"file://{tmp_path}/file/below").write("x", b"")


def test_a_server_that_is_away_is_waited_for(
    server: S3Server, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    """It is another server that answers again, on the same port, with nothing in it."""
    bucket.write("x", b"1")
    server.end()

    def come_back() -> None:
        time.sleep(2)
        server.begin()
        server.empty()

    thread = threading.Thread(target=come_back)
    with caplog.at_level(logging.WARNING, logger="lwf.store"):
        thread.start()
        patient = Bucket(bucket.url, patience=60)
        while patient.read("x") is None and thread.is_alive():
            time.sleep(0.1)
        patient.write("y", b"2")
    thread.join()
    assert [record.message.count("Waiting for it; nothing is lost.") for record in caplog.records] == [1]


def test_a_server_that_stays_away_is_an_error(server: S3Server, bucket: Bucket) -> None:
    impatient = Bucket(bucket.url, patience=0.5)
    server.end()
    try:
        with pytest.raises(AwayError, match=r"LWF_REMOTE=s3://.* does not answer"):
            impatient.read("x")
    finally:
        server.begin()


WAITS = """
import logging, signal, sys
from lwf_assets.object_storage.bucket import Bucket
signal.signal(signal.SIGINT, signal.default_int_handler)
logging.basicConfig(stream=sys.stdout)
Bucket(sys.argv[1], patience=60).read("x")
"""


def test_a_program_that_is_interrupted_does_not_wait(bucket: Bucket, server: S3Server) -> None:
    server.end()
    try:
        program = subprocess.Popen([sys.executable, "-uc", WAITS, bucket.url], stdout=-1, stderr=-1, text=True)
        assert program.stdout is not None
        assert "does not answer" in program.stdout.readline()
        program.send_signal(signal.SIGINT)
        told = program.communicate(timeout=20)[1]
    finally:
        server.begin()
    assert "KeyboardInterrupt" in told
