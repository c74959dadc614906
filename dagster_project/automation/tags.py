"""The tags of the runs of an unattended build, and how often the sensors check."""

from __future__ import annotations

import os

REQUEST_JOB = "request_build"
"""The job whose runs ask for a build."""
STUDY_TAG, ASKED_BY_TAG = "lwf/study", "lwf/asked_by"
"""Tags of the runs that ask."""
BUILD_TAG, CELL_TAG, RECIPE_TAG = "lwf/build", "lwf/cell", "lwf/recipe"
"""Tags of the runs of cells: the run that asked for the build, the cell, and the recipe that it had."""
INTERVAL = int(os.environ.get("LWF_SENSOR_SECONDS", "15"))
"""Seconds between two ticks of a sensor; set `$LWF_SENSOR_SECONDS` to change it."""
