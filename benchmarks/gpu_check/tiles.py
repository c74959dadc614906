"""Are the tiles of the kernels the best for this card? Each kernel against the plain product of the same factors."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import torch

from benchmarks.gpu_check.check import Check, Figure, Place
from lwf_assets.engine.gradients import fused
from lwf_assets.engine.gradients.fused import Products, Tile

SHAPES = {"4096 x 4096": (16, 192, 4096, 4096), "2048 x 8192": (32, 192, 2048, 8192), "576 x 1536": (64, 96, 576, 1536)}
"""Samples, positions, rows and columns of layers of the 8B, the 1B and the 135M Llama."""

CANDIDATES = (
    fused.LARGE,
    Tile(128, 128, 64, 8, 4),
    Tile(128, 128, 32, 8, 4),
    Tile(128, 64, 64, 4, 3),
    fused.SMALL,
)


def tiles(place: Place) -> list[Figure]:
    """For each shape and kernel the ratio of the tile that is used; the best of the candidates is in the notes."""
    found = []
    for label, shape in SHAPES.items():
        samples, positions, rows, columns = (2, 5, 20, 24) if place.tiny else shape
        left, right = (
            torch.randn(samples, positions, width, device=place.device, dtype=torch.bfloat16)
            for width in (rows, columns)
        )
        products = Products(left, right, None, torch.arange(samples, device=place.device))
        fisher = torch.rand(rows, columns, device=place.device)
        product = place.seconds(partial(_product, left, right))
        for kernel, call in (
            ("squares", partial(fused.add_squares, torch.zeros_like(fisher), products, 1.0)),
            ("weighted sums", partial(fused.weighted_sums, products, fisher, fisher)),
        ):
            used, seconds = fused.tile_of(products), {}
            for tile in CANDIDATES:
                with suppress(*_too_large()):
                    seconds[tile] = place.seconds(partial(call, tile=tile))
            best = min(seconds, key=lambda tile: seconds[tile])
            notes: dict[str, float | str | None] = {"best tile": str(best), "its ratio": seconds[best] / product}
            found.append(Figure(f"{kernel}, {label}", seconds[used] / product, notes=notes))
    return found


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The gradient of the weights, as a plain backward pass forms it."""
    return left.flatten(0, 1).T @ right.flatten(0, 1)


def _too_large() -> tuple[type[Exception], ...]:
    """What Triton raises of a tile that a card's shared memory does not hold."""
    from triton.runtime.errors import OutOfResources

    return (OutOfResources,)


TILES = Check("tiles", "Tiles of the kernels, against the plain product", tiles, seconds=40, gib=4)
