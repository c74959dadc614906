"""Rows from the seeded generators of the reasoning-gym package.

An item belongs to the one split that a hash of its question names, and each split draws from a seed of its own
until it has enough. So no question is in two splits, and the size of one split has no say in the rows of another.
"""

from __future__ import annotations

import dataclasses
import hashlib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.tasks.hash_split import split_of
from lwf_assets.tasks.rows import SourceRow, Split

if TYPE_CHECKING:
    from reasoning_gym.dataset import ProceduralDataset

    from lwf_assets.tasks.source_settings import GeneratorSource

_CHUNK = 256
"""Items per data set object. Fixed, because it decides the stream; small, for some generators make all items at
once."""

_PATIENCE = 4096
"""Draws without one new item after which a generator counts as exhausted (one draw in ten falls to a small split)."""


def draw(source: GeneratorSource, split: Split, count: int) -> list[SourceRow]:
    """The first `count` different items of `split`; a larger count only adds to them.

    The rows have the columns `question` and `answer`. Raises LwfError for a generator or a parameter that does not
    exist or is out of range, and for a generator that has fewer different items.
    """
    rows: list[SourceRow] = []
    seen: set[str] = set()
    first_seed = _first_seed(source, split)
    fruitless = 0
    for start in range(0, 2**31, _CHUNK):
        items = open_generator(source.generator, source.parameters, seed=first_seed + start, size=_CHUNK)
        for index in range(_CHUNK):
            entry = items[index]
            question = str(entry["question"]).strip()
            fruitless += 1
            if question not in seen and split_of(question) == split:
                seen.add(question)
                fruitless = 0
                place = f"generator {source.generator}, seed {source.seed}, {split} item {len(rows)}"
                # Some generators have no answer of their own, only a scorer: those can be forgotten with, not learned.
                columns = {"question": question, "answer": entry["answer"]}
                rows.append(SourceRow(place=place, id=f"{split}-{len(rows)}", columns=columns, entry=entry))
            if len(rows) == count:
                return rows
            if fruitless == _PATIENCE:
                raise LwfError(
                    f"generator {source.generator}: only {len(rows)} different {split} items were found in "
                    f"{start + index + 1} draws, and rows.{split} asks for {count}; lower it, or widen the generator's "
                    f"parameters (now {source.parameters or 'its defaults'})"
                )
    raise LwfError(f"generator {source.generator}: rows.{split} = {count} is beyond what can be drawn")


def open_generator(generator: str, parameters: dict[str, Any], *, seed: int, size: int) -> ProceduralDataset:
    """A reasoning-gym data set object. Raises LwfError that names what is wrong with the name or the parameters."""
    from reasoning_gym.factory import DATASETS, create_dataset

    if generator not in DATASETS:
        near = get_close_matches(generator, DATASETS, n=5, cutoff=0.4)
        hint = f"the nearest names are: {', '.join(near)}" if near else f"there are {len(DATASETS)}, such as chain_sum"
        raise LwfError(f"source.generator: reasoning-gym has no generator {generator!r}; {hint}")
    known = {field.name for field in dataclasses.fields(DATASETS[generator][1])} - {"seed", "size"}
    for name in parameters:
        if name not in known:
            raise LwfError(
                f"source.parameters.{name}: the generator {generator} has no such parameter; it has: "
                f"{', '.join(sorted(known)) or 'none'}"
            )
    try:
        return create_dataset(generator, seed=seed, size=size, **parameters)
    except (AssertionError, TypeError, ValueError) as error:
        raise LwfError(
            f"source.parameters: the generator {generator} refuses {parameters or 'its own defaults'}: {error}"
        ) from error


def _first_seed(source: GeneratorSource, split: Split) -> int:
    # Some generators seed numpy, which takes 32 bits: half of them are for where a split starts, with room to go on.
    digest = hashlib.sha256(f"{source.generator}/{source.seed}/{split}".encode()).digest()
    return int.from_bytes(digest[:4]) % 2**31
