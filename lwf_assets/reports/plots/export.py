"""Figures as files: SVG files or inline SVG, PNG under a given size. Equal figures give equal
bytes."""

from __future__ import annotations

import hashlib
import re
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from lwf_assets.reports.plots.style import BASE, BETTER, FORGOTTEN, GRID, INK, KEPT, LWF, REFERENCE, WORSE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A page may set these to follow its light or dark look; elsewhere the colour itself holds.
_CSS_NAMES = {
    INK: "ink",
    GRID: "grid",
    BASE: "base",
    REFERENCE: "reference",
    LWF: "lwf",
    FORGOTTEN: "forgotten",
    KEPT: "kept",
    BETTER: "better",
    WORSE: "worse",
}

_DPI = (160, 130, 110, 90, 75, 60, 50, 40, 30)


def to_svg(figure: Figure, *, prefix: str | None = None) -> str:
    """The figure as one <svg> element for an HTML page, as wide as its place.

    Text stays text, in the page's font; colours are CSS variables (`--plot-ink`, `--plot-lwf`, ...) that fall back to
    their values. Ids begin with `prefix`; by default with a hash of the figure, so that only equal figures share any.
    """
    import matplotlib

    buffer = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": "lwf", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", facecolor="none", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    # Inside a page this style element would hold for the whole page.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r'\1 style="stroke-linejoin: round"', text, count=1)
    text = re.sub(r"font-family: [^;\"]+", "font-family: var(--plot-font, sans-serif)", text)
    text = re.sub(r"#[0-9a-f]{6}\b(?=[;\"])", _as_variable, text)
    return _with_own_ids(text, prefix or f"f{hashlib.sha256(text.encode()).hexdigest()[:8]}")


def save_svg(figure: Figure, path: Path) -> None:
    """Write the figure as a file of its own, on white: a page in the dark has no lighter ink for it."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "lwf", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    # matplotlib ends some lines with a space.
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


def to_png(figure: Figure, *, max_bytes: int = 100_000) -> bytes:
    """The figure as PNG on white, at the highest resolution that keeps within `max_bytes`.

    Raises:
        ValueError: it does not fit even at the lowest resolution.
    """
    for dpi in _DPI:
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
        if buffer.tell() <= max_bytes:
            return buffer.getvalue()
    raise ValueError(f"the figure takes {buffer.tell()} bytes at {_DPI[-1]} dpi, more than max_bytes={max_bytes}")


def _as_variable(colour: re.Match[str]) -> str:
    name = _CSS_NAMES.get(colour[0])
    return f"var(--plot-{name}, {colour[0]})" if name else colour[0]


def _with_own_ids(svg: str, prefix: str) -> str:
    """Ids that something refers to get the prefix; all others (figure_1, axes_1) go."""
    referred = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))

    def rename(match: re.Match[str]) -> str:
        return f' id="{prefix}-{match[1]}"' if match[1] in referred else ""

    svg = re.sub(r' id="([^"]+)"', rename, svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
