"""The page that says what was tried and what survived."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from places import ROOT

from campaign.attack import Attack, Trial

PAGE = ROOT / "docs" / "reliability.md"
NOT_TRIED = ": not tried"


@dataclass(frozen=True)
class Tried:
    """An attack that was carried out."""

    attack: Attack
    trials: Sequence[Trial]
    seconds: float

    @property
    def counted(self) -> list[Trial]:
        """Those that could be tried here."""
        return [trial for trial in self.trials if not trial.trouble.endswith(NOT_TRIED)]

    @property
    def survived(self) -> int:
        """How many of them did no harm."""
        return sum(trial.survived for trial in self.counted)

    @property
    def fell(self) -> list[Trial]:
        """The others."""
        return [trial for trial in self.counted if not trial.survived]

    @property
    def not_tried(self) -> list[Trial]:
        """What this machine cannot try."""
        return [trial for trial in self.trials if trial not in self.counted]


def write_page(tried: Sequence[Tried], seed: int, seconds: float, path: Path = PAGE) -> None:
    """Write docs/reliability.md."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    text = environment.get_template("reliability.md.j2").render(
        tried=tried,
        seed=seed,
        minutes=seconds / 60,
        commit=commit.stdout.strip() or "an unpacked archive",
        day=time.strftime("%Y-%m-%d"),
        system=f"{platform.system()}, Python {platform.python_version()}",
        count=sum(len(one.counted) for one in tried),
        survived=sum(one.survived for one in tried),
    )
    path.write_text(text, encoding="utf-8")
