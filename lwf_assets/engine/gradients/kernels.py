"""Triton kernels for sums over the elements of per-sample gradients that are products of factors.

Each program forms one tile of one sample's gradient after the other in registers, and reduces it there. It goes through
all samples of the batch, so that a tile of what belongs to the parameter (its Fisher, its difference) is read once.
Sums are in fp32, whatever the type of the factors. Nothing here is atomic: a result is the same bit for bit every time.

Triton is imported with this module, which `fused.py` imports where there is something to run it on. With
TRITON_INTERPRET=1 in the environment before that, the kernels run on a CPU, slowly, for tests.

Addresses are a base and, for each element of a tile, an offset in 32 bits: as many full addresses would not fit into
the registers beside the sums.
"""

from __future__ import annotations

import triton
import triton.language as tl

GROUP = tl.constexpr(8)
"""Rows of tiles that are worked on together, so that what they share of the factors stays in the L2 cache."""


@triton.jit
def _place(rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Which tile this program has: its row and its column, counted in tiles."""
    number = tl.program_id(0)
    down, across = tl.cdiv(rows, HEIGHT), tl.cdiv(columns, WIDTH)
    group = number // (GROUP * across)
    first = group * GROUP
    size = min(down - first, GROUP)
    within = number % (GROUP * across)
    return first + within % size, within // size


@triton.jit
def _tile(base, top, edge, down, across, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Pointers to a tile [HEIGHT, WIDTH] of a matrix, from the row `top` and the column `edge`; `down` and `across` are
    its strides."""
    base += top.to(tl.int64) * down + edge.to(tl.int64) * across
    return base + tl.arange(0, HEIGHT)[:, None] * down + tl.arange(0, WIDTH)[None, :] * across


@triton.jit
def _gradient(
    left,
    right,
    left_offsets,
    right_offsets,
    left_step,
    right_step,
    positions,
    in_rows,
    in_columns,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The tile [HEIGHT, WIDTH] of one sample's gradient, in fp32. `left` and `right` point to the first of the sample's
    factors; the offsets, [HEIGHT, DEPTH] and [DEPTH, WIDTH], lead to the tile's elements of DEPTH positions, and the
    steps to the next positions."""
    depth = tl.arange(0, DEPTH)
    gradient = tl.zeros((HEIGHT, WIDTH), tl.float32)
    for start in range(0, positions, DEPTH):
        there = depth < positions - start
        some_left = tl.load(left + left_offsets, mask=in_rows[:, None] & there[None, :], other=0.0)
        some_right = tl.load(right + right_offsets, mask=there[:, None] & in_columns[None, :], other=0.0)
        if WIDEN:  # Triton's interpreter would multiply the bits of bfloat16 as integers
            some_left, some_right = some_left.to(tl.float32), some_right.to(tl.float32)
        gradient = tl.dot(some_left, some_right, gradient, input_precision=PRECISION)
        left += left_step
        right += right_step
    return gradient


@triton.jit
def add_squares(
    left,
    right,
    keep,
    result,
    share,
    samples,
    positions,
    rows,
    columns,
    left_sample,
    left_position,
    left_row,
    right_sample,
    right_position,
    right_column,
    result_row,
    result_column,
    KEEP: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """result [rows, columns] += share * sum over the samples of the squared gradient.

    `keep` [samples, rows], contiguous: where it is 0 a sample's row counts as zero.
    """
    tile_row, tile_column = _place(rows, columns, HEIGHT, WIDTH)
    top, edge = tile_row * HEIGHT, tile_column * WIDTH
    row, depth, column = tl.arange(0, HEIGHT), tl.arange(0, DEPTH), tl.arange(0, WIDTH)
    in_rows, in_columns = row < rows - top, column < columns - edge
    left += top.to(tl.int64) * left_row
    right += edge.to(tl.int64) * right_column
    keep += top
    left_offsets = row[:, None] * left_row + depth[None, :] * left_position
    right_offsets = depth[:, None] * right_position + column[None, :] * right_column
    squares = tl.zeros((HEIGHT, WIDTH), tl.float32)
    for _ in range(samples):
        gradient = _gradient(
            left,
            right,
            left_offsets,
            right_offsets,
            DEPTH * left_position,
            DEPTH * right_position,
            positions,
            in_rows,
            in_columns,
            HEIGHT,
            WIDTH,
            DEPTH,
            PRECISION,
            WIDEN,
        )
        if KEEP:
            gradient = tl.where((tl.load(keep + row, mask=in_rows, other=0) != 0)[:, None], gradient, 0.0)
            keep += rows
        squares += gradient * gradient
        left += left_sample
        right += right_sample
    target = _tile(result, top, edge, result_row, result_column, HEIGHT, WIDTH)
    inside = in_rows[:, None] & in_columns[None, :]
    tl.store(target, tl.load(target, mask=inside, other=0.0) + share * squares, mask=inside)


@triton.jit
def weighted_row_sums(
    left,
    right,
    keep,
    fisher,
    delta,
    sums,
    samples,
    positions,
    rows,
    columns,
    left_sample,
    left_position,
    left_row,
    right_sample,
    right_position,
    right_column,
    fisher_row,
    fisher_column,
    delta_row,
    delta_column,
    sums_kind,
    sums_sample,
    KEEP: tl.constexpr,
    NORM: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Of each sample, tile by tile and row by row: the sums of fisher * delta * g, of fisher * g^2 and, with NORM, of
    g^2, into sums [2 or 3 kinds, samples, tiles across, rows], of which each element is written once."""
    tile_row, tile_column = _place(rows, columns, HEIGHT, WIDTH)
    top, edge = tile_row * HEIGHT, tile_column * WIDTH
    row, depth, column = tl.arange(0, HEIGHT), tl.arange(0, DEPTH), tl.arange(0, WIDTH)
    in_rows, in_columns = row < rows - top, column < columns - edge
    left += top.to(tl.int64) * left_row
    right += edge.to(tl.int64) * right_column
    keep += top
    sums += tile_column * rows + top
    left_offsets = row[:, None] * left_row + depth[None, :] * left_position
    right_offsets = depth[:, None] * right_position + column[None, :] * right_column
    inside = in_rows[:, None] & in_columns[None, :]
    weights = _tile(fisher, top, edge, fisher_row, fisher_column, HEIGHT, WIDTH)
    weight = tl.load(weights, mask=inside, other=0.0).to(tl.float32)
    differences = _tile(delta, top, edge, delta_row, delta_column, HEIGHT, WIDTH)
    difference = tl.load(differences, mask=inside, other=0.0).to(tl.float32)
    for _ in range(samples):
        gradient = _gradient(
            left,
            right,
            left_offsets,
            right_offsets,
            DEPTH * left_position,
            DEPTH * right_position,
            positions,
            in_rows,
            in_columns,
            HEIGHT,
            WIDTH,
            DEPTH,
            PRECISION,
            WIDEN,
        )
        if KEEP:
            gradient = tl.where((tl.load(keep + row, mask=in_rows, other=0) != 0)[:, None], gradient, 0.0)
            keep += rows
        weighted = weight * gradient
        tl.store(sums + row, tl.sum(difference * weighted, axis=1), mask=in_rows)
        tl.store(sums + sums_kind + row, tl.sum(gradient * weighted, axis=1), mask=in_rows)
        if NORM:
            tl.store(sums + 2 * sums_kind + row, tl.sum(gradient * gradient, axis=1), mask=in_rows)
        sums += sums_sample
        left += left_sample
        right += right_sample
