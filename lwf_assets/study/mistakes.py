"""Messages for what is wrong in a study file: each mistake under the dotted key of the file.

pydantic names its own machinery: the arm of a union, the key of a mapping, Python's types. Here its complaints are
mapped through the settings classes to the terms of the file.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lwf_assets.study.study import ARM_NAME, OverrideError, Study

_NAME = "must begin with a letter or digit and have only letters, digits, `_`, `.` and `-` in it"
_ARM_NAME = "must begin with a small letter and have only small letters, digits and `_` in it"
_WORDS = {
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of keys",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "path_type": "must be a path",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_pattern_mismatch": _NAME,
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "finite_number": "must be a finite number",
}


def explain(error: ValidationError) -> str:
    """All mistakes in one line, each with its key and, where it is known, what would be right."""
    problems: dict[str, dict[str, str]] = {}  # by key, what is wrong with which value
    for key, message, value in _all_explained(error, Study):
        problems.setdefault(key, {})[message] = value
    # A list with a bad item is also reported as too short: the item's own complaint says it better.
    keys = [key for key in problems if not any(other.startswith(f"{key}.") for other in problems)]
    return "; ".join(_sentence(key, problems[key]) for key in keys)


def _sentence(key: str, problems: dict[str, str]) -> str:
    # Several complaints under one key are the arms of a union, of which one must fit.
    sentence = " or ".join(problems) + next(iter(problems.values()))
    return f"`{key}`: {sentence}" if key else sentence


def _all_explained(error: ValidationError, root: Any) -> Iterator[tuple[str, str, str]]:
    for problem in error.errors():
        override = problem.get("ctx", {}).get("error")
        if isinstance(override, OverrideError):
            for key, message, value in _all_explained(override.mistakes, override.section):
                yield ".".join(filter(None, [override.key, key])), message, value
        else:
            yield _explained(problem, root)


def _explained(problem: ErrorDetails, root: Any) -> tuple[str, str, str]:
    """The key, what is wrong with it, and its value, as text; keys are those below `root`."""
    location, kind, context = problem["loc"], problem["type"], problem.get("ctx", {})
    key, reached = _followed(location, root)
    got = "" if isinstance(problem["input"], dict | BaseModel) else f", got {_clipped(problem['input'])}"
    match kind:
        case "missing":
            return key, "missing; it must be given", ""
        case "extra_forbidden":
            _, section = _followed(location[:-1], root)
            return key, f"unknown key{_nearest(str(location[-1]), _keys(section))}", ""
        case "union_tag_not_found":
            return f"{key}.kind", f"missing; give one of {', '.join(_kinds(reached))}", ""
        case "union_tag_invalid":
            tag = str(context["tag"])
            return f"{key}.kind", f"unknown kind {tag!r}{_nearest(tag, _kinds(reached))}", ""
        case "string_pattern_mismatch" if location[-1] == "[key]":
            return key, f"the name {_ARM_NAME if context['pattern'] == ARM_NAME else _NAME}", ""
        case "value_error":
            message = problem["msg"].removeprefix("Value error, ")
            shown = "" if repr(problem["input"]) in message else got
            return _with_key_of_message(key, message, _keys(reached), shown)
        case "literal_error":
            return key, f"must be {context['expected']}", got
    words = _WORDS.get(kind) or problem["msg"].replace("Input should be", "must be")
    return key, words, ", but it is empty" if problem["input"] is None else got


def _with_key_of_message(key: str, message: str, known: list[str], got: str) -> tuple[str, str, str]:
    """Errors about several keys begin with the one at fault, which is appended to the dotted key."""
    named = re.match(r"([a-z_]+)((?:\.[\w-]+)*): ", message)
    if named and named[1] in known:
        return ".".join(filter(None, [key, named[1] + named[2]])), message[named.end() :], ""
    return key, message, got


def _followed(location: tuple[int | str, ...], root: Any) -> tuple[str, Any]:
    """The dotted key of pydantic's `location`, and the type at that place (None where it is unknown)."""
    key: list[str] = []
    at: Any = root
    for part in location:
        if part == "[key]":
            continue
        at = _without_none(at)
        arms = _arms(at)
        if arms and all(isinstance(arm, type) and issubclass(arm, BaseModel) for arm in arms):
            at = next((arm for arm in arms if part in _kind_of(arm)), None)
        elif arms:  # the arm that pydantic tried, such as `list[str]`
            at = None
        else:
            key.append(str(part))
            at = _below(at, part)
    return ".".join(key), _without_none(at)


def _below(at: Any, part: int | str) -> Any:
    if isinstance(at, type) and issubclass(at, BaseModel):
        field = at.model_fields.get(str(part))
        return field.annotation if field else None
    arguments = typing.get_args(at)
    return arguments[-1] if typing.get_origin(at) is dict else None


def _without_none(at: Any) -> Any:
    if typing.get_origin(at) is typing.Annotated:
        at = typing.get_args(at)[0]
    arms = [arm for arm in _arms(at) if arm is not types.NoneType]
    return arms[0] if len(arms) == 1 else at


def _arms(at: Any) -> tuple[Any, ...]:
    return typing.get_args(at) if typing.get_origin(at) in (typing.Union, types.UnionType) else ()


def _kind_of(model: type[BaseModel]) -> tuple[Any, ...]:
    return typing.get_args(model.model_fields["kind"].annotation)


def _kinds(at: Any) -> list[str]:
    return [kind for arm in _arms(at) for kind in _kind_of(arm)]


def _keys(at: Any) -> list[str]:
    return list(at.model_fields) if isinstance(at, type) and issubclass(at, BaseModel) else []


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(known)}" if known else ""


def _clipped(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
