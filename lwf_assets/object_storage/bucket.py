"""Reads and writes objects by name, waits while nobody answers, and says in one line what does not work."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, PreconditionError
from obstore.store import from_url

from lwf_assets.errors import LwfError
from lwf_assets.object_storage.arriving import Span, arrive
from lwf_assets.object_storage.at_once import wait
from lwf_assets.object_storage.problems import (
    VARIABLE,
    AwayError,
    ObjectStorageError,
    is_about_the_bucket,
    is_from_the_store,
    problem_with,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PATIENCE = 900.0
"""Seconds for which an object store may be away before a build gives up."""
PART, PARTS = 8 * 2**20, 9000
"""Bytes of the parts in which large files are written, and how many there are at most; S3 takes 10,000."""
PARTS_AT_ONCE = 4
"""Of one file; they are in memory."""
CHUNK = 8 * 2**20
"""Bytes that are read before they are hashed or written."""

_log = logging.getLogger("lwf.store")
R = TypeVar("R")


@dataclass(frozen=True)
class Entry:
    """What is known of an object without reading it. `tag` is another whenever the bytes are."""

    tag: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Read:
    """An object's bytes, and by what it is known that they are still those. Some services go by the version."""

    content: bytes
    tag: str
    version: str | None


class DamagedObjectError(LwfError):
    """An object is not the bytes that its name says."""


