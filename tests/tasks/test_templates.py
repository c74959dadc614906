"""Templates over the columns of a row, nested ones too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwf_assets.errors import LwfError
from lwf_assets.tasks.templates import Absent, render, template_columns

ROW: dict[str, Any] = {
    "ticket": {"body": "It broke.", "tags": [{"name": "urgent"}, {"name": None}], "closed": None},
    "choices": ["red", "green"],
    "flat.name": "flat",
    "n": 7,
    "label": Absent("column 'label' is hidden"),
}


def filled(template: str) -> str:
    return render(template, ROW, place="here", role="prompt")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{ticket.body}", "It broke."),
        ("{ticket[body]} {n}", "It broke. 7"),
        ("{choices[1]}/{choices[0]}", "green/red"),
        ("{ticket.tags[0].name}!", "urgent!"),
        ("{n}{ticket.tags[1].name}{ticket.closed.by}", "7"),
        ("{flat.name}", "flat"),
        ("{{n}} {n}", "{n} 7"),
    ],
)
def test_nested_columns(template: str, text: str) -> None:
    assert filled(template) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{tickets.body}", "unknown column 'tickets'; the columns here are: choices, flat.name, label, n, ticket"),
        ("{ticket.title}", "column 'ticket' has no 'title'; it has: body, closed, tags"),
        ("{choices[2]}", "column 'choices' has no item '2'; it has 2, counted from 0"),
        ("{choices.first}", "column 'choices' has no item 'first'"),
        ("{ticket.tags[0].name.first}", "column 'ticket.tags.0.name' holds a str, so there is no 'first' in it"),
        ("{choices}", "column 'choices' holds a list; a template accepts text or numbers; {choices[0]} is its first"),
        ("{ticket}", "column 'ticket' holds a dict; .*; {ticket.body} reaches into it"),
        ("{label}", "column 'label' is hidden"),
        ("{label.inner}", "column 'label' is hidden"),
        ("{ticket.closed}", "column 'ticket.closed' is empty"),
    ],
)
def test_what_a_row_lacks_is_told(template: str, message: str) -> None:
    with pytest.raises(LwfError, match=message.replace("[0]", r"\[0\]")) as caught:
        filled(template)
    assert str(caught.value).startswith("here: no prompt: ")


@pytest.mark.parametrize(
    "template", ["{}", "{0}", "{n!r}", "{n:>5}", "{n.}", "{n[}", "{[0]}", "{a..b}", "{n", "{a[b.c]}"]
)
def test_what_is_no_template(template: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is Python's own for unbalanced braces
        template_columns(template)


def test_attributes_are_out_of_reach() -> None:
    with pytest.raises(LwfError, match="column 'n' holds a int"):
        filled("{n.__class__}")


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text(min_size=1), min_size=1))
def test_plain_columns_are_filled_as_by_format(row: dict[str, str]) -> None:
    template = " ".join(f"<{{{name}}}>" for name in row)
    if any(text.strip() for text in row.values()):
        assert render(template, row, place="here", role="prompt") == template.format_map(row).rstrip()
