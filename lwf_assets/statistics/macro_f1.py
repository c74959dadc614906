"""Macro-F1 of weighted items, for `bootstrap_statistic`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwf_assets.errors import LwfError
from lwf_assets.statistics.bootstrap_statistic import Statistic


def macro_f1(labels: Sequence[Any], *, classes: Sequence[Any] | None = None) -> Statistic:
    """The statistic that gives the unweighted mean of the F1 of each class.

    As scikit-learn's `f1_score(average="macro", labels=classes, zero_division=0)`. An answer that is no class, such as
    None or "" for an invalid one, is wrong for the item's own class. The classes stay the same in every resample.

    Args:
        labels: [items], the right answers.
        classes: by default those among the labels.

    Raises:
        LwfError: where there are no labels, or the answers are not as many as the labels.
    """
    if len(labels) == 0:
        raise LwfError("macro-F1 needs the label of at least one item")
    right = np.asarray(labels, dtype=object)
    kinds = list(dict.fromkeys(labels)) if classes is None else list(classes)

    def of_answers(answers: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        taken = np.asarray(answers, dtype=object)
        if taken.shape != right.shape:
            raise LwfError(f"there are {len(right)} labels and answers of shape {taken.shape}; each item needs one")
        scores = np.zeros(len(weights))
        for kind in kinds:
            of_kind, taken_for = right == kind, taken == kind
            hits = weights @ (of_kind & taken_for)
            both = weights @ of_kind.astype(float) + weights @ taken_for.astype(float)
            scores += np.divide(2 * hits, both, out=np.zeros(len(weights)), where=both > 0)
        return scores / len(kinds)

    return of_answers
