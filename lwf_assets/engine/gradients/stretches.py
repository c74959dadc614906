"""The rows of a stack's products, put in order.

What a mixture's router sends to one expert from one sample is a stretch of rows, and its product is that sample's
gradient of that expert. Routers are uneven: a sample has ninety rows for one expert and two for another. So stretches
of one matrix that are about equally long are padded to one length, and are one batched product.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lwf_assets.engine.gradients.factors import Outer, Routed

SHORT = 8
"""A stretch of fewer rows counts as one of so many where lengths are compared: its product takes no longer than the
writing of its result."""

OfSamples = tuple[Tensor, Sequence[Outer]]
"""Which samples, [n], and the factors whose products add up to their gradients."""


def groups_of_matrices(routed: Sequence[Routed], samples: Tensor, most: int) -> Iterator[tuple[int, list[OfSamples]]]:
    """The number of each matrix with rows that are more than zeros, and its samples in groups.

    Args:
        routed: one for each use of the stack.
        samples: [batch] which samples they are.
        most: samples of a group, at most.
    """
    batch, count = len(samples), routed[0].count
    left = _joined([factor.left for factor in routed])
    right = _joined([factor.right for factor in routed])
    places = _joined([factor.matrices * batch + factor.samples for factor in routed])
    ordered = _ordered(places, (places < count * batch) & _nonzero(left) & _nonzero(right))
    lengths = places[ordered].bincount(minlength=count * batch).tolist()
    by_matrix = [list(_alike(lengths, range(matrix * batch, (matrix + 1) * batch), most)) for matrix in range(count)]
    groups = list(itertools.chain.from_iterable(by_matrix))
    if not groups:
        return
    stretches = list(itertools.chain.from_iterable(groups))
    starts = list(itertools.accumulate(lengths, initial=0))
    longest = [lengths[group[0]] for group in groups for _ in group]
    table = [[starts[place] for place in stretches], [lengths[place] for place in stretches], longest]
    numbers, real = _padded(*torch.tensor(table, device=left.device), total=sum(longest))
    whose = samples[torch.tensor(stretches, device=samples.device) % batch]
    whose_of_groups = iter(torch.split(whose, [len(group) for group in groups]))
    sizes = [[len(group) * lengths[group[0]] for group in of_matrix] for of_matrix in by_matrix]
    rows_of_matrices = torch.split(ordered[numbers], [sum(of_matrix) for of_matrix in sizes])
    real_of_matrices = torch.split(real.unsqueeze(1), [sum(of_matrix) for of_matrix in sizes])
    for matrix, of_matrix in enumerate(by_matrix):
        if not of_matrix:
            continue
        # Matrix by matrix: of a large stack, a copy of all rows would take as much memory as the layer.
        rows = rows_of_matrices[matrix]
        lefts = torch.split(left.index_select(0, rows).mul_(real_of_matrices[matrix]), sizes[matrix])
        rights = torch.split(right.index_select(0, rows), sizes[matrix])
        yield (
            matrix,
            [
                (next(whose_of_groups), [Outer(*(side.view(len(group), lengths[group[0]], -1) for side in sides))])
                for group, *sides in zip(of_matrix, lefts, rights, strict=True)
            ],
        )


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _ordered(places: Tensor, kept: Tensor) -> Tensor:
    """Numbers of the rows that are kept, in the order of their places."""
    numbers = kept.nonzero().squeeze(1)
    some = places[numbers]
    return numbers if (some.diff() >= 0).all() else numbers[some.argsort(stable=True)]


def _nonzero(rows: Tensor) -> Tensor:
    """Which rows of [rows, columns] are more than zeros. The gradient is zero for padding, and in a last layer wherever
    no response token is predicted: such a row adds nothing, whatever stands on its other side."""
    return (rows.amax(dim=1) != 0) | (rows.amin(dim=1) != 0)


def _alike(lengths: Sequence[int], places: Sequence[int], most: int) -> Iterator[list[int]]:
    """Those of `places` that have a length, at most `most`, the longest first. None is padded to more than twice its
    length, or if it is shorter than `SHORT`, to more than twice that."""
    group: list[int] = []
    for place in sorted((place for place in places if lengths[place]), key=lambda place: -lengths[place]):
        if group and (len(group) == most or 2 * max(SHORT, lengths[place]) < lengths[group[0]]):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _padded(starts: Tensor, lengths: Tensor, longest: Tensor, *, total: int) -> tuple[Tensor, Tensor]:
    """Of stretches [n], each made as long as `longest` says, `total` rows: the number of each row, and whether it is no
    padding."""
    stretch = torch.arange(len(starts), device=starts.device).repeat_interleave(longest, output_size=total)
    step = torch.arange(total, device=starts.device) - (longest.cumsum(0) - longest)[stretch]
    return starts[stretch] + step.minimum(lengths[stretch] - 1), step < lengths[stretch]
