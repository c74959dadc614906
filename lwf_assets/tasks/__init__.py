"""What can be learned or forgotten: a task is a source of rows, a prompt form and a scorer."""

from lwf_assets.tasks.rows import LearningRow, PromptRow, TestRow
from lwf_assets.tasks.scorers import ItemScore, aggregate, cut_at_stop, score
from lwf_assets.tasks.settings import TaskSettings
from lwf_assets.tasks.task import Task

__all__ = [
    "ItemScore",
    "LearningRow",
    "PromptRow",
    "Task",
    "TaskSettings",
    "TestRow",
    "aggregate",
    "cut_at_stop",
    "score",
]
