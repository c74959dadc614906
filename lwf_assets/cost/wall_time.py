"""Estimated wall time, from the wall times of earlier work.

Nothing is assumed about the machine: a manifest says how much work its artifact was and how long it took. Without a
manifest of the asset, or of one that computes alike, there is no estimate.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import islice
from statistics import median

from lwf_assets.cost.cell_cost import Cost
from lwf_assets.graph.cells import Cell
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.store import Store

ALIKE = (
    ("fisher_diagonal", "confidence_terms"),
    ("reference_checkpoint", "lwf_checkpoint", "arm_checkpoint"),
    ("self_generated_corpus", "evaluation"),
)
"""Assets that spend a unit of work in the same way, and can replace each other in an estimate."""
NEAREST = 3
"""Earlier runs that an estimate is the median of."""
RECENT = 50
"""Manifests of an asset that are read, newest first."""


class Pace:
    """What the manifests of one store say about time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._timed = cache(self._read)

    def seconds(self, cell: Cell, cost: Cost, recipe: str | None) -> float | None:
        """Wall time of making `cell`: that of its own recipe if it was made before, else in proportion to the work of
        the runs that were nearest to it in size. Where the work is unknown, as long as the partition last took.
        None without any of these."""
        own = self._timed(cell.asset)
        same = [m for m in own if recipe is not None and m.recipe == recipe]
        if cost.work is None:
            same += [m for m in own if m.partition == cell.partition.key]
        if same or cost.work is None:
            return float(same[0].provenance["wall_seconds"]) if same else None
        others = [name for alike in ALIKE if cell.asset in alike for name in alike if name != cell.asset]
        return _in_proportion(own, cost.work) or _in_proportion([m for n in others for m in self._timed(n)], cost.work)

    def _read(self, asset: str) -> list[Manifest]:
        """Manifests with a whole wall time, newest first, of the device that worked last."""
        timed = [m for m in islice(self._store.manifests(asset), RECENT) if m.provenance.get("resumed") is False]
        return [m for m in timed if m.provenance.get("device") == timed[0].provenance.get("device")]


def _in_proportion(manifests: list[Manifest], work: float) -> float | None:
    """A small run spends most of its time on what does not grow with the work, so the nearest in size predict best."""
    sized = [m for m in manifests if m.provenance["work"]]
    if not sized or work <= 0:
        return None
    nearest = sorted(sized, key=lambda m: abs(math.log(m.provenance["work"] / work)))[:NEAREST]
    return work * median(float(m.provenance["wall_seconds"]) / float(m.provenance["work"]) for m in nearest)
