"""What a sensor looks at: the plan, or why there is none now."""

from __future__ import annotations

import dagster as dg

from dagster_project.planner import Plan, make_plan
from lwf_assets.errors import LwfError
from lwf_assets.home import Home
from lwf_assets.study import Study


def plan_or_skip(study: Study, home: Home) -> Plan | dg.SkipReason:
    """The plan of the study. Where a file that it names cannot be read, half written perhaps, the reason to skip this
    tick: the next one will tell."""
    try:
        return make_plan(study, home.store, home.file_hashes)
    except (LwfError, OSError) as error:
        return dg.SkipReason(str(error))
