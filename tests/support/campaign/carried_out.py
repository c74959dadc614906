"""One attack, from its first trial to its last."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from campaign.attack import Field, Trial
from campaign.attacks import ATTACKS
from campaign.page import Tried, commit_now, today


def carry_out(name: str, folder: Path, whole: Mapping[str, str], seed: int, *, short: bool) -> Tried:
    """All trials of one attack."""
    (attack,) = (one for one in ATTACKS if one.name == name)
    place = folder / name
    place.mkdir(parents=True)
    began = time.monotonic()
    field = Field(place, whole, random.Random(f"{seed}/{name}"), attack.few if short else attack.trials)
    trials = []
    try:
        for trial in attack.run(field):
            trials.append(trial)
            print(f"{name}: {trial.what}: {trial.trouble or 'survived'}", flush=True)
    except Exception:
        # Of this attack no more can be said; the others go on.
        trials.append(Trial(f"trial {len(trials) + 1}", f"the attack broke off: {traceback.format_exc()[-600:]}"))
        print(f"{name}: {trials[-1].what}: {trials[-1].trouble}", flush=True)
    return Tried(name, trials, time.monotonic() - began, seed, commit_now(), today())
