"""The page that says what was tried and what survived."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from places import ROOT

from campaign.attack import Attack, Trial
from campaign.attacks import ATTACKS

PAGE = ROOT / "docs" / "reliability.md"
RECORD = ROOT / "docs" / "reliability.json"
NOT_TRIED = ": not tried"


@dataclass(frozen=True)
class Tried:
    """An attack that was carried out, when, and on what."""

    name: str
    trials: Sequence[Trial]
    seconds: float
    seed: int
    commit: str
    day: str

    @property
    def attack(self) -> Attack:
        """What was done. (Not kept here: an attack cannot be sent from one process to another.)"""
        return next(attack for attack in ATTACKS if attack.name == self.name)

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


def keep(tried: Sequence[Tried], record: Path = RECORD, page: Path = PAGE) -> None:
    """Put these in the place of what was tried of the same attacks before, and write the page anew."""
    kept: dict[str, Any] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    for one in tried:
        trials = [[trial.what, trial.trouble] for trial in one.trials]
        kept[one.name] = {
            **{"seed": one.seed, "commit": one.commit, "day": one.day, "seconds": round(one.seconds, 1)},
            "trials": trials,
        }
    record.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_page([_kept(attack, kept[attack.name]) for attack in ATTACKS if attack.name in kept], page)


def _kept(attack: Attack, entry: dict[str, Any]) -> Tried:
    trials = [Trial(what, trouble) for what, trouble in entry["trials"]]
    return Tried(attack.name, trials, entry["seconds"], entry["seed"], entry["commit"], entry["day"])


def write_page(tried: Sequence[Tried], path: Path = PAGE) -> None:
    """Write docs/reliability.md."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("reliability.md.j2").render(
        tried=tried,
        missing=[attack for attack in ATTACKS if attack not in [one.attack for one in tried]],
        commits=sorted({one.commit for one in tried}),
        day=max(one.day for one in tried),
        seeds=sorted({one.seed for one in tried}),
        minutes=sum(one.seconds for one in tried) / 60,
        system=f"{platform.system()}, Python {platform.python_version()}",
        count=sum(len(one.counted) for one in tried),
        survived=sum(one.survived for one in tried),
    )
    path.write_text(text, encoding="utf-8")


def commit_now() -> str:
    """Of this checkout."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "an unpacked archive"


def today() -> str:
    """The date."""
    return time.strftime("%Y-%m-%d")
