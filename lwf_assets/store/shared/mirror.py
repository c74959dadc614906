"""The local store's side of a shared one: publishes what is finished, and brings what is needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lwf_assets.disk.writing import write_atomically
from lwf_assets.errors import LwfError
from lwf_assets.object_storage.at_once import each_at_once
from lwf_assets.object_storage.bucket import Bucket, Read
from lwf_assets.store.manifest import MANIFEST, FileEntry, Manifest
from lwf_assets.store.partition import folder_name
from lwf_assets.store.shared.cache import cache_limit, drop_unused, in_use
from lwf_assets.store.shared.files import Files
from lwf_assets.store.shared.garbage import doom, sweep
from lwf_assets.store.shared.index import FILES_INDEX, Changes, Index
from lwf_assets.store.shared.place import PUBLISHED, RECORDS, check_place, doomed_key, published_key, scratch_key
from lwf_assets.store.shared.scratch import shared_scratch
from lwf_assets.store.store import Store

_log = logging.getLogger("lwf.store")


class SharedMirror:
    """A shared place for the store below `root`; see `Mirror`.

    Args:
        root: of the local store.
        bucket: the shared place.
    """

    def __init__(self, root: Path, bucket: Bucket) -> None:
        self.root, self.bucket = root, bucket
        self.files = Files(bucket, Index(root, bucket.url, FILES_INDEX))
        self.index = Index(root, bucket.url)
        self._is_checked = False

    def refresh(self) -> None:
        """Read the records that others wrote since: one listing, and those whose tag is another."""
        self._check()
        with self.index.changed() as changes:
            known = self.index.tags()
            listed = each_at_once(self.bucket.list, (RECORDS, PUBLISHED))
            there = {name: entry.tag for part in listed for name, entry in part.items()}
            changed = [name for name, tag in there.items() if known.get(name) != tag]
            # A recipe's entry is believed by its manifest, so manifests come first.
            read = each_at_once(self._read, [name for name in changed if name.startswith(f"{RECORDS}/")])
            for path, content in sorted(filter(None, read), key=lambda found: found[0].parent.name != "manifests"):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)
            changes.update(dict.fromkeys(known.keys() - there.keys()))
            changes.update({name: there[name] for name in changed})

    def has(self, manifest: Manifest) -> bool:
        """Whether the artifact was published, as far as the last refresh knows."""
        return published_key(manifest) in self.index.tags()

    def knows(self, path: Path) -> bool:
        """Whether there is a record of that name in the shared place, as far as the last refresh knows."""
        return self._name(path) in self.index.tags()

    def bring(self, manifest: Manifest, folder: Path, names: Collection[str]) -> Collection[str]:
        """Download the files that are missing in `folder`. Processes of this machine that need the same take turns, and
        the second finds them there."""

        def missing() -> list[FileEntry]:
            return [entry for entry in manifest.files if entry.path in names and not (folder / entry.path).exists()]

        if not self.has(manifest) or not (missing() or not (folder / MANIFEST).exists()):
            return ()
        lock = self._folder_of(manifest) / "scratch" / f"fetch-{manifest.version}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            wanted = missing()
            self.files.bring(manifest, folder, wanted)
        return [entry.path for entry in wanted]

    def troubles(self, manifest: Manifest, hashed: Callable[[FileEntry], object]) -> list[tuple[FileEntry, str]]:
        """Those files of a published artifact that are not there as they should be, and what is wrong."""
        return self.files.troubles(manifest, hashed) if self.has(manifest) else []

    def mend(self, manifest: Manifest, folder: Path) -> list[FileEntry]:
        """Upload again what is damaged there and whole in `folder`; returns what is damaged in both."""
        return [entry for entry, _ in self.troubles(manifest, lambda entry: None) if not self.files.mend(entry, folder)]

    @contextmanager
    def at_work(self, asset: str, key: str | None, recipe: str, inputs: Sequence[Path]) -> Iterator[None]:
        """Keep the inputs in the cache, and share unfinished work."""
        lock = self.root / asset / folder_name(key) / "scratch" / f"{recipe}.lock"
        limit = cache_limit()
        with in_use(self.root, lock, inputs):
            if limit is not None:
                drop_unused(Store(self.root, self), limit)
            scratch = lock.with_suffix("")
            scratch.mkdir(parents=True, exist_ok=True)
            with shared_scratch(self.files, scratch_key(asset, key, recipe), scratch):
                yield

    def publish(self, manifest: Manifest, folder: Path, *, instead: bool) -> Manifest:
        """Upload the files that are not there yet, then the mark, the manifest and the recipe's entry."""
        self._check()
        self.files.upload(manifest, folder, anew=instead)
        made: Changes = {}
        first = self._declare(manifest, made, instead=instead)
        with self.index.changed() as changes:
            changes.update(made)
        if first.version != manifest.version:
            _log.warning(
                "%s: another machine made it first, with other bytes (%s); its artifact is used",
                manifest.name,
                first.version,
            )
            self._keep(first)
        return first

    def _declare(self, manifest: Manifest, made: Changes, *, instead: bool) -> Manifest:
        """Write that an artifact is there; what was written goes to `made`. Returns the manifest that its recipe stands
        for."""
        local, content = self._folder_of(manifest), manifest.to_json().encode()
        recipe = local / "recipes" / f"{manifest.recipe}.json"
        made[published_key(manifest)] = self.bucket.write(published_key(manifest), b"")
        self.bucket.delete([doomed_key(manifest)])
        self._create(local / "manifests" / f"{manifest.seal}.json", content, made)
        if self._create(recipe, content, made):
            return manifest
        theirs = self.bucket.read(self._name(recipe))
        if theirs is None or instead:
            made[self._name(recipe)] = self.bucket.write(self._name(recipe), content)
            return manifest
        first = self._first(manifest, theirs)
        mark = self.bucket.look(published_key(first))
        if mark is not None:
            made[published_key(first)] = mark.tag
        return first

    def _first(self, manifest: Manifest, theirs: Read) -> Manifest:
        try:
            first = Manifest.parse(theirs.content)
        except ValueError:
            first = None
        if first is None or first.recipe != manifest.recipe:
            raise LwfError(
                f"{manifest.name} {manifest.version}: what the shared store has under its recipe {manifest.recipe} is "
                f"not its manifest; nothing was overwritten. `lwf build --force {manifest.asset}` replaces it"
            )
        return first

    def remove(self, folder: Path) -> None:
        """Mark an artifact as removed; its files stay for a while (see `garbage.py`)."""
        name = folder.relative_to(self.root).as_posix()
        with self.index.changed() as changes:
            doom(self.bucket, name)
            changes[f"{PUBLISHED}/{name}"] = None

    def sweep(self) -> None:
        """Remove files that nothing has needed for long."""
        sweep(self.bucket, Store(self.root, self).manifests())

    def share_all(self, paths: Iterable[Path]) -> None:
        """Write records as they are in the local store, several at once. Only for who is alone in writing them."""
        self._check()
        named = [(self._name(path), path) for path in paths]
        tags = each_at_once(lambda one: self.bucket.write(one[0], one[1].read_bytes()), named)
        with self.index.changed() as changes:
            changes.update({name: tag for (name, _), tag in zip(named, tags, strict=True)})

    def share(self, path: Path) -> None:
        """Write a record as it is in the local store."""
        self._check()
        with self.index.changed() as changes:
            changes[self._name(path)] = self.bucket.write(self._name(path), path.read_bytes())

    def share_merged(self, path: Path, merge: Callable[[bytes, bytes], bytes]) -> None:
        """Write a record with what others wrote into it meanwhile, here and there."""
        self._check()
        name, ours = self._name(path), path.read_bytes()
        with self.index.changed() as changes:
            while True:
                theirs = self.bucket.read(name)
                merged = ours if theirs is None else merge(theirs.content, ours)
                tag = self.bucket.create(name, merged) if theirs is None else self._replace(name, merged, theirs)
                if tag is not None:
                    changes[name] = tag
                    break
            if merged != ours:
                write_atomically(path, merged.decode())

    def _replace(self, name: str, content: bytes, theirs: Read) -> str | None:
        return theirs.tag if content == theirs.content else self.bucket.replace(name, content, theirs)

    def _create(self, path: Path, content: bytes, changes: Changes) -> bool:
        tag = self.bucket.create(self._name(path), content)
        if tag is not None:
            changes[self._name(path)] = tag
        return tag is not None

    def _keep(self, manifest: Manifest) -> None:
        """Another machine's manifest in place of ours."""
        local = self._folder_of(manifest)
        for path in (local / "manifests" / f"{manifest.seal}.json", local / "recipes" / f"{manifest.recipe}.json"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, manifest.to_json())

    def _read(self, name: str) -> tuple[Path, str] | None:
        found = self.bucket.read(name)
        return None if found is None else (self.root / name.removeprefix(f"{RECORDS}/"), found.content.decode())

    def _name(self, path: Path) -> str:
        return f"{RECORDS}/{path.relative_to(self.root).as_posix()}"

    def _folder_of(self, manifest: Manifest) -> Path:
        return self.root / manifest.asset / folder_name(manifest.partition)

    def _check(self) -> None:
        if not self._is_checked:
            check_place(self.bucket)
            self._is_checked = True
