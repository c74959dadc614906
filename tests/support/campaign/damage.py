"""A store of which one file at a time is damaged: whether it is found, and whether anything is computed from it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from world import World, copied, new_world

from campaign.attack import Field, Trial
from campaign.builds import troubles
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import cells
from lwf_assets.lineage.repair import repair
from lwf_assets.lineage.store_faults import store_faults

EVERY = 10
"""After one damage in so many, the study is built to its end."""
MEMORY = "verified"
"""What is only a memory: lost or wrong, it may cost time and nothing else."""

Harm = Callable[[Path, list[Path], random.Random], None]


def flip(path: Path, others: list[Path], draws: random.Random) -> None:
    """One bit."""
    content = bytearray(path.read_bytes())
    content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    path.write_bytes(content)


def cut(path: Path, others: list[Path], draws: random.Random) -> None:
    """The end is lost."""
    content = path.read_bytes()
    path.write_bytes(content[: draws.randrange(len(content))])


def empty(path: Path, others: list[Path], draws: random.Random) -> None:
    """All is lost but the name."""
    path.write_bytes(b"")


def remove(path: Path, others: list[Path], draws: random.Random) -> None:
    """The name too."""
    path.unlink()


def swap(path: Path, others: list[Path], draws: random.Random) -> None:
    """Another file's content, of the same kind where there is one."""
    content = path.read_bytes()
    alike = [other for other in others if other.suffix == path.suffix and other.read_bytes() != content]
    path.write_bytes(draws.choice(alike or [other for other in others if other.read_bytes() != content]).read_bytes())


def link(path: Path, others: list[Path], draws: random.Random) -> None:
    """A link to the same bytes in another place, where they may change."""
    elsewhere = path.parents[len(path.parents) - 4] / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    target = elsewhere / f"{draws.random()}"
    os.replace(path, target)
    path.symlink_to(target)


HARMS: tuple[Harm, ...] = (flip, cut, empty, remove, swap, link)


def damage(field: Field) -> Iterator[Trial]:
    """One file a trial."""
    whole = field.whole
    pattern = interrupted(field.folder / "pattern")
    store = pattern.home.store
    clean = list(store_faults(store))
    if clean:
        yield Trial("none", f"found in a store that nobody touched: {clean[0]}")
    files = sorted(path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock")
    for number in range(field.trials):
        world = copied(pattern, field.folder / str(number))
        path = field.draws.choice(files)
        harm = field.draws.choice(HARMS)
        if not path.stat().st_size:
            harm = remove
        others = [other for other in files if other != path and other.stat().st_size]
        relative = path.relative_to(pattern.home.root)
        harm(world.home.root / relative, others, field.draws)
        trouble = "" if _may_pass_unseen(relative, harm) else _unfound(world)
        if not trouble and number % EVERY == 0:
            trouble = _built_from_it(world, whole)
        yield Trial(f"{harm.__name__} {relative}", trouble)
        if not trouble:
            shutil.rmtree(field.folder / str(number))


def _may_pass_unseen(path: Path, harm: Harm) -> bool:
    """Whether a store with this damage is one that could be: a verdict that was not given yet, and unfinished work that
    was cut short, which is begun anew."""
    return MEMORY in path.parts or (harm is remove and ("checks" in path.parts or path.name == "SHA256SUMS"))


def interrupted(folder: Path) -> World:
    """The tiny study, built but for the forgetting models, whose trainings were interrupted."""
    world = new_world(folder)
    world.values["training"]["checkpoint_every"] = 2
    before = [cell for cell in cells(world.study) if cell.asset in ("scored_forget_set", "test_data")]
    world.build(only=before)
    with pytest.MonkeyPatch.context() as patch:

        def fail(*arguments: object, **named: object) -> None:
            raise LwfError("interrupted")

        patch.setattr("lwf_assets.engine.checkpoint.save_model", fail)
        with pytest.raises(LwfError, match="interrupted"):
            world.build()
    return world


def _unfound(world: World) -> str:
    return "" if list(store_faults(world.home.store)) else "not found by the audit"


def _built_from_it(world: World, whole: Mapping[str, str]) -> str:
    """Build; where that is refused, repair and build. Either way the same bytes."""
    try:
        world.build()
    except LwfError as error:
        if "lwf repair" not in str(error):
            return f"refused with other words: {error}"
        failed = [done for done in repair(world.home.store) if done.problem is not None]
        if failed:
            return f"cannot be repaired: {failed[0].problem}"
        world.build()
    list(repair(world.home.store))  # of what the build had no need of
    left = list(store_faults(world.home.store))
    return troubles(world, whole) or (f"still damaged: {left[0]}" if left else "")
