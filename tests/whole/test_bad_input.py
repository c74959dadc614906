"""Bad input through the command line: exit code 1, one message that says what to mend, and a store left whole."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_tiny_model, tiny_llama, tiny_study_values, write_study
from world import World

from dagster_project.cli import main as cli
from dagster_project.resources import LwfHome
from lwf_assets.building.materialize import materialize
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.store.home import Home
from lwf_assets.store.layout import CORPUS, optimum_folder
from lwf_assets.store.partition import Partition
from lwf_assets.store.tables import read_rows
from lwf_assets.study.file import load_study


@dataclass
class Place:
    """A study in a folder and the home that all cases of one kind share: each fails in a cell of its own."""

    folder: Path
    home: Home
    values: dict[str, Any]

    def write(self, changes: dict[str, Any], name: str = "study") -> Path:
        """The study with other values at dotted keys."""
        values = copy.deepcopy(self.values)
        for key, value in changes.items():
            *sections, last = key.split(".")
            section = values
            for part in sections:
                section = section[part]
            section[last] = value
        return write_study(self.folder, values).rename(self.folder / f"{name}.yaml")

    def assert_nothing_half(self, failed: Cell | None = None) -> None:
        """No draft stays, and the cell that failed is not there."""
        assert not [path for path in self.home.root.rglob(".*") if path.name.startswith((".draft", ".current"))]
        if failed is not None:
            assert self.home.store.current(failed.asset, failed.partition) is None


@pytest.fixture(scope="module")
def place(built_once: World, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A copy of the built tiny study: its model is made and its databases are there, which saves seconds a case."""
    root = tmp_path_factory.mktemp("bad-input")
    shutil.copytree(built_once.folder, root / "study")
    shutil.copytree(built_once.home.root, root / "home")
    return Place(root / "study", Home(root / "home"), tiny_study_values(root / "study"))


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def message(self) -> str:
        """The one error message; everything that must hold of any is asserted here."""
        assert self.code == 1, self.stderr
        assert self.stdout == ""
        assert "Traceback" not in self.stderr
        lines = self.stderr.strip().splitlines()
        assert [line.startswith("Error: ") for line in lines].count(True) == 1
        assert lines[-1].startswith("Error: ")
        return lines[-1].removeprefix("Error: ")


