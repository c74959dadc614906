"""What a store tells a place that it shares with other machines, and asks of it. Alone, it has none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from lwf_assets.store.manifest import FileEntry, Manifest


class Mirror(Protocol):
    """The shared place, of which the local store is a cache."""

    def refresh(self) -> None:
        """Get to know what others wrote down since."""

    def has(self, manifest: Manifest) -> bool:
        """Whether the files of an artifact are there, to be brought when they are needed."""

    def bring(self, manifest: Manifest, folder: Path, names: Collection[str]) -> Collection[str]:
        """Write those files of an artifact that are missing in `folder`, each checked by its hash; returns which.

        Raises:
            DamagedObjectError: the shared place has other bytes.
        """

    def troubles(self, manifest: Manifest, hashed: Callable[[FileEntry], object]) -> list[tuple[FileEntry, str]]:
        """Those files of an artifact that the shared place has otherwise than the manifest says, or no more, and what
        is wrong. `hashed` is called with each that was looked at."""

    def mend(self, manifest: Manifest, folder: Path) -> list[FileEntry]:
        """Write those again that are damaged there and whole in `folder`; returns what is damaged in both."""

    def at_work(self, asset: str, key: str | None, recipe: str, inputs: Sequence[Path]) -> AbstractContextManager[None]:
        """While the block makes a recipe from the folders `inputs`, in the process that holds its lock: they stay, and
        unfinished work is shared; what another machine left of it is brought first."""

    def publish(self, manifest: Manifest, folder: Path, *, instead: bool) -> Manifest:
        """Share a finished artifact; returns the manifest that its recipe stands for from now on: another machine's,
        if that was earlier, unless this one is to be taken `instead`."""

    def remove(self, folder: Path) -> None:
        """The artifact that belongs in `folder` is no longer there for anybody."""

    def sweep(self) -> None:
        """Free the space of what was removed long enough ago."""

    def share(self, path: Path) -> None:
        """Share a small file of the store as it is now; the last one to write it wins."""

    def share_merged(self, path: Path, merge: Callable[[bytes, bytes], bytes]) -> None:
        """Share a small file that others may have written too: `merge` gets theirs and ours."""


class Alone:
    """No shared place."""

    def refresh(self) -> None:
        """Nobody else writes."""

    def has(self, manifest: Manifest) -> bool:
        """There is no other place."""
        return False

    def bring(self, manifest: Manifest, folder: Path, names: Collection[str]) -> Collection[str]:
        """There is nowhere to bring it from."""
        return ()

    def troubles(self, manifest: Manifest, hashed: Callable[[FileEntry], object]) -> list[tuple[FileEntry, str]]:
        """There is no other place."""
        return []

    def mend(self, manifest: Manifest, folder: Path) -> list[FileEntry]:
        """There is nothing to mend."""
        return []

    def at_work(self, asset: str, key: str | None, recipe: str, inputs: Sequence[Path]) -> AbstractContextManager[None]:
        """Nothing is shared."""
        return nullcontext()

    def publish(self, manifest: Manifest, folder: Path, *, instead: bool) -> Manifest:
        """Its recipe stands for it."""
        return manifest

    def remove(self, folder: Path) -> None:
        """It was here alone."""

    def sweep(self) -> None:
        """It is free already."""

    def share(self, path: Path) -> None:
        """With nobody."""

    def share_merged(self, path: Path, merge: Callable[[bytes, bytes], bytes]) -> None:
        """With nobody."""


ALONE = Alone()
