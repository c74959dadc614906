"""The paper's two studies: what they hold, what in them is the paper's, and both built whole on a tiny model."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from header_models import write_header_model
from places import ROOT

from lwf_assets.cost.cell_cost import cost_of
from lwf_assets.cost.row_counts import Known
from lwf_assets.graph.cells import Cell, cells
from lwf_assets.graph.partitions import partitions
from lwf_assets.planning.plan import make_plan
from lwf_assets.store.home import Home
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.partition import FORGETTING_TASK, LEARNING_TASK
from lwf_assets.store.store import Artifact
from lwf_assets.study.file import load_study
from lwf_assets.study.sections import HubModel
from lwf_assets.study.study import Study
from lwf_assets.tasks.settings import HubSource

sys.path.append(str(ROOT / "tests" / "tasks"))

from paper_studies import (
    ABLATIONS,
    BASELINES,
    CONTROLS,
    GRID,
    LARGE,
    OBJECTIVES,
    SMALL,
    SWEEPS,
    TASKS,
    offline,
    small_world,
)

BOTH_STUDIES = pytest.mark.parametrize("path", [SMALL, LARGE], ids=["1b", "8b"])


# By hand. 1B: an arm that forgets does so with `mixed`, 5 cells each, but a sweep only for gsm8k, 1 cell each:
# 4 ablations x 5 + 4 objectives x 5 + 2 controls x 5 + 8 sweeps + 3 baselines x 5 + extra_steps x 5.
ARM_CELLS = {SMALL: 20 + 20 + 10 + 8 + 15 + 5, LARGE: 20 + 5}


# 5 references, 25 LWF (5 x 4 single tasks, 5 x mixed), and the arms; five seeds each.
FINE_TUNES = {SMALL: 5 * (5 + 25 + 78), LARGE: 5 * (5 + 25 + 25)}


def expected_cells(path: Path) -> dict[str, int]:
    arms = ARM_CELLS[path]
    return {
        "base_model": 1,
        "learning_data": 5,
        "test_data": 5,
        "forgetting_prompts": 6,
        "utility_data": 1,
        "self_generated_corpus": 6,
        "reference_checkpoint": 5,
        "fisher_diagonal": 5,
        "confidence_terms": 25,
        "scored_forget_set": 25,
        "lwf_checkpoint": 25,
        "arm_checkpoint": arms,
        "evaluation": 5 + 5 + 25 + arms,
        "forgetting_probe": 5 + 25,
        "eval_report": 25,
        "leaderboard": 1,
    }


@BOTH_STUDIES
def test_every_cell_is_there(path: Path) -> None:
    study = load_study(path)

    assert dict(Counter(cell.asset for cell in cells(study))) == expected_cells(path)
    grid = partitions(study, (FORGETTING_TASK, LEARNING_TASK))
    assert {(p.learning_task, p.forgetting_task) for p in grid} == GRID
    assert len(GRID) == 25
    assert study.seeds == (0, 1, 2, 3, 4)
    trained = ("reference_checkpoint", "lwf_checkpoint", "arm_checkpoint")
    assert len(study.seeds) * sum(cell.asset in trained for cell in cells(study)) == FINE_TUNES[path]


@BOTH_STUDIES
def test_the_documentation_counts_as_the_study_does(path: Path) -> None:
    said = (ROOT / "docs" / "paper-studies.md").read_text()
    row = next(line for line in said.splitlines() if line.startswith(f"| {path.name} |"))
    numbers = [cell.strip() for cell in row.strip("|").split("|")]
    assert numbers[1:3] == [str(len(cells(load_study(path)))), str(FINE_TUNES[path])]


def arm_cells(study: Study) -> dict[str, set[tuple[str, str | None]]]:
    found: dict[str, set[tuple[str, str | None]]] = {}
    for cell in cells(study):
        if cell.asset == "arm_checkpoint":
            name, _, forgotten = str(cell.partition.arm).partition(".")
            found.setdefault(name, set()).add((str(cell.partition.learning_task), forgotten or None))
    return found


def test_every_arm_of_the_smaller_model_is_there() -> None:
    found = arm_cells(load_study(SMALL))

    everywhere = {(learned, "mixed") for learned in TASKS}
    assert found == {
        **dict.fromkeys((*ABLATIONS, *OBJECTIVES, *CONTROLS), everywhere),
        **{name: {("gsm8k", "mixed")} for name in SWEEPS},
        **{name: {(learned, None) for learned in TASKS} for name in (*BASELINES, "extra_steps")},
    }


def test_the_larger_model_has_the_papers_arms_alone() -> None:
    small, large = load_study(SMALL), load_study(LARGE)

    assert set(arm_cells(large)) == {*ABLATIONS, "bss"}
    assert all(large.arms[name] == small.arms[name] for name in large.arms)


def test_each_arm_differs_from_lwf_in_what_its_name_says() -> None:
    study = load_study(SMALL)

    def differences(name: str) -> dict[str, Any]:
        arm: Any = study.arms[name]
        found = {}
        for section in ("confidence", "unlearning"):
            of_study = getattr(study, section)
            of_arm = getattr(arm, f"{section}_settings")(of_study)
            assert type(of_arm) is type(of_study)
            found |= {key: v for key, v in of_arm.model_dump().items() if v != getattr(of_study, key)}
        return found

    kept = {"weight": 1.0, "batch_size": 8}
    assert {name: differences(name) for name in (*ABLATIONS, *OBJECTIVES, *SWEEPS)} == {
        "low": {"end": "low"},
        "random": {"end": "random"},
        "upfront": {"timing": "upfront"},
        "random_timing": {"timing": "random"},
        "npo": {"objective": "npo"},
        "simnpo": {"objective": "simnpo"},
        "gradient_difference": {"retain": {"kind": "nll", **kept}},
        "gradient_difference_kl": {"retain": {"kind": "kl", **kept}},
        "ratio_quarter": {"selection_ratio": 0.25},
        "ratio_tenth": {"selection_ratio": 0.1},
        "interval_2": {"interval": 2},
        "interval_20": {"interval": 20},
        "rate_third": {"forgetting_rate": 3e-6},
        "rate_triple": {"forgetting_rate": 3e-5},
        "alpha_hundredfold": {"alpha": 1e-3},
        "alpha_one": {"alpha": 1.0},
    }


@BOTH_STUDIES
def test_models_and_data_are_pinned(path: Path) -> None:
    study = load_study(path)
    source = study.model.source

    assert isinstance(source, HubModel)
    ids = {SMALL: "meta-llama/Llama-3.2-1B", LARGE: "meta-llama/Meta-Llama-3-8B"}
    assert source.id == ids[path]
    for task in (*study.learning_tasks.values(), *study.forgetting_tasks.values()):
        assert isinstance(task.source, HubSource)
        assert re.fullmatch(r"[0-9a-f]{40}", str(task.source.revision))
    assert re.fullmatch(r"[0-9a-f]{40}", source.revision)


# What the paper says, by the key that says it. Whatever stands below a marked key and has no mark of its own is meant.
NAMES_OF_TASKS = {f"{section}.{task}.preset" for section in ("learning_tasks", "forgetting_tasks") for task in TASKS}


PAPERS_ARMS = {
    *(f"arms.{name}.kind" for name in (*ABLATIONS, "bss")),
    *("arms.low.confidence.end", "arms.random.confidence.end"),
    *("arms.upfront.unlearning.timing", "arms.random_timing.unlearning.timing"),
}


PAPERS = {
    SMALL: {"model.source.id", "mixed", *NAMES_OF_TASKS, *PAPERS_ARMS},
    LARGE: {"model.source.id", *PAPERS_ARMS},
}


def marks(path: Path) -> dict[str, str | None]:
    """`paper`, `ours` or None for each value of a study file: the mark of its line, or of the nearest key above it."""
    lines = path.read_text().splitlines()

    def mark_of(line: int) -> str | None:
        found = re.search(r"#\s*(paper|ours)\b", lines[line])
        return found[1] if found else None

    found: dict[str, str | None] = {}

    def walk(node: yaml.Node, key: str, inherited: str | None) -> None:
        if not isinstance(node, yaml.MappingNode):
            found[key] = inherited
            return
        for name, value in node.value:
            # An alias is marked where it is written, not where it points.
            mark = mark_of(name.start_mark.line) or inherited
            walk(value, f"{key}.{name.value}".lstrip("."), mark)

    root = yaml.compose(path.read_text(), yaml.SafeLoader)
    assert root is not None
    walk(root, "", None)
    return found


@BOTH_STUDIES
def test_exactly_what_is_known_of_the_paper_is_marked_as_the_papers(path: Path) -> None:
    found = marks(path)

    assert {key for key, mark in found.items() if mark == "paper"} == PAPERS[path]
    assert {key for key, mark in found.items() if mark is None} == set()


@BOTH_STUDIES
def test_what_is_ours_says_why(path: Path) -> None:
    unexplained = [
        line
        for line in path.read_text().splitlines()
        if re.search(r"#\s*ours\s*$", line)
        and not re.match(
            r"\s*(name|description|extends|kind|rows|forgetting_tasks|"
            r"rate_|ratio_|interval_|alpha_)",
            line,
        )
    ]
    assert unexplained == []


SHAPES = {
    SMALL: {"hidden": 2048, "intermediate": 8192, "layers": 16, "key_value": 512, "tied": True},
    LARGE: {"hidden": 4096, "intermediate": 14336, "layers": 32, "key_value": 1024, "tied": False},
}


PARAMETERS = {SMALL: 1_235_814_400, LARGE: 8_030_261_248}
"""As the models' cards count them."""


