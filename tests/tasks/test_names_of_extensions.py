"""A package's name for what is built in already would be ignored, or would take its place: it is refused."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from lwf_assets import extensions
from lwf_assets.errors import LwfError
from lwf_assets.extensions import Group, check_name
from lwf_assets.study.sections import UnlearningSettings
from lwf_assets.tasks import source_settings
from lwf_assets.tasks.settings import SCORERS

Install = Callable[[Group, str], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a package have an entry point of this name."""

    def installed(group: Group, name: str) -> None:
        class Kind(source_settings.PackagedSource):
            pass

        entry = EntryPoint(name, "package.module:thing", group)
        vars(entry)["dist"] = SimpleNamespace(name="package", version="1.0")
        monkeypatch.setattr(extensions, "entry_points", lambda group: [entry] if group == entry.group else [])
        monkeypatch.setattr(EntryPoint, "load", lambda self: Kind)
        extensions.extensions.cache_clear()

    yield installed
    monkeypatch.undo()
    extensions.extensions.cache_clear()


def test_a_scorer_of_a_built_in_name_is_refused(install: Install) -> None:
    install("lwf.scorers", "rouge_l")
    with pytest.raises(ValueError, match=r"'rouge_l' is built in, and the package package 1\.0 has one of the same"):
        check_name("lwf.scorers", "rouge_l", SCORERS, "scorer")
    assert check_name("lwf.scorers", "numeric", SCORERS, "scorer") == "numeric"


def test_an_objective_of_a_built_in_name_is_refused(install: Install) -> None:
    install("lwf.objectives", "npo")
    with pytest.raises(ValueError, match="the objective 'npo' is built in"):
        UnlearningSettings(objective="npo")


@pytest.mark.parametrize("kind", ["hub", "file", "reasoning_gym"])
def test_a_kind_of_source_of_a_built_in_name_is_refused(install: Install, kind: str) -> None:
    install("lwf.sources", kind)
    with pytest.raises(LwfError, match=rf"{kind} \(package package 1\.0\): this kind is built in"):
        source_settings._source_type()


def test_another_name_is_taken(install: Install) -> None:
    install("lwf.scorers", "mine")
    assert check_name("lwf.scorers", "mine", SCORERS, "scorer") == "mine"
