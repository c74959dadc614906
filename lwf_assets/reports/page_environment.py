"""How the pages are filled in: every text is escaped and made visible, whoever wrote it.

What a model wrote is hostile input: the templates escape it, and a page's content security policy forbids scripts and
loads of any kind, should something slip through.
"""

from __future__ import annotations

import math
import re
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from lwf_assets.comparison.measures import measure_name, measure_of
from lwf_assets.comparison.records import MODELS
from lwf_assets.reports import numbers, wording
from lwf_assets.reports.plots.style import MODEL_NAMES

if TYPE_CHECKING:
    from jinja2 import Environment

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f]")
_NOT_TEXT = re.compile("[\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@cache
def page_environment() -> Environment:
    """Jinja with this project's templates, filters and names."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        # By name autoescape would be off: these templates end in .j2.
        autoescape=True,
        loader=PackageLoader("lwf_assets.reports", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Also where no filter is named, a model's text must not break the page.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    filters: dict[str, Any] = {
        "bounds": numbers.bounds,
        "signed_bounds": partial(numbers.bounds, signed=True),
        "mean": numbers.mean,
        "signed_mean": partial(numbers.mean, signed=True),
        "fixed": numbers.fixed,
        "significant": numbers.significant,
        "probability": numbers.probability,
        "excerpt": _excerpt,
        "measure": measure_name,
    }
    environment.filters.update(filters)
    environment.globals.update(
        models=MODELS,
        model_names=MODEL_NAMES,
        hint=lambda key: measure_of(key).hint,
        has_bounds=lambda interval: math.isfinite(interval.low) and math.isfinite(interval.high),
        grade=wording.grade,
        detectable=wording.detectable,
        direction=wording.direction,
    )
    return environment


def visible(text: str) -> str:
    """Text with its control characters as pictures, and what HTML cannot hold as replacement characters."""
    shown = _CONTROL.sub(lambda match: chr(0x2400 + ord(match[0])), text)
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", shown)


def _excerpt(text: str, length: int = 90) -> str:
    """The beginning of a text on one line."""
    line = " ".join(visible(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
