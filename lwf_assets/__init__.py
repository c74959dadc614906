"""Learning With Forgetting: fine-tune a language model while it unlearns what conflicts with the new task.

The names below are the public face. They are imported when they are first used, so that `import lwf_assets` alone loads
no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lwf_assets.engine.confidence import confidence_terms
    from lwf_assets.engine.fisher import fisher_diagonal
    from lwf_assets.engine.samples import Sample
    from lwf_assets.engine.unlearning.periodic import PeriodicUnlearning
    from lwf_assets.study.file import load_study

__all__ = ["PeriodicUnlearning", "Sample", "confidence_terms", "fisher_diagonal", "load_study"]

_MODULES = {
    "PeriodicUnlearning": "engine.unlearning.periodic",
    "Sample": "engine.samples",
    "confidence_terms": "engine.confidence",
    "fisher_diagonal": "engine.fisher",
    "load_study": "study.file",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