class Bucket:
    """The objects below one address.

    Credentials, region and endpoint come from the environment, by the names that each provider's own tools use.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`.
        patience: seconds to wait for a store that does not answer.

    Raises:
        ObjectStorageError: not such an address.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE) -> None:
        self.url = url.rstrip("/")
        self.verifies_itself = not self.url.startswith("file://")
        """Whether the service checks its bytes against sums of its own, and gives another tag with every write."""
        self._patience, self._is_away = patience, False
        self._objects = _opened(self.url)

    def list(self, prefix: str) -> dict[str, Entry]:
        """Every object below `prefix`, by name."""

        def read() -> dict[str, Entry]:
            chunks = obstore.list(self._objects, prefix, chunk_size=1000)
            return {meta["path"]: _entry(meta) for chunk in chunks for meta in chunk}

        return self._patiently(read)

    def is_empty(self) -> bool:
        """Whether there is no object at all."""
        return self._patiently(lambda: next(iter(obstore.list(self._objects, chunk_size=1)), None) in (None, []))

    def look(self, key: str) -> Entry | None:
        """What is known of an object; None where there is none."""
        return self._if_there(lambda: _entry(obstore.head(self._objects, key)))

    def read(self, key: str) -> Read | None:
        """An object; None where there is none."""

        def read() -> Read:
            found = obstore.get(self._objects, key)
            return Read(bytes(found.bytes()), _tag(found.meta), found.meta.get("version"))

        return self._if_there(read)

    def write(self, key: str, content: bytes) -> str:
        """Write an object, whatever was there; returns its tag."""
        return self._patiently(lambda: _tag(obstore.put(self._objects, key, content)))

    def create(self, key: str, content: bytes) -> str | None:
        """Write an object where there is none; returns its tag, or None where there is one already."""

        def create() -> str | None:
            try:
                return _tag(obstore.put(self._objects, key, content, mode="create"))
            except (AlreadyExistsError, FileExistsError, PreconditionError):
                return None

        return self._patiently(create)

    def replace(self, key: str, content: bytes, before: Read) -> str | None:
        """Write an object in place of what was read; None where there is something else by now.

        A folder cannot compare and swap: there the last one to write wins.
        """

        mode: Any = {"e_tag": before.tag} | ({} if before.version is None else {"version": before.version})

        def replace() -> str | None:
            try:
                return _tag(obstore.put(self._objects, key, content, mode=mode))
            except (PreconditionError, AlreadyExistsError):
                return None
            except (NotSupportedError, NotImplementedError):
                return _tag(obstore.put(self._objects, key, content))

        return self._patiently(replace)

    def upload(self, key: str, path: Path) -> str:
        """Write the file at `path`, large ones in parts, several at once; returns its tag."""
        part = max(PART, path.stat().st_size // PARTS)
        options: Any = {"chunk_size": part, "max_concurrency": PARTS_AT_ONCE}
        return self._patiently(lambda: _tag(obstore.put(self._objects, key, path, **options)))

    def download(self, key: str, path: Path, sha256: str, size: int | None = None) -> None:
        """Write an object to `path`, which appears there whole or not at all. It is hashed as it comes.

        Args:
            key: of the object.
            path: of the file.
            sha256: of its bytes, in hex.
            size: how many they are, where that is known.

        Raises:
            DamagedObjectError: it is missing, or its bytes are others than `sha256` says.
            OSError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        part = Path(name)
        try:
            try:
                whole = size or self._size(key, size)
                found = arrive(descriptor, path, whole, lambda span: self._read_span(key, span, whole))
            finally:
                os.close(descriptor)
            if found != sha256:
                raise self._changed(key, f"its sha256 is {found[:16]}.. and was {sha256[:16]}..")
            part.chmod(0o644)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def hash_of(self, key: str) -> str:
        """sha256 of an object's bytes, in hex; nothing is written.

        Raises:
            DamagedObjectError: it is missing.
        """

        def read() -> str:
            digest = hashlib.sha256()
            for some in obstore.get(self._objects, key).stream(min_chunk_size=CHUNK):
                digest.update(some)
            return digest.hexdigest()

        found = self._if_there(read)
        if found is None:
            raise self._missing(key)
        return found

    def _size(self, key: str, expected: int | None) -> int:
        """How large an object is, which must be as large as `expected`."""
        there = self.look(key)
        if there is None:
            raise self._missing(key)
        if expected is not None:
            self._compare(key, there.size, expected)
        return there.size

    def _compare(self, key: str, size: int, expected: int) -> None:
        if size != expected:
            raise self._changed(key, f"it has {size:,} bytes and had {expected:,}")

    def _read_span(self, key: str, span: Span, whole: int) -> None:
        """Read a span of an object of `whole` bytes; after an interruption, what is left of it."""

        def go_on() -> bool:
            found = obstore.get(self._objects, key, options={"range": (span.at, span.end)})
            self._compare(key, found.meta["size"], whole)
            for some in found.stream(min_chunk_size=CHUNK):
                span.write(some)
            return True

        if not self._if_there(go_on):
            raise self._missing(key)

    def _missing(self, key: str) -> DamagedObjectError:
        return DamagedObjectError(f"{VARIABLE}={self.url}: the object {key} is missing")

    def _changed(self, key: str, how: str) -> DamagedObjectError:
        return DamagedObjectError(f"{VARIABLE}={self.url}: the object {key} was changed: {how}")

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there too."""
        there = list(keys)
        if there:
            self._if_there(lambda: obstore.delete(self._objects, there))

    def _patiently(self, act: Callable[[], R]) -> R:
        """What `act` returns, asked again while nobody answers."""
        began, pause = time.monotonic(), 0.5
        while True:
            try:
                result = act()
                self._is_away = False
                return result
            except BaseException as error:
                if not is_from_the_store(error):
                    raise
                problem = problem_with(self.url, error)
                if isinstance(error, FileNotFoundError) and not is_about_the_bucket(error):
                    raise
            if not isinstance(problem, AwayError) or time.monotonic() - began > self._patience:
                raise problem
            if not self._is_away:  # once, however many transfers wait
                _log.warning("%s. Waiting for it; nothing is lost.", problem)
                self._is_away = True
            if wait(pause):
                raise problem
            pause = min(2 * pause, 10.0)

    def _if_there(self, act: Callable[[], R]) -> R | None:
        """The same; None where there is no such object."""
        try:
            return self._patiently(act)
        except FileNotFoundError:
            return None


def _opened(url: str) -> ObjectStore:
    scheme = url.partition("://")[0]
    if scheme not in ("s3", "gs", "az", "file"):
        raise ObjectStorageError(
            f"{VARIABLE}={url}: give s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder"
        )
    try:
        if scheme == "file":
            return from_url(url, mkdir=True)
        # The waiting is ours, so that it is told and can last.
        retry: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=30)}
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        return from_url(url, retry_config=retry, client_options={"allow_http": plain, "timeout": "300s"})
    except (BaseError, ValueError, OSError) as error:
        raise problem_with(url, error) from None


def _entry(meta: Any) -> Entry:
    return Entry(_tag(meta), meta["size"], meta["last_modified"])


def _tag(result: Any) -> str:
    return str(result.get("e_tag") or result.get("version") or "")
