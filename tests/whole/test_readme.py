"""The README's study is one that loads, and its commands are ones that exist."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from places import ROOT
from typer.testing import CliRunner

from dagster_project.cli.main import app
from lwf_assets.study.file import load_study

README = (ROOT / "README.md").read_text()


def test_the_study_on_ones_own_data_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"(?:^    .*\n|^\n)*^    extends: .*\n(?:^    .*\n)+", README, flags=re.MULTILINE)
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    path = tmp_path / "mine.yaml"
    path.write_text(re.sub(r"^    ", "", block, flags=re.MULTILINE))
    study = load_study(path)
    assert study.learning_names == ("tickets",)
    assert study.forgetting_names == ("old_manual",)
    assert study.seeds == (0, 1, 2)


def test_ones_own_data_begins_with_init() -> None:
    section = README.split("## On your own data\n\n")[1]
    assert section.startswith("    .venv/bin/lwf init --data ")


def test_every_command_exists() -> None:
    named = set(re.findall(r"^    (?:\.venv/bin/)?lwf (\w+)", README, flags=re.MULTILINE))
    assert named == {"init", "check", "plan", "build", "report", "export", "sql", "audit", "ui"}
    for command in named:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
