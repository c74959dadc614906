"""Files of rows that somebody wrote to do harm: one message each that names the place, and no memory for all of it."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from lwf_assets.errors import LwfError
from lwf_assets.tasks.files.formats import read_as_named
from lwf_assets.tasks.files.streams import LONGEST_LINE

DEEP = '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}"
DIGITS = '{"prompt": ' + "9" * 5_000 + "}"
LONG = "x" * (LONGEST_LINE + 1)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", DEEP, ", line 1: not JSON: it has too many lists or objects within each other"),
        ("a.json", f"[{DEEP}]", ": not JSON: it has too many lists or objects within each other"),
        ("a.jsonl", DIGITS, ", line 1: not JSON: Exceeds the limit"),
        ("a.json", f"[{DIGITS}]", ": not JSON: Exceeds the limit"),
        ("a.jsonl", f'{{"prompt": "{LONG}"}}', ", line 1: has more than 16,000,000 bytes"),
        ("a.csv", f"prompt,answer\n{LONG},y\n", ", line 2: has more than 16,000,000 bytes"),
        ("a.txt", f"short\n{LONG}", ", line 2: has more than 16,000,000 bytes"),
        ("a.csv", 'prompt,answer\n"a,b\n' + "c,d\n" * 1000, ": not CSV: unexpected end of data"),
    ],
)
def test_harm_is_refused_where_it_is(name: str, text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(LwfError) as caught:
        list(read_as_named(path))
    assert str(path) in str(caught.value)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_line_of_a_gigabyte_in_a_small_packed_file_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        for _ in range(1_000):
            packed.write(b" " * 1_000_000)
    tracemalloc.start()
    with pytest.raises(LwfError, match="line 1: has more than 16,000,000 bytes"):
        list(read_as_named(path))
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


def test_a_long_text_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(f"prompt,answer\n{'x' * 1_000_000},y\n")
    ((_, row),) = read_as_named(path)
    assert len(row["prompt"]) == 1_000_000
