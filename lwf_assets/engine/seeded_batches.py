"""Batches that follow from a seed and a number alone, so that a resumed run takes those of an uninterrupted one."""

from __future__ import annotations

import random


def seeded_batch(count: int, batch_size: int, number: int, seed: int | str) -> list[int]:
    """Indices, below `count`, of the `number`-th batch (the first is 0).

    A seeded shuffle of all samples is dealt out in full batches, then the next shuffle, so that no sample has a second
    turn before nearly all have had their first. A batch is never larger than `count`.
    """
    batches = max(1, count // batch_size)
    shuffle, batch = divmod(number, batches)
    order = random.Random(f"{seed}/{shuffle}").sample(range(count), count)
    return order[batch * batch_size : (batch + 1) * batch_size]
