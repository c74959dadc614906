"""The audit of one artifact: all that can be said of how it came about, and whether it still holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lwf_assets.errors import LwfError
from lwf_assets.lineage.chain import Chain, Fault, Link, read_chain
from lwf_assets.lineage.forgotten import LearnedRows, UnlearnedSample, learned_rows, unlearned_samples
from lwf_assets.lineage.integrity import find_faults
from lwf_assets.lineage.replay import CHEAP, Replayed, cell_of, replay, study_of
from lwf_assets.progress import SILENT, Progress
from lwf_assets.store.layout import TABLES
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.store import Store


@dataclass(frozen=True)
class OutsideRecord:
    """What another system says of an artifact of the chain."""

    system: Literal["Dagster", "MLflow"]
    artifact: str
    version: str
    run: str
    """The system's run that made it, or "" where the manifest names none."""
    differences: tuple[str, ...] = ()
    """What the system has otherwise than the manifest."""
    missing: bool = False
    """The system is there, but knows nothing of the run."""

    @property
    def agrees(self) -> bool:
        """Whether it says the same as the manifest."""
        return not self.differences and not self.missing


@dataclass(frozen=True)
class Audit:
    """One artifact and all that it was made from."""

    chain: Chain
    unlearned: tuple[UnlearnedSample, ...]
    learned: tuple[LearnedRows, ...]
    faults: tuple[Fault, ...]
    """Of the manifests alone, unless `verified`: then of every byte."""
    verified: bool
    replayed: tuple[Replayed, ...]
    outside: tuple[OutsideRecord, ...]
    verdicts: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """What the checks said of each artifact, and of the end whether it was promoted; by name and check."""

    @property
    def holds(self) -> bool:
        """Whether nothing was found that is not as it was recorded."""
        return (
            not self.faults and all(r.is_same for r in self.replayed) and not any(r.differences for r in self.outside)
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: artifacts with each after its inputs, the audited one last."""
        return {
            "artifact": self.chain.end.name,
            "version": self.chain.end.manifest.version,
            "seal": self.chain.end.manifest.seal,
            "holds": self.holds,
            "verified": self.verified,
            "artifacts": [{**_artifact(link), "checks": self.verdicts[link.name]} for link in self.chain.links],
            "unlearned": [asdict(sample) for sample in self.unlearned],
            "learned": [asdict(rows) for rows in self.learned],
            "faults": [{**asdict(fault), "path": str(fault.path)} for fault in self.faults],
            "replayed": [{**asdict(result), "same": result.is_same} for result in self.replayed],
            "outside": [{**asdict(record), "agrees": record.agrees} for record in self.outside],
        }


def audit(
    store: Store,
    manifest: Manifest,
    *,
    verify: bool = False,
    replay_end: bool = False,
    outside: Callable[[Chain], Sequence[OutsideRecord]] = lambda chain: (),
    progress: Progress = SILENT,
) -> Audit:
    """Go up the chain of an artifact.

    Args:
        store: where it is.
        manifest: the artifact's.
        verify: hash every file of the chain again, and make what is cheap again from its inputs.
        replay_end: make the artifact itself again, however long that takes, and compare.
        outside: asks other systems what they have of the chain.
        progress: notified of files that are hashed.

    Raises:
        LwfError: what should be recomputed cannot be.
    """
    chain = read_chain(store, manifest)
    faults = chain.faults
    if verify:
        progress.begin("Hashing", sum(len(link.manifest.files) for link in chain.links))
        faults = tuple(find_faults(store, chain, hashed=lambda path: progress.advance()))
    for link in chain.links:
        store.bring(link.manifest, TABLES)
    unlearned, learned, unreadable = list[UnlearnedSample](), list[LearnedRows](), tuple[Fault, ...]()
    try:
        unlearned, learned = unlearned_samples(chain), learned_rows(chain)
    except (OSError, ValueError, KeyError) as error:
        unreadable = (Fault(chain.end.name, chain.end.manifest.version, chain.end.folder, f"cannot be read: {error}"),)
    return Audit(
        chain,
        tuple(unlearned),
        tuple(learned),
        (*faults, *unreadable),
        verify,
        tuple(_replayed(store, chain, faults, cheap=verify, end=replay_end, progress=progress)),
        tuple(outside(chain)),
        {link.name: store.all_verdicts(link.manifest) for link in chain.links},
    )


def _replayed(
    store: Store, chain: Chain, faults: Sequence[Fault], *, cheap: bool, end: bool, progress: Progress
) -> list[Replayed]:
    """What is made again. A cheap step is passed over where its inputs are damaged, which is reported already, and
    where this is not the code that made it: its bytes are hashed all the same."""
    damaged = {(fault.artifact, fault.version) for fault in faults}
    links = [
        link
        for link in chain.links
        if cheap
        and link.manifest.asset in CHEAP
        and "study_settings" in link.manifest.provenance
        and cell_of(link).spec.code_version == link.manifest.code_version
        and _is_readable(store, link)
        and not any((other.name, other.manifest.version) in damaged for other in (link, *chain.inputs(link)))
    ]
    if end and chain.end not in links:
        links.append(chain.end)
    return [replay(store, chain, link, progress=progress) for link in links]


def _is_readable(store: Store, link: Link) -> bool:
    """Whether this code still reads the settings that the artifact was made with."""
    try:
        study_of(store, link)
    except LwfError:
        return False
    return True


def _artifact(link: Link) -> dict[str, Any]:
    manifest: dict[str, Any] = asdict(link.manifest)
    return {**manifest, "seal": link.manifest.seal, "sealed": link.sealed, "folder": str(link.folder)}