VOCABULARY = 128_256


def headers(path: Path, folder: Path) -> Path:
    """A directory with the sizes of the study's model."""
    shape = SHAPES[path]
    hidden, intermediate, layers, key_value = (shape[k] for k in ("hidden", "intermediate", "layers", "key_value"))
    matrices = [[hidden, hidden]] * 2 + [[key_value, hidden]] * 2 + [[intermediate, hidden]] * 3 + [[hidden]] * 2
    tables = [[VOCABULARY, hidden]] * (1 if shape["tied"] else 2)
    config = {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": shape["tied"],
    }
    return write_header_model(folder, *tables, *matrices * layers, [hidden], config=config)


def known_lengths(model: Path) -> Known:
    """As if the data were built, with rows as long as gsm8k's."""
    told = {"prompt_characters": 250, "target_characters": 300, "longest_characters": 1800}
    summaries: dict[str, dict[str, float]] = {
        "base_model": {},
        "learning_data": {"train_rows": 4000, "validation_rows": 200, **told},
        "test_data": {"test_rows": 1319, **told},
        "forgetting_prompts": {"prompts": 500, **told},
        "self_generated_corpus": {"responses": 500, "tokens": 60_000, "prompt_tokens": 35_000, "longest": 500},
    }

    def known(cell: Cell) -> Artifact | None:
        if cell.asset not in summaries:
            return None
        manifest = Manifest(cell.asset, cell.partition.key, "v", "r", "1", {}, (), (), summaries[cell.asset])
        return Artifact(model, manifest)

    return known


