"""What one use of a parameter says about its per-sample gradients.

In a batch, the gradient of a parameter is a sum over samples of something simple: for a linear layer with inputs a and
output gradients b, sample n contributes b_n^T a_n. Plain autograd adds the samples up at once. A factor holds what is
needed to form the gradients of single samples instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outer:
    """Sample n's gradient is left_n^T right_n: left [batch, positions, rows], right [batch, positions, columns]."""

    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class Routed:
    """For a stack of `count` matrices, as experts have it: matrix m of sample n's gradient is the sum of
    left_r^T right_r over those rows r with samples[r] = n and matrices[r] = m.

    left [r, rows], right [r, columns], samples and matrices [r]. Rows whose matrix is `count` belong to none.
    """

    left: Tensor
    right: Tensor
    samples: Tensor
    matrices: Tensor
    count: int


@dataclass(frozen=True)
class Scattered:
    """Row `ids[n, t]` of sample n's gradient gets `values[n, t]`: ids [batch, positions], values [.., columns]."""

    ids: Tensor
    values: Tensor


@dataclass(frozen=True)
class Whole:
    """Sample n's gradient is gradients[n]: [batch, *shape of the parameter]."""

    gradients: Tensor


Factor = Outer | Routed | Scattered | Whole
