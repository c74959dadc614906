"""What sensors work with: the current plan, or the reason why there is none."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import cells
from lwf_assets.planning.plan import Plan, make_plan
from lwf_assets.store.home import STUDY_VARIABLE, Home
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study


def plan_or_skip(study: Study, home: Home) -> Plan | dg.SkipReason:
    """The plan of the study. Where a file that it names cannot be read, half written perhaps, the reason to skip this
    tick; the next tick tries again."""
    try:
        return make_plan(present_study(study), home.store, home.file_hashes)
    except (LwfError, OSError) as error:
        return dg.SkipReason(str(error))


def present_study(loaded: Study) -> Study:
    """The study as its file is now. A run reads it again, and a code location that lives long may have an older one.

    Raises:
        LwfError: the file cannot be read, or has other cells than this code location, which must be loaded again.
    """
    path = os.environ.get(STUDY_VARIABLE)
    if not path:
        return loaded
    study = load_study(Path(path))
    if study.name != loaded.name or cells(study) != cells(loaded):
        raise LwfError(f"{path} has other tasks, arms or assets than when it was loaded: reload the code location")
    return study
