"""What commands print: text of data cannot give orders to the terminal."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from dagster_project.cli import console

TITLE = "\x1b]0;another title\x07"
CLEAR = "\x1b[2J"
TURNED = "\u202egpj.exe"


@pytest.mark.parametrize("colors", [False, True])
def test_orders_are_shown_and_not_given(colors: bool) -> None:
    out = console._console(stderr=False)
    out.file = written = io.StringIO()
    out._force_terminal = colors
    table = Table(CLEAR)
    table.add_row(Text(TITLE, style="red"))
    for what in (TITLE, Text.assemble((CLEAR, "bold"), TURNED), table):
        out.print(what)
    text = written.getvalue()
    for order in (TITLE, CLEAR, "\x1b]", "\x07", "\u202e"):
        assert order not in text
    assert text.count("\\x1b]0;another title") == 2
    assert "\\x1b[2J" in text
    assert "\\u202egpj.exe" in text


def test_words_and_lines_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.out.print("zwei Wörter\nund 語", soft_wrap=True)
    assert capsys.readouterr().out == "zwei Wörter\nund 語\n"
