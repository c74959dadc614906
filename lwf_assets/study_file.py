"""Reads a study file: YAML, with `extends`, into `Study`; every mistake becomes one message that names the key."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from lwf_assets.errors import LwfError
from lwf_assets.study import Study


class _Replace(dict[str, Any]):
    """A mapping tagged `!replace`: takes the place of the inherited one instead of being merged into it."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice, which plain YAML silently overwrites."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)
    seen: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


def _replacement(loader: _Loader, node: yaml.MappingNode) -> _Replace:
    return _Replace(_mapping(loader, node))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("!replace", _replacement)


def load_study(path: str | Path) -> Study:
    """The study in the file `path`.

    `extends: other.yaml` (relative to the file) inherits: mappings are merged key by key, everything else is replaced;
    a mapping tagged `!replace` takes the inherited one's place. Paths are relative to the file that writes them.

    Raises:
        LwfError: unreadable file, bad YAML, unknown or out-of-range key; the message names file and key.
    """
    path = Path(path)
    values = _inherited(path, ())
    for section in ("learning_tasks", "forgetting_tasks"):
        values[section] = _named_tasks(values, section)
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise LwfError(_explain(path, error)) from None


def _inherited(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    """Raw values of `path` over those of what it extends, with every relative path made absolute."""
    resolved = path.resolve()
    if resolved in children:
        chain = " -> ".join(p.name for p in (*children, resolved))
        raise LwfError(f"{path}: `extends` runs in a circle: {chain}")
    values = _read(path)
    _anchor_paths(values, path.resolve().parent)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise LwfError(f"{path}: `extends`: give the path of one study file, got {parent!r}")
    return _merged(_inherited(path.parent / parent, (*children, resolved)), values)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LwfError(f"{path}: there is no such study file") from None
    except UnicodeDecodeError as error:
        raise LwfError(f"{path}: not valid UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise LwfError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise LwfError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
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
    return same_kind and not isinstance(value, _Replace)


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make the paths in every `source` absolute, in place."""
    for key, value in values.items():
        if not isinstance(value, dict):
            continue
        if key == "source":
            local_hub = value.get("kind") == "hub" and str(value.get("id", "")).startswith(("./", "../", "/"))
            names = {"file": ("train", "validation", "test", "prompts"), "directory": ("path",)}.get(
                str(value.get("kind")), ("id",) if local_hub else ()
            )
            for name in names:
                if isinstance(value.get(name), str):
                    value[name] = str((folder / Path(value[name]).expanduser()).resolve())
        else:
            _anchor_paths(value, folder)


def _named_tasks(values: Mapping[str, Any], section: str) -> Any:
    """A task without a body is the learning task of that name (for forgetting), or the preset of that name."""
    tasks = values.get(section)
    if not isinstance(tasks, dict):
        return tasks
    learning = values.get("learning_tasks")
    known = learning if section == "forgetting_tasks" and isinstance(learning, dict) else {}
    return {name: known.get(name) or {"preset": name} if body is None else body for name, body in tasks.items()}


def _explain(path: Path, error: ValidationError) -> str:
    """All of pydantic's complaints, each with the dotted key as the person wrote it."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"`{key}`: unknown key{_suggestion(problem['loc'])}")
        elif problem["type"] == "missing":
            lines.append(f"`{key}`: missing; it must be given")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            got = "" if isinstance(problem["input"], dict | BaseModel) else f", got {problem['input']!r}"
            lines.append(f"`{key}`: {message}{got}" if key else f"{message}")
    return f"{path}: " + "; ".join(lines)


def _suggestion(location: tuple[int | str, ...]) -> str:
    """The keys that the section of `location` knows, nearest first."""
    known = _keys_at(Study, location[:-1])
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(known)}" if known else ""


def _keys_at(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """Field names of the settings class that `location` leads to; none where it cannot be told."""
    for depth, part in enumerate(location):
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return []
        annotation = fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if len(models) > 1:  # a union told apart by its `kind`, which pydantic puts next into the location
            return [] if depth + 2 > len(location) else _keys_of_kind(models, location[depth + 1])
        if not models:
            return []
        model = models[0]
        if getattr(annotation, "__origin__", None) is dict:  # the next part of the location is the task's name
            return _keys_at(model, location[depth + 2 :])
    return list(getattr(model, "model_fields", {}))


def _keys_of_kind(models: list[type[BaseModel]], kind: int | str) -> list[str]:
    for model in models:
        if kind in typing.get_args(model.model_fields["kind"].annotation):
            return list(model.model_fields)
    return []
