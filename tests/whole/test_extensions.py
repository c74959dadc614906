"""A scorer, an objective and a kind of source in a package of its own, installed where nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from places import FIXTURES
from tiny import tiny_study_values, write_study

pytestmark = pytest.mark.slow


@dataclass
class Elsewhere:
    """A study that names what the package adds, the package's installed version, and a home."""

    folder: Path
    values: dict[str, Any]
    version: str | None = None

    def install(self, version: str) -> None:
        """Install the package, as pip does it, into a folder that only `lwf` of this test looks into."""
        source = self.folder / f"source-{version}"
        shutil.copytree(FIXTURES / "extension_package", source)
        settings = (source / "pyproject.toml").read_text().replace('version = "1.0"', f'version = "{version}"')
        (source / "pyproject.toml").write_text(settings)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        target = self.folder / f"site-{version}"
        subprocess.run([*command, "--no-index", "--target", str(target), str(source)], check=True, capture_output=True)
        self.version = version

    def lwf(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line with the package on the path."""
        environment = os.environ | {"LWF_HOME": str(self.folder / "home"), "COLUMNS": "200"}
        environment["LWF_STUDY"] = str(write_study(self.folder, self.values))
        if self.version is not None:
            environment["PYTHONPATH"] = str(self.folder / f"site-{self.version}")
        command = [sys.executable, "-m", "dagster_project.cli", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def stale(self) -> dict[str, list[str]]:
        """Reasons by stale cell."""
        planned = self.lwf("plan", "--json")
        assert planned.returncode == 0, planned.stderr
        steps = json.loads(planned.stdout)["stale"]
        return {f"{step['asset']}[{step['partition']}]": step["reasons"] for step in steps}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    folder = tmp_path_factory.mktemp("elsewhere")
    values = tiny_study_values(folder)
    values["learning_tasks"] = {
        "shouts": {
            "source": {"kind": "shouts", "first": 3},
            "prompt": "{said}",
            "target": "{shout}",
            "scorer": "shouted",
            "rows": {"train": 24, "validation": 4, "test": 6},
            "max_new_tokens": 4,
        }
    }
    del values["forgetting_tasks"]["minds"]
    values["unlearning"] |= {"objective": "half_ascent", "beta": 0.25}
    made = Elsewhere(folder, values)
    made.install("1.0")
    built = made.lwf("build", "--json")
    assert built.returncode == 0, built.stderr
    return made


def test_all_three_do_their_work(elsewhere: Elsewhere) -> None:
    query = (
        "SELECT id, prompt, answer, accuracy, loudness FROM evaluation WHERE model = 'reference' ORDER BY id LIMIT 1"
    )
    rows = json.loads(elsewhere.lwf("sql", "--json", query).stdout)
    assert (rows[0]["id"], rows[0]["prompt"], rows[0]["answer"]) == ("test-203", "say 203", "203!")
    assert rows[0]["accuracy"] in (0.0, 1.0)
    assert rows[0]["loudness"] >= 0
    ledger = json.loads(elsewhere.lwf("sql", "--json", "SELECT pushed FROM lwf_checkpoint__unlearning_ledger").stdout)
    assert any(entry["pushed"] for entry in ledger)
    assert elsewhere.stale() == {}


def test_a_new_version_makes_stale_what_it_decided_and_nothing_else(elsewhere: Elsewhere) -> None:
    elsewhere.install("1.1")
    stale = elsewhere.stale()
    changed = {cell for cell, reasons in stale.items() if any("1.0 -> 1.1" in reason for reason in reasons)}
    assert {cell.partition("[")[0] for cell in changed} == {
        "learning_data",
        "test_data",
        "lwf_checkpoint",
        "evaluation",
    } - {
        # Cells whose inputs are made anew are not compared before those are there.
        "lwf_checkpoint",
        "evaluation",
    }
    untouched = {"base_model", "forgetting_prompts", "self_generated_corpus"}
    assert {cell.partition("[")[0] for cell in stale}.isdisjoint(untouched)
    elsewhere.version = "1.0"
    assert elsewhere.stale() == {}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("learning_tasks", "shouts", "scorer"), "shuoted", "unknown scorer 'shuoted'; choose from exact, numeric,"),
        (("unlearning", "objective"), "descent", "unknown objective 'descent'; choose from ascent, npo, simnpo, none"),
        (("learning_tasks", "shouts", "source", "kind"), "screams", "'screams'"),
    ],
)
def test_an_unknown_name_lists_those_there_are(
    elsewhere: Elsewhere, path: tuple[str, ...], value: str, words: str
) -> None:
    values = json.loads(json.dumps(elsewhere.values))
    at = values
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    failed = Elsewhere(elsewhere.folder, values, "1.0").lwf("plan")
    assert failed.returncode == 1
    assert f"`{'.'.join(path)}`" in failed.stderr
    assert words in failed.stderr
    if path[-1] == "kind":
        assert "hub, file, reasoning_gym, shouts" in failed.stderr
    else:
        assert "(built in)" in failed.stderr
        assert "(package lwf-shouting 1.0)" in failed.stderr


def test_without_the_package_the_name_is_unknown(elsewhere: Elsewhere) -> None:
    failed = Elsewhere(elsewhere.folder, elsewhere.values, None).lwf("plan")
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert "'shouts'" in failed.stderr
