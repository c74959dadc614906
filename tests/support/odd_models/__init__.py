"""Small causal models that use their parameters in every way that an architecture might: a file for each kind."""

from __future__ import annotations

from odd_models import experts, in_place, operations, passes, positions, rows, tied
from odd_models.causal import Causal

KINDS: dict[str, type[Causal]] = {
    name: kind
    for family in (tied, experts, rows, positions, in_place, operations, passes)
    for name, kind in vars(family).items()
    if isinstance(kind, type) and issubclass(kind, Causal)
}
"""All of them, and the plain one, by name."""
