"""What is free, and that nothing is begun which cannot fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from header_models import CONFIG, write_header_model
from world import World

from lwf_assets.building.materialize import materialize
from lwf_assets.cost import devices
from lwf_assets.cost import free_memory as free_memory_module
from lwf_assets.cost.free_memory import free_memory, free_on_host
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.store.partition import Partition

MEMINFO = "MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable: 5000 kB\nSwapFree: {swap} kB\nHugePages_Total: 0\n"


class Machine:
    """What a kernel would say, in files."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.meminfo()
        self.member("0::/")

    def meminfo(self, swap: int = 0) -> None:
        (self.proc / "meminfo").write_text(MEMINFO.format(swap=swap))

    def member(self, *lines: str) -> None:
        (self.proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def group(self, path: str, limit: str, used: int, cached: int = 0) -> None:
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\nactive_file {cached}\ninactive_file 0\n")

    def old_group(self, path: str, limit: int, used: int, cached: int = 0) -> None:
        folder = self.groups / "memory" / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"inactive_file 7\ntotal_active_file 0\ntotal_inactive_file {cached}\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path / "machine")
    monkeypatch.setattr(free_memory_module, "PROC", machine.proc)
    monkeypatch.setattr(free_memory_module, "GROUPS", machine.groups)
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    return machine


def test_without_limits_it_is_what_the_kernel_has_and_its_swap(machine: Machine) -> None:
    assert free_on_host() == 5000 * 1024
    machine.group("", "max", 300)
    assert free_on_host() == 5000 * 1024
    machine.meminfo(swap=100)
    assert free_on_host() == 5100 * 1024


def test_the_tightest_of_all_groups_around_counts_without_its_cached_files(machine: Machine) -> None:
    machine.member("0::/outer/inner")
    machine.group("outer/inner", "max", 10)
    machine.group("outer", "100000", 60_000, cached=15_000)
    machine.group("", "900000", 10)
    assert free_on_host() == 55_000


def test_a_container_that_sees_the_path_of_its_host_has_the_limit_of_the_root(machine: Machine) -> None:
    machine.member("9:name=systemd:/", "4:memory:/docker/1234", "0::/")
    machine.old_group("", 100_000, 60_000, cached=5_000)
    assert free_on_host() == 45_000


def test_where_nobody_tells_nothing_is_known_and_nothing_refused(machine: Machine) -> None:
    (machine.proc / "meminfo").unlink()
    assert free_on_host() is None
    assert free_memory(on_accelerator=False) is None


def test_this_machine_has_some_memory_free() -> None:
    free = free_on_host()
    assert free is None or free > 10_000_000
    assert free_memory(on_accelerator=True, ask_torch=True) is not None


FISHER = Cell("fisher_diagonal", Partition(learning_task="sums"))


def test_what_cannot_fit_is_refused_before_it_starts(built: World, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = built.home.store.folder(FISHER.asset, FISHER.partition)
    before = {path for path in folder.rglob("*") if path.suffix != ".lock"}
    monkeypatch.setattr(free_memory_module, "free_on_host", lambda: 150_000)
    with pytest.raises(LwfError, match="would not fit into memory") as refused:
        materialize(built.study, built.home.store, FISHER, force=True)
    for words in (
        "fisher_diagonal[sums] would not fit into memory and was not started: it needs at least",
        "and 0.0 GB are free",
        "weights (model.dtype: float32)",
        "the Fisher diagonal in float32",
        "activations and logits of",
        "(model.token_budget: auto, here 2048)",
        "Change the settings in brackets",
    ):
        assert words in str(refused.value)
    assert {path for path in folder.rglob("*") if path.suffix != ".lock"} == before
    assert built.stale() == set()


def test_what_the_store_has_needs_no_memory(built: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory_module, "free_on_host", lambda: 0)
    assert materialize(built.study, built.home.store, FISHER).reused


def test_what_may_fit_is_not_refused(built: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models fit into nearly nothing, and assets without a model are never asked about."""
    monkeypatch.setattr(free_memory_module, "free_on_host", lambda: 100_000_000)
    assert not materialize(built.study, built.home.store, FISHER, force=True).reused
    monkeypatch.setattr(free_memory_module, "free_on_host", lambda: 0)
    scored = Cell("scored_forget_set", Partition("teeth", "sums"))
    assert not materialize(built.study, built.home.store, scored, force=True).reused


def test_a_model_that_is_too_large_is_not_even_read(built: World, tmp_path: Path) -> None:
    write_header_model(tmp_path / "study" / "large", [10**7, 10**6], config=CONFIG)
    built.values["model"]["source"]["path"] = "large"
    with pytest.raises(LwfError, match=r"base_model would not fit .* at least 40000 GB and .* GB are free"):
        materialize(built.study, built.home.store, Cell("base_model", Partition()))