def lwf(place: Place, *words: str) -> Done:
    """The command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project.cli", *words],
        env={**os.environ, "LWF_HOME": str(place.home.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def build(place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[Path], Done]:
    """`lwf build` in this process, which has imported what takes a fresh one seconds."""

    def run(study: Path) -> Done:
        monkeypatch.setenv("LWF_HOME", str(place.home.root))
        monkeypatch.setattr(sys, "argv", ["lwf", "build", "--study", str(study)])
        monkeypatch.setattr(LwfHome, "watch", LwfHome.watch)  # the command sets it; the next test finds it as it was
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capfd.readouterr()
        return Done(int(ended.value.code or 0), told.out, told.err)

    return run


# What a plan finds out


@pytest.mark.parametrize(
    ("changes", "words", "expected"),
    [
        (
            {"training.learning_rat": 0.1},
            [],
            "study.yaml: `training.learning_rat`: unknown key; did you mean `learning_rate`?",
        ),
        (
            {"model.source.path": "nowhere"},
            ["--json"],
            "model.source.path: {folder}/nowhere is not a directory; give one that holds config.json and weights",
        ),
        (
            {"model.source.path": "no-weights"},
            [],
            "model.source.path: {folder}/no-weights has no weights; expected *.safetensors",
        ),
        (
            {"forgetting_tasks.teeth.source.prompts": "gone.jsonl"},
            ["--json"],
            "task teeth: {folder}/gone.jsonl: the file does not exist",
        ),
        (
            {},
            ["--cell", "teeth|sum"],
            "the study tiny has no cell 'teeth|sum'; write FORGETTING|LEARNING, one of: teeth|sums, minds|sums",
        ),
    ],
)
def test_a_plan_of_a_bad_study(changes: dict[str, Any], words: list[str], expected: str, place: Place) -> None:
    (place.folder / "no-weights").mkdir(exist_ok=True)
    (place.folder / "no-weights" / "config.json").write_text("{}")
    before = sorted(place.home.store.root.rglob("*"))
    done = lwf(place, "plan", "--study", str(place.write(changes)), *words)
    assert expected.format(folder=place.folder) in done.message
    assert sorted(place.home.store.root.rglob("*")) == before


def test_an_unknown_asset_to_force(place: Place) -> None:
    message = lwf(place, "build", "--study", str(place.write({})), "--force", "lwf_checkpont").message
    assert message.startswith("--force: unknown asset 'lwf_checkpont'; choose from base_model, ")


def test_a_usage_error_ends_with_2(place: Place) -> None:
    done = lwf(place, "plan", "--colour", "red")
    assert (done.code, done.stdout) == (2, "")
    assert "No such option" in done.stderr


def test_json_is_all_there_is_on_stdout(place: Place) -> None:
    done = lwf(place, "plan", "--study", str(place.write({})), "--json")
    assert (done.code, done.stderr) == (0, "")
    plan = json.loads(done.stdout)
    assert {"study": "tiny", "stale": [], "blocked": [], "fresh": 22}.items() <= plan.items()
    assert (plan["seconds"], plan["steps_without_seconds"], plan["memory_bytes"]) == (None, 0, None)


# What a build finds out

GOOD = '{"prompt": "1 + 1?", "answer": "2"}\n'
TWICE = '{"id": "g", "prompt": "1 + 1?", "answer": "2"}\n' * 2


def file_task(place: Place, train: str, content: bytes) -> dict[str, Any]:
    """A task that learns from `content`, and is watched and scored on good rows."""
    (place.folder / train).write_bytes(content)
    (place.folder / "watched.jsonl").write_text(GOOD.replace("1?", "3?"))
    (place.folder / "scored.jsonl").write_text(GOOD.replace("1?", "4?"))
    return {"source": {"kind": "file", "train": train, "validation": "watched.jsonl", "test": "scored.jsonl"}}


def with_bad_file(place: Place, case: str, content: bytes) -> tuple[Path, Path]:
    """A file to learn from, and a study that does."""
    name = f"{case}.jsonl"
    return place.folder / name, place.write({"learning_tasks": {case: file_task(place, name, content)}}, case)


@pytest.mark.parametrize(
    ("case", "content", "expected"),
    [
        ("empty", b"", ": the file has no rows"),
        (
            "no-answer",
            GOOD.encode() + b'{"prompt": "1 + 2?", "answer": " "}\n',
            ", line 2: no target: column 'answer' is empty; every row needs text there; the row begins "
            '{{"prompt": "1 + 2?", "answer": " "}}',
        ),
        (
            "latin",
            b'{"prompt": "caf\xe9?", "answer": "x"}\n',
            ", line 1: byte 15 of the file (0xe9) is not UTF-8; save the file as UTF-8",
        ),
        ("twice", TWICE.encode(), ", line 2: id 'g' was used before, at {path}, line 1; every id must be unique"),
    ],
    ids=["empty", "no-answer", "latin", "twice"],
)
def test_a_build_from_a_bad_file(
    case: str, content: bytes, expected: str, place: Place, build: Callable[[Path], Done]
) -> None:
    path, study = with_bad_file(place, case, content)
    assert build(study).message == (
        f"the run by_learning_task {case} failed: learning_data: task {case}: {path}{expected.format(path=path)}"
    )
    place.assert_nothing_half(Cell("learning_data", Partition(None, case)))


def test_a_failed_build_in_a_process_of_its_own(place: Place) -> None:
    rows = GOOD.encode() + b'{"question": "1 + 2?", "answer": "3"}\n'
    path, study = with_bad_file(place, "columns", rows)
    assert lwf(place, "build", "--study", str(study), "--json").message == (
        f"the run by_learning_task columns failed: learning_data: task columns: {path}, line 2: no prompt: unknown "
        "column 'prompt'; the columns here are: answer, question; the row begins "
        '{"question": "1 + 2?", "answer": "3"}'
    )
    place.assert_nothing_half(Cell("learning_data", Partition(None, "columns")))


def long_task(place: Place) -> dict[str, Any]:
    """A task with a prompt of 400 tokens, for a context of 256."""
    row = {"id": "long", "prompt": "x" * 400, "answer": "2"}
    return file_task(place, "long.jsonl", json.dumps(row).encode())


def test_a_prompt_longer_than_the_context(place: Place, build: Callable[[Path], Done]) -> None:
    assert build(place.write({"learning_tasks": {"long": long_task(place)}}, "long")).message == (
        "the run by_learning_task long failed: reference_checkpoint: row 'long': its prompt has 400 tokens and 3 more "
        "must follow, but the context is 256; shorten the prompt, raise model.max_length, or set "
        "model.truncate_prompts: true"
    )
    place.assert_nothing_half(Cell("reference_checkpoint", Partition(None, "long")))


def make(place: Place, study: Path, *cells: Cell) -> Path:
    """The artifact of the last of `cells`, made one after the other without Dagster."""
    artifact = None
    for cell in cells:
        artifact = materialize(load_study(study), place.home.store, cell).artifact
    assert artifact is not None
    return artifact.path


def test_a_prompt_that_may_be_cut_is_cut_from_the_left(place: Place) -> None:
    long = long_task(place)
    changes = {"learning_tasks": {"cut": long}, "forgetting_tasks": {"old": long}, "training.max_steps": 1}
    base, prompts = Cell("base_model", Partition()), Cell("forgetting_prompts", Partition("old"))
    corpus, data = Cell("self_generated_corpus", Partition("old")), Cell("learning_data", Partition(None, "cut"))
    refused = place.write(changes, "refused")
    with pytest.raises(
        LwfError, match="row 'old/long': its prompt has 400 tokens and 6 more must follow, but the context"
    ):
        make(place, refused, base, prompts, corpus)
    place.assert_nothing_half(corpus)
    study = place.write({**changes, "model.truncate_prompts": True}, "cut")
    (row,) = read_rows(make(place, study, base, prompts, corpus) / CORPUS)
    assert len(row["prompt_ids"]) == 250
    assert len(row["prompt"]) == 400
    folder = make(place, study, base, data, Cell("reference_checkpoint", Partition(None, "cut")))
    assert (optimum_folder(folder) / "model.safetensors").is_file()


def speechless() -> Any:
    """A model whose first token is the end of the text, whatever the prompt."""
    model = tiny_llama(tied=False, layers=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.fill_(1.0)
        model.model.norm.weight.fill_(1.0)
        model.lm_head.weight[256].fill_(1.0)
    return model


def test_a_model_that_says_nothing(place: Place) -> None:
    save_tiny_model(place.folder / "speechless", model=speechless())
    changes = {
        "model.source.path": "speechless",
        "forgetting_tasks": {"silence": place.values["forgetting_tasks"]["teeth"]},
    }
    study = place.write(changes, "speechless")
    corpus = Cell("self_generated_corpus", Partition("silence"))
    with pytest.raises(LwfError) as caught:
        make(place, study, Cell("base_model", Partition()), Cell("forgetting_prompts", corpus.partition), corpus)
    assert str(caught.value) == (
        "forgetting_tasks.silence: the base model answered all 6 prompts with empty text; check that the prompt form "
        "suits the model (for most models it ends in `Answer:`)"
    )
    place.assert_nothing_half(corpus)


def test_a_loss_that_overflows(place: Place, build: Callable[[Path], Done]) -> None:
    model = tiny_llama(tied=False, layers=1)
    with torch.no_grad():
        model.lm_head.weight.fill_(3e38)  # finite, so that the check of the base model lets it through
        model.model.norm.weight.fill_(10.0)
    save_tiny_model(place.folder / "huge", model=model)
    sums = place.values["learning_tasks"]["sums"]
    message = build(place.write({"model.source.path": "huge", "learning_tasks": {"huge": sums}}, "huge")).message
    assert "reference_checkpoint: the learning loss became " in message
    assert "at step 1; the run was stopped. Lower training.learning_rate (0.01), or check the rows of" in message
    place.assert_nothing_half(Cell("reference_checkpoint", Partition(None, "huge")))


def test_a_model_with_a_weight_that_is_no_number(place: Place, build: Callable[[Path], Done]) -> None:
    model = tiny_llama(layers=1)
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    save_tiny_model(place.folder / "poisoned", model=model)
    study = place.write({"model.source.path": "poisoned"}, "poisoned")
    reason = "model.safetensors: model.norm.weight holds values that are not finite"
    message = build(study).message
    assert message == f"the run unpartitioned failed: base_model: check base_weights_are_finite failed: {reason}"
    again = build(study).message  # the verdict is kept: nothing is tried a second time
    assert again.startswith(f"base_model: check failed: base_weights_are_finite: {reason}. ")
    assert "Change what it is made from, or rebuild it with `lwf build --force base_model`" in again
