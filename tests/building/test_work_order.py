"""What a machine cannot do with several processes is said before any work."""

from __future__ import annotations

import pytest
import torch

from lwf_assets.building import work_order
from lwf_assets.building.work_order import refuse_too_many
from lwf_assets.errors import LwfError
from lwf_assets.study.sections import ComputeSettings


def test_one_process_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_order, "cores", lambda: 0)
    refuse_too_many(ComputeSettings())


def test_more_processes_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_order, "cores", lambda: 3)
    refuse_too_many(ComputeSettings(processes=3))
    with pytest.raises(LwfError, match=r"^compute\.processes: 4 .* 3 CPU cores of this machine; take at most 3$"):
        refuse_too_many(ComputeSettings(processes=4))


def test_more_processes_than_cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwf_assets.engine.precision.best_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    refuse_too_many(ComputeSettings(processes=2, strategy="fsdp"))
    with pytest.raises(LwfError, match=r"^compute\.processes: 3 .* 2 CUDA devices of this machine; take at most 2$"):
        refuse_too_many(ComputeSettings(processes=3))


def test_fsdp_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_order, "cores", lambda: 2)
    with pytest.raises(LwfError, match=r"^compute\.strategy: fsdp .*; take ddp$"):
        refuse_too_many(ComputeSettings(processes=2, strategy="fsdp"))


def test_another_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwf_assets.engine.precision.best_device", lambda: torch.device("mps"))
    with pytest.raises(LwfError, match=r"^compute\.processes: .*mps.*; take 1$"):
        refuse_too_many(ComputeSettings(processes=2))
