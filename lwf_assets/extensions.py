"""What other installed packages add: scorers, unlearning objectives and kinds of data source, by entry points.

A package names them in its own `pyproject.toml`, for example

    [project.entry-points."lwf.scorers"]
    rouge = "my_package.scoring:rouge"

and a study then uses the name. What each kind must look like is in docs/extending.md. The name and version of the
package enter the recipe of everything that the extension decides, so that a new version makes that stale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from lwf_assets.errors import LwfError

Group = Literal["lwf.scorers", "lwf.objectives", "lwf.sources"]


@dataclass(frozen=True)
class Extension:
    """One entry point of an installed package."""

    name: str
    package: str
    version: str
    entry_point: EntryPoint

    def load(self) -> Any:
        """The object that the entry point names.

        Raises:
            LwfError: the package cannot be imported, or does not have the object.
        """
        try:
            return self.entry_point.load()
        except Exception as error:  # whatever the other package raises while it is imported
            raise LwfError(
                f"{self.entry_point.group}: {self} cannot be loaded from {self.entry_point.value}: "
                f"{type(error).__name__}: {error}"
            ) from error

    @property
    def origin(self) -> dict[str, str]:
        """What a recipe says of it."""
        return {"package": self.package, "version": self.version}

    def __str__(self) -> str:
        return f"{self.name} (package {self.package} {self.version})"


@cache
def extensions(group: Group) -> dict[str, Extension]:
    """The extensions of one group, by name; looked up once per process.

    Raises:
        LwfError: two packages use the same name.
    """
    found: dict[str, Extension] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        assert entry.dist is not None
        extension = Extension(entry.name, entry.dist.name, entry.dist.version, entry)
        other = found.setdefault(entry.name, extension)
        if other.package != extension.package:
            raise LwfError(
                f"{group}: {entry.name!r} is defined by both {other.package} and {extension.package}; uninstall one"
            )
    return found


def check_name(group: Group, name: str, built_in: Collection[str], what: str) -> str:
    """`name`, if it is built in or an extension of the group.

    Raises:
        ValueError: it is neither; the message lists those there are and where they come from. Or it is both.
    """
    extension = extensions(group).get(name)
    if name in built_in and extension is not None:
        raise ValueError(
            f"the {what} {name!r} is built in, and the package {extension.package} {extension.version} has one of the "
            "same name, which would be ignored; give that another name, or uninstall the package"
        )
    if name not in built_in and extension is None:
        raise ValueError(f"unknown {what} {name!r}; choose from {known_names(group, built_in)}")
    return name


def known_names(group: Group, built_in: Iterable[str]) -> str:
    """The names that may be used, and where they come from, in one sentence."""
    others = [str(extension) for extension in extensions(group).values()]
    return ", ".join([f"{', '.join(built_in)} (built in)", *others])


def origin_of(group: Group, name: str) -> dict[str, str] | None:
    """Package and version behind an extension's name; None for what is built in."""
    extension = extensions(group).get(name)
    return None if extension is None else extension.origin
