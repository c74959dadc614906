"""Reads one YAML document that people write: nothing in it is run, and nothing in it grows beyond what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lwf_assets.errors import LwfError

LARGEST = 4_000_000
"""Bytes of a file; a study of some thousand cells has a hundredth of it."""
DEEPEST = 64
"""Mappings and lists within each other; a study has nine."""
MOST = 1_000_000
"""Values, those behind an alias counted as often as they are named."""


class Replace(dict[str, Any]):
    """A mapping tagged `!replace`: takes the place of the inherited one instead of being merged into it."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice, which plain YAML silently overwrites."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """The next node, refused where it lies too deep."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"there are more than {DEEPEST} mappings or lists within each other",
                problem_mark=self.get_mark(),
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as it is written, before `<<` brings in keys that it may well override."""
        node = super().compose_mapping_node(anchor)
        assert isinstance(node, yaml.MappingNode)
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if (key_node.tag, key_node.value) in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key_node.value!r} appears twice", problem_mark=key_node.start_mark
                    )
                seen.add((key_node.tag, key_node.value))
        return node


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)  # deep, so that a mapping that contains itself is detected


def _replacement(loader: _Loader, node: yaml.MappingNode) -> Replace:
    return Replace(_mapping(loader, node))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("!replace", _replacement)


def read_yaml(path: Path) -> Any:
    """The values of the document.

    Raises:
        LwfError: it cannot be read, is no YAML, or is larger than anybody would write.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise LwfError(f"{path}: has {size:,} bytes; a study file has at most {LARGEST:,}. Is it a file of data?")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LwfError(f"{path}: the study file does not exist") from None
    except UnicodeDecodeError as error:
        raise LwfError(f"{path}: not valid UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise LwfError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST:
            raise LwfError(f"{path}: its aliases stand for more than {MOST:,} values; write a study without them")
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # the second of a number or a date that there is not
        raise LwfError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Values that a node stands for. One that contains itself is refused when it is made."""
    if id(node) not in known:
        known[id(node)] = 1
        if isinstance(node, yaml.MappingNode):
            known[id(node)] += sum(_size(key, known) + _size(value, known) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            known[id(node)] += sum(_size(item, known) for item in node.value)
    return known[id(node)]
