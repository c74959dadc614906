"""kronfluence: its diagonal strategy keeps the squared per-sample gradients of the linear layers, and of them alone."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.methods.method import Method, Result
from benchmarks.problem import Problem
from lwf_assets.engine.loss import sample_losses
from lwf_assets.engine.samples import Batch, collate


class _Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, batch: Batch) -> None:
        self.batch = vars(batch)

    def __len__(self) -> int:
        return len(self.batch["input_ids"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: rows[index] for name, rows in self.batch.items()}


def _prepare(problem: Problem) -> Callable[[], Result]:
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments
    from kronfluence.task import Task

    class Loss(Task):  # type: ignore[misc]
        def compute_train_loss(self, batch: dict[str, Tensor], model: Any, sample: bool = False) -> Tensor:
            return sample_losses(model, Batch(**batch)).sum()

        def compute_measurement(self, batch: dict[str, Tensor], model: Any) -> Tensor:
            return self.compute_train_loss(batch, model)

    task = Loss()
    model = prepare_model(copy.deepcopy(problem.model), task)
    rows = _Rows(collate(problem.samples))
    arguments = FactorArguments(strategy="diagonal", use_empirical_fisher=True)

    def run() -> Result:
        with tempfile.TemporaryDirectory() as folder:
            analyzer = Analyzer("race", model, task, cpu=True, output_dir=folder, disable_tqdm=True)
            analyzer.fit_all_factors("diagonal", rows, per_device_batch_size=len(rows), factor_args=arguments)
            factors = analyzer.load_lambda_matrices("diagonal")["lambda_matrix"]
        # The head is tied to the embedding, and what it gives for the head leaves the embedding's use out.
        return {
            f"{module}.weight": value.to(torch.float32) / len(rows)
            for module, value in factors.items()
            if f"{module}.weight" in problem.fisher
        }

    return run


FISHER = Method(
    "kronfluence",
    "kronfluence: `diagonal` factors",
    "fisher",
    "peer",
    _prepare,
    package="kronfluence",
    remark="linear layers alone, without the tied head; writes its factors to disk",
)
