"""The rows of a stack's products, put in order.

What a mixture's router sends to one expert from one sample is a stretch of rows, and its product is that sample's
gradient of that expert. Routers are uneven: a sample has ninety rows for one expert and two for another. So stretches
of one matrix that are about equally long are padded to one length, and are one batched product.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lwf_assets.engine.gradients.factors import Outer, Routed

SHORT = 8
"""Rows up to which a stretch is padded for nothing: its product takes as long as the writing of its result."""

OfSamples = tuple[Tensor, Sequence[Outer]]
"""Which samples, [n], and the factors whose products add up to their gradients."""


def groups_of_matrices(routed: Sequence[Routed], samples: Tensor, most: int) -> Iterator[tuple[int, list[OfSamples]]]:
    """The number of each matrix that has rows, with its groups of at most `most` samples.

    Args:
        routed: one for each use of the stack.
        samples: [batch] which samples they are.
        most: samples of a group.
    """
    batch, count = len(samples), routed[0].count
    left, right = (_joined([getattr(factor, side) for factor in routed]) for side in ("left", "right"))
    places = _joined([factor.matrices * batch + factor.samples for factor in routed])
    ordered = _ordered(places, (places < count * batch) & _nonzero(left) & _nonzero(right))
    lengths = places[ordered].bincount(minlength=count * batch).tolist()
    starts = list(itertools.accumulate(lengths, initial=0))
    groups = [list(_alike(lengths, range(matrix * batch, (matrix + 1) * batch), most)) for matrix in range(count)]
    stretches = list(itertools.chain.from_iterable(itertools.chain.from_iterable(groups)))
    if not stretches:
        return
    longest = [lengths[group[0]] for of_matrix in groups for group in of_matrix for _ in group]
    table = torch.tensor(
        [[starts[place] for place in stretches], [lengths[place] for place in stretches], longest], device=left.device
    )
    rows, real = _padded(*table)
    left, right = left.index_select(0, ordered[rows]), right.index_select(0, ordered[rows])
    left *= real.unsqueeze(1)
    whose = samples[torch.tensor(stretches, device=samples.device) % batch]
    row = place = 0
    for matrix, of_matrix in enumerate(groups):
        result: list[OfSamples] = []
        for group in of_matrix:
            shape = (len(group), lengths[group[0]], -1)
            some = slice(row, row + math.prod(shape[:2]))
            result.append((whose[place : place + len(group)], [Outer(left[some].view(shape), right[some].view(shape))]))
            row, place = some.stop, place + len(group)
        if result:
            yield matrix, result


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _ordered(places: Tensor, kept: Tensor) -> Tensor:
    """Numbers of the rows that are kept, in the order of their places."""
    numbers = kept.nonzero().squeeze(1)
    some = places[numbers]
    return numbers if (some.diff() >= 0).all() else numbers[some.argsort(stable=True)]


def _nonzero(rows: Tensor) -> Tensor:
    """Which rows of [rows, columns] are more than zeros. The gradient is zero for padding, and in a last layer wherever
    no response token is predicted."""
    return (rows.amax(dim=1) != 0) | (rows.amin(dim=1) != 0)


def _alike(lengths: Sequence[int], places: Sequence[int], most: int) -> Iterator[list[int]]:
    """Those of `places` that have a length, at most `most`, the longest first. None is to become more than twice as
    long, unless it is `SHORT`."""
    group: list[int] = []
    for place in sorted((place for place in places if lengths[place]), key=lambda place: -lengths[place]):
        if group and (len(group) == most or 2 * max(SHORT, lengths[place]) < lengths[group[0]]):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _padded(starts: Tensor, lengths: Tensor, longest: Tensor) -> tuple[Tensor, Tensor]:
    """Of stretches [n], each made as long as `longest` says: the number of each row, and whether it is no padding."""
    stretch = torch.arange(len(starts), device=starts.device).repeat_interleave(longest)
    step = torch.arange(len(stretch), device=starts.device) - (longest.cumsum(0) - longest)[stretch]
    return starts[stretch] + step.minimum(lengths[stretch] - 1), step < lengths[stretch]
