"""A matrix that is kept as two thin factors and formed part by part."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """left @ right, [rows, rank] @ [rank, columns]. Indexed like a dense matrix by rows, it forms those alone."""

    left: Tensor
    right: Tensor

    @property
    def shape(self) -> torch.Size:
        """[rows, columns]."""
        return torch.Size((self.left.shape[0], self.right.shape[1]))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the factors, and of what is formed from them."""
        return self.left.dtype

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.left.itemsize

    def to(self, device: torch.device, dtype: torch.dtype) -> LowRank:
        """The same with both factors on `device`, as `dtype`."""
        return LowRank(self.left.to(device, dtype), self.right.to(device, dtype))

    def __neg__(self) -> LowRank:
        return LowRank(-self.left, self.right)

    def __getitem__(self, rows: slice | EllipsisType | Tensor | tuple[int, slice]) -> Tensor:
        if isinstance(rows, tuple):
            raise IndexError("a stack of matrices is never kept in factors")
        return self.left[rows] @ self.right
