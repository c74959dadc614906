"""The rows of the race: one family a module. A peer's library is imported only when its row is run."""

from __future__ import annotations

from benchmarks.methods import (
    backpack_grads,
    curvlinops_estimate,
    floor,
    kronfluence_diagonal,
    loop,
    nngeometry_diagonal,
    opacus_grads,
    ours,
    torch_func,
)
from benchmarks.methods.method import Method

METHODS: tuple[Method, ...] = (
    floor.FLOOR,
    ours.FISHER,
    ours.TERMS,
    loop.FISHER,
    loop.TERMS,
    torch_func.FISHER,
    opacus_grads.FISHER,
    backpack_grads.FISHER,
    kronfluence_diagonal.FISHER,
    curvlinops_estimate.FISHER,
    nngeometry_diagonal.FISHER,
)
"""In the order of the table; the floor, which every ratio is to, is the first."""
