"""Arm `lwf`: LWF with some settings of its own: another end of the ranking, timing, rate, objective, alpha."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.study.arms import LwfArm

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work
    from lwf_assets.study.arms import LwfArm


def fine_tune(work: Work, arm: LwfArm) -> dict[str, Any]:
    """Choose D_U as the arm says, and unlearn it as the arm says."""
    from lwf_assets.fine_tuning.forgetting import choose_forget_set, learn_with_forgetting

    rows = choose_forget_set(work, arm.confidence_settings(work.study.confidence))
    return learn_with_forgetting(work, rows, arm.unlearning_settings(work.study.unlearning))
