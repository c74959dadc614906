"""Addresses of PostgreSQL databases, with the driver named."""

from __future__ import annotations

import re

DRIVER = "psycopg2"
"""The one that dagster-postgres is written for; SQLAlchemy 2.1 would take another by itself."""


def with_driver(address: str) -> str:
    """`postgresql://..` and `postgres://..` as `postgresql+psycopg2://..`; any other address as it is."""
    return re.sub(r"^postgres(ql)?://", f"postgresql+{DRIVER}://", address)
