"""Tries every attack and writes docs/reliability.md: `make campaign`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from campaign.attacks import ATTACKS
from campaign.builds import undisturbed, versions
from campaign.carried_out import carry_out
from campaign.page import keep

AT_ONCE = 3
"""Attacks that are carried out side by side; most of each is waiting."""


def main() -> int:
    """Exit code 1 if anything did not survive."""
    parser = argparse.ArgumentParser(description="Tries every attack and writes docs/reliability.md.")
    known = [attack.name for attack in ATTACKS]
    parser.add_argument("--only", choices=known, action="append", help="one attack; the others stay as they were")
    parser.add_argument("--short", action="store_true", help="little of each, as CI does, and no page")
    parser.add_argument("--keep", type=Path, help="where homes and logs are left")
    parser.add_argument("--seed", type=int, default=1, help="another campaign")
    chosen = parser.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="campaign-"))
    whole = versions(undisturbed(folder / "undisturbed"))
    wanted = [attack.name for attack in ATTACKS if not chosen.short or attack.few]
    with ProcessPoolExecutor(AT_ONCE, get_context("spawn"), max_tasks_per_child=1) as processes:
        names = chosen.only or wanted
        carried = [processes.submit(carry_out, n, folder, whole, chosen.seed, short=chosen.short) for n in names]
        tried = []
        for one in as_completed(carried):
            tried.append(one.result())
            print(f"{tried[-1].name}: {tried[-1].survived} of {len(tried[-1].counted)} survived", flush=True)
            if not chosen.short:
                keep(tried[-1:])
    fell = any(one.fell for one in tried)
    if not chosen.keep and not fell:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if fell else 0


if __name__ == "__main__":
    sys.exit(main())
