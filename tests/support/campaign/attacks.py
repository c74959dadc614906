"""All attacks, in the order of the page."""

from __future__ import annotations

from campaign.as_tests import tests
from campaign.attack import Attack
from campaign.clocks import clocks
from campaign.daemon_kills import daemon_kills
from campaign.damage import damage
from campaign.full_disk import small_disks, small_files
from campaign.kills import kills
from campaign.odd_homes import odd_homes
from campaign.setups import setups
from campaign.together import together

SAME = "the same bytes; nothing that was finished is made twice; no process, lock or draft left; databases whole"

ATTACKS = (
    Attack(
        "kills",
        "SIGKILL, SIGTERM or Ctrl-C at a random moment of a build by hand",
        f"{SAME}; Ctrl-C ends within 2 s with one line and exit code 130",
        kills,
        50,
        2,
    ),
    Attack(
        "daemon_kills",
        "a run, the daemon or everything killed at a random moment of an unattended build",
        SAME,
        daemon_kills,
        50,
        0,
    ),
    Attack(
        "setups",
        "a process killed while it sets up the databases of a home, step by step",
        "the next process sets them up, and nothing is left",
        setups,
        60,
        0,
    ),
    Attack(
        "small_disks",
        "a disk that is too small for the build, and then has room",
        "one line that says what is full and how much is needed; with room, the build goes on to the same bytes",
        small_disks,
        5,
        1,
    ),
    Attack("small_files", "`ulimit -f` below what the build writes", "the same", small_files, 5, 0),
    Attack(
        "odd_homes",
        "homes with odd names, read-only, with few open files or little memory",
        "the build ends well, or one line says what is missing before any work",
        odd_homes,
        6,
        0,
    ),
    Attack(
        "together",
        "two and four builds at once, of one study and of two; other commands and `lwf ui` beside a build",
        "all end well, with the same bytes",
        together,
        11,
        0,
    ),
    Attack(
        "damage",
        "one file of a store: a bit flipped, cut short, emptied, removed, swapped, replaced by a link",
        "found by `lwf audit --verify`; a build (after every tenth) refuses it, or comes to the same bytes",
        damage,
        300,
        11,
    ),
    Attack("clocks", "the clock is set by hours or days while a build runs", "the same bytes at the end", clocks, 3, 0),
    Attack(
        "daylight",
        "schedules over the days on which clocks are changed",
        "one tick a day",
        tests("tests/dagster_project/test_daylight_saving.py"),
        0,
        0,
    ),
    Attack(
        "studies",
        "study files and rows that were written to do harm: bombs of aliases, deep nesting, endless lines, odd names",
        "one short message that names the place, soon",
        tests("tests/study/test_yaml_document.py", "tests/tasks/test_hostile_rows.py"),
        0,
        0,
    ),
    Attack(
        "models",
        "model directories with pickles, code of their own, links, false headers",
        "nothing of theirs is run; one message",
        tests("tests/assets/test_hostile_models.py"),
        0,
        0,
    ),
    Attack(
        "pages",
        "requests of a page from elsewhere to Dagster and MLflow; text that gives orders to a terminal",
        "refused; shown and not obeyed",
        tests("tests/dagster_project/test_guard.py", "tests/dagster_project/test_console.py"),
        0,
        0,
    ),
    Attack(
        "secrets",
        "passwords and tokens in every variable and address",
        "found in no file, database, log or message",
        tests("tests/dagster_project/test_secrets.py"),
        0,
        0,
    ),
    Attack(
        "outages",
        "MLflow away before, during and after a build; every answer lost in turn",
        "the build ends well; everything arrives once",
        tests("tests/dagster_project/test_outage.py"),
        0,
        0,
    ),
)
"""Those that are tests have as many trials as there are tests, and CI runs them anyway."""
