"""The statistics of the reports and of studies: effects with honest intervals, tests, verdicts, learning speed."""

from __future__ import annotations

from lwf_assets.statistics.bootstrap_statistic import bootstrap_statistic
from lwf_assets.statistics.effect import Effect
from lwf_assets.statistics.interval import bootstrap_interval
from lwf_assets.statistics.learning_speed import area_under_curve, steps_to_reach
from lwf_assets.statistics.macro_f1 import macro_f1
from lwf_assets.statistics.paired_effect import paired_effect, seed_effect
from lwf_assets.statistics.power import minimum_detectable_effect
from lwf_assets.statistics.ranking_quality import RankingQuality, precision_recall_of_ranking
from lwf_assets.statistics.variance_shares import rank_correlation, shares_of_variance
from lwf_assets.statistics.verdict import Verdict, holm, verdict

__all__ = [
    "Effect",
    "RankingQuality",
    "Verdict",
    "area_under_curve",
    "bootstrap_interval",
    "bootstrap_statistic",
    "holm",
    "macro_f1",
    "minimum_detectable_effect",
    "paired_effect",
    "precision_recall_of_ranking",
    "rank_correlation",
    "seed_effect",
    "shares_of_variance",
    "steps_to_reach",
    "verdict",
]
