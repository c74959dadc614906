"""Files that come with the package: studies, prompts, the workspace.

In a checkout they lie at its top, for people to find; a wheel has them inside of this package, as `shipped`.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent
_INSIDE, _CHECKOUT = _HERE / "shipped", _HERE.parent


def shipped(name: str) -> Path:
    """The file or folder called `name`, such as `studies/quickstart.yaml`."""
    return (_INSIDE if _INSIDE.is_dir() else _CHECKOUT) / name
