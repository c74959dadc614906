"""Study files that somebody wrote to do harm, or that are no study files: one short message each, soon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lwf_assets.errors import LwfError
from lwf_assets.study.file import load_study
from lwf_assets.study.yaml_document import DEEPEST, LARGEST, read_yaml

LAUGHS = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 11)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LAUGHS, "its aliases stand for more than 1,000,000 values"),
        (LAUGHS.replace("[", "{k: [").replace("]", "]}"), "its aliases stand for more than 1,000,000 values"),
        ("a: " + "[" * 100_000, "there are more than 64 mappings or lists within each other"),
        ("{a: " * 5_000, "there are more than 64 mappings or lists within each other"),
        ("\n".join(" " * n + "a:" for n in range(1_000)), "there are more than 64 mappings or lists"),
        ("a: &a [*a]", "found unconstructable recursive node"),
        ("a: &a {b: *a}", "found unconstructable recursive node"),
        ("a: " + "x" * LARGEST, "has 4,000,003 bytes; a study file has at most 4,000,000"),
        ("a: !!python/object/apply:os.mkdir [run]", "could not determine a constructor for the tag"),
        ("a: 2026-13-45", "not valid YAML: month must be in 1..12"),
        ("a: " + "9" * 5_000, "not valid YAML: Exceeds the limit"),
        ("a: \x00", "not valid YAML: unacceptable character #x0000"),
        ("? [a]\n: b", "found unhashable key"),
        ("a: 1\n---\nb: 2", "expected a single document"),
    ],
)
def test_harm_is_refused(text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(LwfError) as caught:
        load_study(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert told in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_just_within_the_limits_is_read(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("a: " + "[" * (DEEPEST - 2) + "x" + "]" * (DEEPEST - 2))
    value = read_yaml(file)["a"]
    for _ in range(DEEPEST - 2):
        (value,) = value
    assert value == "x"
    file.write_text(LAUGHS[: LAUGHS.index("a5: ")])
    assert len(read_yaml(file)["a4"]) == 10


CYRILLIC, WIDE, UNSEEN = "\u0430", "\uff41", "a\u200b"
"""Each looks like `a`."""


@pytest.mark.parametrize(
    "name",
    [
        *("..", ".", "../x", "a/b", "a|b", "a b", "", "-a", "a\x00", "a\x1b[2J", "a\n", "x" * 61),
        *(CYRILLIC, WIDE, UNSEEN),
    ],
)
@pytest.mark.parametrize("key", ["name", "learning_tasks", "forgetting_tasks"])
def test_a_name_that_could_mean_another_place_or_another_name(name: str, key: str, tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "name": "small",
        "model": {"source": {"kind": "directory", "path": "model"}},
        "learning_tasks": {"sums": {"preset": "chain_sum"}},
        "forgetting_tasks": {"teeth": {"source": {"kind": "file", "prompts": "teeth.jsonl"}}},
    }
    values[key] = name if key == "name" else {name: next(iter(values[key].values()))}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(LwfError, match=f"`{key}"):
        load_study(file)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_every_document_that_yaml_writes_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    text = yaml.safe_dump(value, allow_unicode=True)
    file.write_text(text, encoding="utf-8")
    assert read_yaml(file) == yaml.safe_load(text)
    with pytest.raises(LwfError):
        load_study(file)
