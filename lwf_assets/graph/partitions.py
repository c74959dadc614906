"""Every partition that a study has along some dimensions."""

from __future__ import annotations

from lwf_assets.graph.models import compared
from lwf_assets.store.partition import ARM, FORGETTING_TASK, LEARNING_TASK, MODEL, PRIOR, Partition
from lwf_assets.study.study import Study


def partitions(study: Study, dimensions: tuple[str, ...]) -> tuple[Partition, ...]:
    """Every partition along `dimensions`, in the study's order. A task is never forgotten while it is learned."""
    if PRIOR in dimensions:
        priors = dict.fromkeys(arm.taught_prior for arm in study.arms.values() if arm.taught_prior)
        return tuple(Partition(prior=prior) for prior in priors)
    if ARM in dimensions:
        return tuple(Partition(arm=e.key, learning_task=e.learning_task) for e in compared(study) if e.arm is not None)
    if MODEL in dimensions:
        return tuple(Partition(model=e.key, learning_task=e.learning_task) for e in compared(study))
    forgetting = study.forgetting_names if FORGETTING_TASK in dimensions else (None,)
    learning = study.learning_names if LEARNING_TASK in dimensions else (None,)
    grid = (Partition(f, learned) for learned in learning for f in forgetting)
    return tuple(p for p in grid if p.learning_task is None or p.learning_task != p.forgetting_task)
