"""A way to get per-sample gradients reduced: the entry of one row of the race."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from benchmarks.problem import Problem

Result = dict[str, Tensor]
"""Fisher: the diagonal by parameter name. Terms: `linear`, `quadratic` and `gradient_norm`, [samples] each."""


@dataclass(frozen=True)
class Method:
    """`prepare` gets everything ready (copies of the model, hooks) and is not measured; the call that it returns
    is. What a method changes in a model, it changes in a copy.

    `pace` says in which rounds the method runs. A method that keeps the gradients of all samples of a batch has
    `chunks` to choose from, sizes of batches, and runs with the fastest. `package` is the distribution that it comes
    from, if it is not this project's or torch's; `remark` is for the reader of the table.
    """

    key: str
    label: str
    gives: Literal["gradient", "fisher", "terms"]
    pace: Literal["main", "loop", "peer"]
    prepare: Callable[[Problem], Callable[[], Result]]
    package: str | None = None
    remark: str = ""
    chunks: tuple[int, ...] = ()


class CannotDoItError(Exception):
    """A library that gives no result for this model; the message holds what it said to each attempt."""


def what_was_said(error: Exception) -> str:
    """The error as one line: of what a library said, at most 160 characters."""
    text = " ".join(str(error).split())
    if isinstance(error, CannotDoItError):
        return text
    return f"{type(error).__name__}: {text if len(text) <= 160 else text[:157] + '...'}"
