"""Builds by hand that are killed at random moments, each time a bit further on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from world import World, new_world

from campaign.attack import Field, Trial
from campaign.builds import made_at, run, start, troubles

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SOON = {signal.SIGKILL: 2.0, signal.SIGTERM: 5.0, signal.SIGINT: 2.0}
"""Seconds within which a signal must have ended the build."""
EARLIEST, LATEST = 0.3, 11.0
"""Seconds into a build at which it is killed. The first five are imports; the rest gets it a few artifacts further."""
LINE = "Interrupted. The next build goes on from here."


def kills(field: Field) -> Iterator[Trial]:
    """One signal a trial. A home is built to its end by as many as it takes; then comes a new one."""
    whole = field.whole
    done, home = 0, 0
    while done < field.trials:
        home += 1
        world, log = new_world(field.folder / str(home)), field.folder / f"{home}.log"
        said = list[Trial]()
        while done < field.trials:
            finished, (what, trouble) = made_at(world), _kill(world, log, field)
            if what is None:
                break
            done += 1
            again = [name for name, when in finished.items() if made_at(world).get(name) != when]
            trouble = trouble or (f"was finished, and made again: {again}" if again else "")
            said.append(Trial(what, trouble))
        finished = made_at(world)
        code = run(world, "build", log=log)
        trouble = troubles(world, whole, finished) if code == 0 else f"the build after it ended with {code}; see {log}"
        for number, trial in enumerate(said):
            last = number == len(said) - 1
            yield Trial(trial.what, trial.trouble or (trouble if last else ""))


def _kill(world: World, log: Path, field: Field) -> tuple[str | None, str]:
    """Kill a build at a random moment. Returns what was done, None if the build had ended before, and the trouble."""
    chosen = field.draws.choice(SIGNALS)
    wait = field.draws.uniform(EARLIEST, LATEST)
    log.touch()
    before = log.stat().st_size
    process = start(world, "build", log=log)
    try:
        code = process.wait(wait)
    except subprocess.TimeoutExpired:
        process.send_signal(chosen)
    else:
        return None, "" if code == 0 else f"the build ended with {code}; see {log}"
    sent = time.monotonic()
    what = f"{chosen.name} after {wait:.1f} s, {len(made_at(world))} artifacts finished"
    try:
        code = process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return what, "it did not end within 30 s"
    took = time.monotonic() - sent
    if code == 0:
        return what, ""  # it was ending anyway
    if took > SOON[chosen]:
        return what, f"it took {took:.1f} s to end"
    if chosen == signal.SIGINT:
        lines = log.read_bytes()[before:].decode(errors="replace").splitlines()
        if code not in (130, -signal.SIGINT):
            return what, f"exit code {code} instead of 130"
        # In the first half second Python has not come to our first line yet.
        if code == 130 and lines[-1:] != [LINE]:
            return what, f"the last line is {lines[-1:]}"
        if code == -signal.SIGINT and wait > 1:
            return what, "ended by the signal itself"
        if any("Traceback" in line for line in lines) and wait > 1:
            return what, "a traceback was shown"
    return what, ""
