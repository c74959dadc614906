"""A home that an older version of this code built: it is still up to date, and every byte of it still holds."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from places import FIXTURES

from lwf_assets.graph.cells import Cell, cells
from lwf_assets.graph.settings import JsonSettings, context_settings, fields_of
from lwf_assets.graph.table import ASSET
from lwf_assets.lineage.audit import audit
from lwf_assets.planning.plan import Action, make_plan
from lwf_assets.store.home import Home
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study

OLD = FIXTURES / "home-f15cfa9.tar.xz"
"""A study with arms of nearly every kind, priors, probes and two seeds, built whole at commit f15cfa9."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Home]:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(OLD) as archive:
        archive.extractall(folder, filter="data")
    return load_study(folder / "study" / "study.yaml"), Home(folder / "home")


MEASURED = {"evaluation": "1", "forgetting_probe": "1"}
"""Assets whose `code_version` was raised since, with the one they had: f15cfa9 had changed the optimizer of relearning,
how memorization is measured and how distances of weights are summed, and kept the versions as they were."""
FOLLOWING = {"eval_report", "leaderboard"}
DATA = {"learning_data": "1", "test_data": "1", "forgetting_prompts": "1", "utility_data": "1"}
"""Later: missing numbers, and whole numbers stored as floats, had been texts such as "nan" and "1.0"."""
ENCODED = {
    "base_model": "1",
    "control_base": "1",
    "self_generated_corpus": "1",
    "reference_checkpoint": "2",
    "fisher_diagonal": "2",
    "lwf_checkpoint": "3",
    "arm_checkpoint": "1",
}
"""Later: a prompt that brought the beginning of text had it twice, and one might be followed by an end of text."""
DRAWN = {"self_generated_corpus": "1"}
"""Later: draws followed from the batch that a prompt fell into, so `generation.batch_size` was part of the recipe."""


def versions_as_they_were(versions: dict[str, str], patch: pytest.MonkeyPatch) -> None:
    for name, version in versions.items():
        patch.setitem(ASSET, name, replace(ASSET[name], code_version=version))
    if "self_generated_corpus" in versions:
        patch.setitem(
            ASSET, "self_generated_corpus", replace(ASSET["self_generated_corpus"], settings=_corpus_settings)
        )


def _corpus_settings(study: Study) -> JsonSettings:
    return {"context": context_settings(study), "generation": fields_of(study.generation, without=("engine",))}


def test_it_plans_nothing_to_do(old: tuple[Study, Home], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the versions that it was built by: no move of the code, and no new setting, made anything stale."""
    versions_as_they_were({**MEASURED, **DATA, **ENCODED}, monkeypatch)
    study, home = old
    plan = make_plan(study, home.store, home.file_hashes)
    assert len(plan.steps) == 49
    assert {str(step.cell): step.reasons for step in plan.steps if step.action != Action.NOTHING} == {}


@pytest.mark.parametrize("raised", [MEASURED, DATA, ENCODED, DRAWN], ids=["measured", "data", "encoded", "drawn"])
def test_what_is_computed_otherwise_since_is_stale_for_that_reason(
    old: tuple[Study, Home], monkeypatch: pytest.MonkeyPatch, raised: dict[str, str]
) -> None:
    others = {n: v for versions in (MEASURED, DATA, ENCODED) for n, v in versions.items() if n not in raised}
    now = {name: ASSET[name].code_version for name in raised}
    versions_as_they_were(others, monkeypatch)
    study, home = old
    stale = make_plan(study, home.store, home.file_hashes).stale
    changed = {step.cell.asset: step.reasons for step in stale if any("its code changed" in r for r in step.reasons)}
    there = {cell.asset for cell in cells(study)}
    assert {step.cell.asset for step in stale} >= set(raised) & there
    assert set(changed) <= set(raised)  # what waits for a stale input says that instead
    assert changed
    for name, reasons in changed.items():
        assert f"its code changed: {raised[name]} -> {now[name]}" in reasons
    if raised is MEASURED:  # nothing but the reports is made from them
        assert {step.cell.asset for step in stale} == {*MEASURED, *FOLLOWING}
    if raised is DRAWN:
        made_before = {"base_model", "control_base", "reference_checkpoint", "fisher_diagonal", *DATA}
        assert not made_before & {step.cell.asset for step in stale}
    if raised is DATA:
        assert not {"base_model", "control_base"} & {step.cell.asset for step in stale}


@pytest.mark.parametrize(
    "cell", ["lwf_checkpoint[mixed|sums]", "eval_report[teeth|sums]", "arm_checkpoint[noise.teeth|sums]", "leaderboard"]
)
def test_it_holds(old: tuple[Study, Home], cell: str) -> None:
    """What is cheap is made once more and comes out the same; every other file is hashed."""
    study, home = old
    step = next(step.cell for step in make_plan(study, home.store, home.file_hashes).steps if str(step.cell) == cell)
    assert isinstance(step, Cell)
    manifest = home.store.built(step.asset, step.partition).manifest
    found = audit(home.store, manifest, verify=True)
    assert found.holds, [*found.faults, *found.replayed]
    assert found.verified
    if cell == "lwf_checkpoint[mixed|sums]":
        assert [result.artifact for result in found.replayed] == ["scored_forget_set[mixed|sums]"]


def test_a_changed_byte_is_found(old: tuple[Study, Home], tmp_path: Path) -> None:
    """The audit of this home is not blind."""
    study, home = old
    cell = next(
        step.cell for step in make_plan(study, home.store, home.file_hashes).steps if step.cell.asset == "base_model"
    )
    artifact = home.store.built(cell.asset, cell.partition)
    path = artifact.path / "model.safetensors"
    before = path.read_bytes()
    try:
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert not audit(home.store, artifact.manifest, verify=True).holds
    finally:
        path.write_bytes(before)
