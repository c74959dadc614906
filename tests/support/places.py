"""Where things lie in this checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = Path(__file__).resolve().parent
"""What the tests import from each other."""

QUICKSTART = ROOT / "studies" / "quickstart.yaml"
"""The embedded study, on the real model."""

FIXTURES = ROOT / "tests" / "fixtures"
