"""`make gpu-check` without a GPU: it says so; and its checks themselves, on tiny models in Triton's interpreter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check.__main__ import ROOT, all_checks, main, write_page
from benchmarks.gpu_check.check import Check, Figure, Place, Skipped, run_check

CPU = Place(torch.device("cpu"), tiny=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "There is no GPU here: nothing was checked or written.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_check_on_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    assert main(["--device", "cpu", "--tiny", "--seconds", "10000", "--out", str(tmp_path)]) == 0
    checks = {check["name"]: check for check in json.loads((tmp_path / "gpu.json").read_text())["checks"]}
    assert list(checks) == [check.name for check in all_checks()]
    assert [name for name, check in checks.items() if check["reason"]] == ["two devices"]
    fp32, bf16 = checks["exactness"]["figures"]
    assert fp32["passed"]
    assert bf16["passed"]
    for figure in checks["ratios of 8B"]["figures"]:
        assert figure["value"] > 0
        assert figure["notes"]["by the loop"] > 0
    page = (tmp_path / "gpu.md").read_text()
    assert "| terms, 8B |" in page
    assert "error, fp32" in capsys.readouterr().out
    main(["--render", "--out", str(tmp_path)])  # from the results alone
    assert (tmp_path / "gpu.md").read_text() == page


def test_a_check_that_fails_or_does_not_fit_says_why() -> None:
    def fails(place: Place) -> list[Figure]:
        raise RuntimeError("no such kernel\nand a trace")

    def skips(place: Place) -> list[Figure]:
        raise Skipped("there is one card, and it needs two")

    failed = run_check(Check("a", "A", fails), CPU, 100)
    assert (failed["reason"], failed["failed"]) == ("RuntimeError: no such kernel", True)
    assert run_check(Check("a", "A", skips), CPU, 100)["reason"] == "there is one card, and it needs two"
    late = run_check(Check("a", "A", fails, seconds=60), CPU, 20)
    assert late["reason"] == "20 s were left, and it takes some 60"
    assert "failed" not in late


def test_a_bar_is_met_from_the_right_side() -> None:
    assert Figure("ratio", 1.5, 1.6).passed
    assert not Figure("ratio", 1.7, 1.6).passed
    assert Figure("tokens", 30_000, 20_000, at_least=True).passed
    assert not Figure("tokens", 10_000, 20_000, at_least=True).passed
    assert Figure("ratio", 1.7).passed is None


def test_the_page_of_this_version_is_that_of_its_results(tmp_path: Path) -> None:
    """docs/gpu.md is what the template makes of docs/gpu.json, or says that there are no results."""
    results = ROOT / "docs" / "gpu.json"
    write_page(json.loads(results.read_text()) if results.exists() else None, tmp_path / "gpu.md")
    assert (tmp_path / "gpu.md").read_text() == (ROOT / "docs" / "gpu.md").read_text()
