"""Reads a study file: YAML, with `extends`, into `Study`; every mistake becomes one message that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lwf_assets.errors import LwfError
from lwf_assets.study.mistakes import explain
from lwf_assets.study.study import MIXED, Study
from lwf_assets.study.yaml_document import Replace, read_yaml


def load_study(path: str | Path) -> Study:
    """The study in the file `path`.

    `extends: other.yaml` (relative to the file) inherits: mappings are merged key by key, everything else is replaced;
    a mapping tagged `!replace` takes the inherited one's place. Paths are relative to the file that writes them.

    Raises:
        LwfError: unreadable file, bad YAML, unknown or out-of-range key; the message names file and key.
    """
    path = Path(path)
    values = _inherited(path, ())
    for section in [key for key in ("learning_tasks", "forgetting_tasks") if key in values]:
        values[section] = _named_tasks(path, values, section)
    for holder, key in ((values.get("evaluation"), "untouched_tasks"), *((p, "tasks") for p in _priors(values))):
        if isinstance(holder, dict) and isinstance(holder.get(key), dict):
            holder[key] = {name: {"preset": name} if body is None else body for name, body in holder[key].items()}
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise LwfError(f"{path}: {explain(error)}") from None


def _priors(values: Mapping[str, Any]) -> list[Any]:
    priors = values.get("priors")
    return list(priors.values()) if isinstance(priors, dict) else []


def _inherited(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    """Raw values of `path` over those of what it extends, with every relative path made absolute."""
    resolved = path.resolve()
    if resolved in children:
        chain = " -> ".join(p.name for p in (*children, resolved))
        raise LwfError(f"{path}: `extends` is circular: {chain}")
    if children and not path.is_file():
        raise LwfError(f"{children[-1]}: `extends`: the study file {path} does not exist")
    values = _read(path)
    _anchor_paths(values, resolved.parent)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise LwfError(f"{path}: `extends`: give the path of one study file, got {parent!r}")
    return _merged(_inherited(resolved.parent / Path(parent).expanduser(), (*children, resolved)), values)


def _read(path: Path) -> dict[str, Any]:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise LwfError(f"{path}: a study file is a mapping of keys such as `name`, `model`, `learning_tasks`")
    return values


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inherited = merged.get(key)
        if isinstance(value, dict) and isinstance(inherited, dict) and _extends(value, inherited):
            merged[key] = _merged(inherited, value)
        else:
            merged[key] = value
    return merged


def _extends(value: Mapping[str, Any], inherited: Mapping[str, Any]) -> bool:
    """Whether a mapping adds to the inherited one. A source of another kind does not: they share no keys."""
    same_kind = value.get("kind", inherited.get("kind")) == inherited.get("kind")
    return same_kind and not isinstance(value, Replace)


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make the paths in every `source`, and those of the neutral text and the chat template, absolute, in place."""
    for key, value in values.items():
        if key in ("neutral_text", "chat_template") and isinstance(value, str):
            values[key] = _anchored(value, folder)
        if not isinstance(value, dict):
            continue
        if key != "source":
            _anchor_paths(value, folder)
            continue
        local = str(value.get("id", "")).startswith(("./", "../", "/", "~"))
        for name in ("train", "validation", "test", "prompts", "path", *(("id",) if local else ())):
            given = value.get(name)
            if isinstance(given, str):
                value[name] = _anchored(given, folder)
            elif isinstance(given, list):
                value[name] = [_anchored(path, folder) if isinstance(path, str) else path for path in given]


def _anchored(path: str, folder: Path) -> str:
    return str((folder / Path(path).expanduser()).resolve())


def _named_tasks(path: Path, values: Mapping[str, Any], section: str) -> Any:
    """A task without a body is the learning task of that name (for forgetting), or the preset of that name."""
    tasks = values.get(section)
    if not isinstance(tasks, dict):
        return tasks
    if MIXED in tasks:
        raise LwfError(
            f"{path}: `{section}.{MIXED}`: no task may have this name; write `mixed: true` to forget all tasks together"
        )
    learning = values.get("learning_tasks")
    known = learning if section == "forgetting_tasks" and isinstance(learning, dict) else {}
    return {name: known.get(name) or {"preset": name} if body is None else body for name, body in tasks.items()}
