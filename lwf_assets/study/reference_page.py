"""Writes docs/study-file.md from the settings classes, so that the reference cannot drift from the code.

python -m lwf_assets.study.reference_page > docs/study-file.md
"""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lwf_assets.study.study import Study

HEAD = """\
# The study file

Every key of a study. This page is made from the settings classes: `python -m lwf_assets.study.reference_page`. Unknown
keys are errors.
Most defaults are ours, not the paper's: it names few of its values (see [method.md](method.md)).

- `extends: other.yaml` inherits from another study: mappings are merged key by key, anything else is replaced, and a
  mapping tagged `!replace` takes the inherited one's place. A `source` of another `kind` replaces the inherited one.
- Paths are relative to the file that writes them.
- A task without a body (`gsm8k:`) is the preset of that name; under `forgetting_tasks` first the learning
  task of that name.
- Every task has the keys of `learning_tasks.<name>`: those of `forgetting_tasks`, of `priors.<name>.tasks` and of
  `evaluation.untouched_tasks` too.
- `confidence` and `unlearning` of an arm have the keys of the sections of that name. What an arm does not say is the
  study's; a `selection_count` takes the place of the study's `selection_ratio`, and the other way round.
"""


def reference() -> str:
    """The whole page as markdown."""
    parts = [HEAD]
    pending: list[tuple[str, type[BaseModel]]] = [("", Study)]
    seen: set[type[BaseModel]] = set()
    while pending:
        path, model = pending.pop(0)
        if model in seen:
            continue
        seen.add(model)
        parts.append(_section(path, model))
        pending += [
            (_child_path(path, name, field, nested), nested)
            for name, field in model.model_fields.items()
            for nested in _models_in(field.annotation)
        ]
    return "\n".join(parts)


def _section(path: str, model: type[BaseModel]) -> str:
    title = f"## `{path}`" if path else "## Top level"
    summary = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    rows = [f"\n{title}\n\n{summary}\n", "| key | value | default | |", "| --- | --- | --- | --- |"]
    # The kind first: it says which of several sections this is.
    for name, field in sorted(model.model_fields.items(), key=lambda item: item[0] != "kind"):
        text = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | {_type_name(field.annotation)}{_bounds(field)} | {_default(field)} | {text} |")
    return "\n".join(rows)


def _child_path(path: str, name: str, field: FieldInfo, nested: type[BaseModel]) -> str:
    own = f"{path}.{name}" if path else name
    if typing.get_origin(field.annotation) is dict:
        own += ".<name>"
    kinds = typing.get_args(nested.model_fields["kind"].annotation) if "kind" in nested.model_fields else ()
    if len(kinds) == 1:  # one of several sections for this key; otherwise `kind` is a choice within one section
        own += f" (kind: {kinds[0]})"
    return own


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]


def _type_name(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type_name(argument) for argument in arguments))
    if origin in (list, tuple):
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return "mapping"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "Path": "path"}.get(
        getattr(annotation, "__name__", str(annotation)), "value"
    )


def _bounds(field: FieldInfo) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    text = [
        f"{sign} {bound}"
        for constraint in field.metadata
        for name, sign in signs.items()
        if (bound := getattr(constraint, name, None)) is not None
    ]
    return f", {' and '.join(text)}" if text else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or isinstance(value, BaseModel) or value == "":
        return ""
    if value is None:
        return "null"
    return f"`{list(value) if isinstance(value, tuple) else value}`".replace("\n", "\\n")


if __name__ == "__main__":
    print(reference(), end="")