@BOTH_STUDIES
def test_it_fits_the_gpu_that_the_study_names(path: Path, tmp_path: Path) -> None:
    study, model = load_study(path), headers(path, tmp_path / "model")
    costs = {cell: cost_of(study, cell, known_lengths(model)) for cell in cells(study) if cell.asset != "base_model"}
    peaks = {cell: cost.memory for cell, cost in costs.items() if cost.on_accelerator}

    assert None not in peaks.values()
    largest = {
        asset: max(peak or 0 for cell, peak in peaks.items() if cell.asset == asset)
        for asset in {cell.asset for cell in peaks}
    }
    assert max(largest.values()) < {SMALL: 80e9, LARGE: 141e9}[path]
    if path == LARGE:  # what the file and docs/paper-studies.md say of a GPU of 80 GB
        too_large = {asset for asset, peak in largest.items() if peak > 85e9}
        assert too_large == {"lwf_checkpoint", "arm_checkpoint"}
    surely = min(cost.surely for cell, cost in costs.items() if cell.asset == "lwf_checkpoint")
    bytes_per_weight = 4 if path == SMALL else 2
    assert surely >= 6 * bytes_per_weight * PARAMETERS[path]  # weights, gradients, two moments of each of two Adams


@BOTH_STUDIES
def test_the_plan_passes_on_local_mirrors(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(tmp_path, monkeypatch)
    study, home = small_world(path, tmp_path), Home(tmp_path / "home")
    plan = make_plan(study, home.store, home.file_hashes)

    assert dict(Counter(step.cell.asset for step in plan.steps)) == expected_cells(path)
    assert len(plan.stale) == len(plan.steps)
    assert plan.blocked == ()
