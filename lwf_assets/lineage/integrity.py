"""Whether an artifact and all that it was made from are still what they were: every byte is hashed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from lwf_assets.disk.hashes import hash_file
from lwf_assets.lineage.chain import Chain, Fault, Link
from lwf_assets.store.manifest import MANIFEST, contents_version, is_older_than_seals, recorded_recipe
from lwf_assets.store.records import read_verdicts
from lwf_assets.store.store import Store


def find_faults(store: Store, chain: Chain, *, hashed: Callable[[Path], object] = lambda path: None) -> Iterator[Fault]:
    """Every file, manifest and recorded hash of the chain that does not fit the others, inputs first.

    Args:
        store: where the chain is.
        chain: what is checked.
        hashed: called with each file that was hashed, to show progress.
    """
    yield from chain.faults
    for link in chain.links:
        yield from _of_manifest(store, link)
        yield from _of_study(store, link)
        yield from _of_verdicts(store, link)
        yield from (_fault(link, path, what) for path, what in store.troubles(link.manifest, hashed))


def _of_manifest(store: Store, link: Link) -> Iterator[Fault]:
    """Its hashes follow from what it says, and no copy of it says anything else."""
    manifest = link.manifest
    if contents_version(manifest.files) != manifest.version:
        yield _fault(link, link.folder / MANIFEST, "the version is not the hash of the files that the manifest lists")
    if recorded_recipe(manifest) != manifest.recipe:
        yield _fault(link, link.folder / MANIFEST, "the recipe is not the hash of the settings and inputs it tells")
    folder = store.folder_of(manifest.asset, manifest.partition)
    for copy in (link.folder / MANIFEST, folder / "recipes" / f"{manifest.recipe}.json"):
        if not copy.is_file():
            if copy.parent.is_dir() or not store.is_there(manifest):
                yield _fault(link, copy, "the manifest is missing")
        elif not store.sealed_path(manifest, hash_file(copy)).is_file() and not is_older_than_seals(manifest):
            yield _fault(link, copy, "the manifest was changed: it is none that was ever written here")
    kept = store.sealed_path(manifest, manifest.seal)
    if kept.is_file() and hash_file(kept) != manifest.seal:
        yield _fault(link, kept, "the manifest was changed")


def _of_study(store: Store, link: Link) -> Iterator[Fault]:
    digest = link.manifest.provenance.get("study_settings")
    if digest is None:
        return
    path = store.study_path(digest)
    if not path.is_file():
        yield _fault(link, path, "the settings of the study that it was made for are missing")
    elif hash_file(path) != digest:
        yield _fault(link, path, "the settings of the study that it was made for were changed")


def _of_verdicts(store: Store, link: Link) -> Iterator[Fault]:
    for path in store.verdict_files(link.manifest):
        if read_verdicts(path) is None:
            yield _fault(link, path, "what the checks said was changed; the next build runs them again")


def _fault(link: Link, path: Path, what: str) -> Fault:
    return Fault(link.name, link.manifest.version, path, what)
