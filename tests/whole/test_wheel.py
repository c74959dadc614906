"""The wheel, in an environment away from the checkout: a new user's first hour, every command typed once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from chat_templates import CHATML
from once import made_once
from places import ROOT
from terminal import on_a_terminal
from tiny import save_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


NOISE = ("Writing model shards", "Loading weights", "View run", "View experiment", "Warning", "\N{RUNNER}")


def clean_environment() -> dict[str, str]:
    """Without what the tests set."""
    ours = ("LWF_", "PYTHON", "DAGSTER_", "HF_", "MLFLOW_", "TQDM_", "TRANSFORMERS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "COLUMNS": "80", "HF_HUB_OFFLINE": "1"}


@dataclass
class Elsewhere:
    """A fresh environment with the wheel in it, and a folder to work in."""

    programs: Path
    folder: Path

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of its programs in the folder."""
        command = [str(self.programs / words[0]), *words[1:]]
        ran = subprocess.run(
            command, cwd=self.folder, env=clean_environment(), capture_output=True, text=True, check=False
        )
        assert not check or ran.returncode == 0, ran.stdout + ran.stderr
        return ran

    def run_on_a_terminal(self, *words: str) -> str:
        """The same, and what is seen of it."""
        command = [str(self.programs / words[0]), *words[1:]]
        return on_a_terminal(command, clean_environment(), folder=self.folder)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    folder = made_once(tmp_path_factory, "wheel", make)
    return Elsewhere(folder / "venv" / "bin", folder / "work")


def make(folder: Path) -> None:
    """An environment with the dependencies of this one, in which the package itself is the wheel's alone; and a folder
    with what a new user has."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    built = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run(built, check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    # A folder that is added by a .pth file is not itself searched for .pth files: the editable install stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["--python", str(folder / "venv/bin/python"), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True)
    work = folder / "work"
    work.mkdir()
    (save_tiny_model(work / "model") / "chat_template.jinja").write_text(CHATML)
    talks = [
        [{"role": "user", "content": f"{n} more?"}, {"role": "assistant", "content": f"{n + 1}"}] for n in range(60)
    ]
    (work / "chat.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))


def test_the_package_is_the_wheels(elsewhere: Elsewhere) -> None:
    where = elsewhere.run("python", "-c", "import lwf_assets, dagster_project; print(lwf_assets.__file__)").stdout
    assert str(elsewhere.programs.parent) in where
    assert str(ROOT) not in where


def test_what_comes_with_it_is_inside(elsewhere: Elsewhere) -> None:
    code = """
from lwf_assets.shipped import shipped
from lwf_assets.store.home import DEFAULT_STUDY
from lwf_assets.study.file import load_study
from lwf_assets.tasks.task import Task
study = load_study(DEFAULT_STUDY)
print(len(Task("dentistry", study.forgetting_tasks["dentistry"]).prompt_rows()))
for name in ("negative_transfer", "paper_llama3.2_1b", "paper_llama3_8b"):
    print(load_study(shipped(f"studies/{name}.yaml")).name)
print(shipped("workspace.yaml").read_text())
"""
    said = elsewhere.run("python", "-c", code).stdout
    assert said.startswith("24\n")
    assert "dagster_project.definitions" in said


def test_a_first_hour(elsewhere: Elsewhere) -> None:
    said = elsewhere.run("lwf", "init", "--data", "chat.jsonl", "--model", "model").stderr
    assert "Next: lwf check, then lwf build" in said
    study = elsewhere.folder / "study.yaml"
    study.write_text(study.read_text().replace("max_new_tokens: 64", "max_new_tokens: 8"))
    assert "with loss" in elsewhere.run("lwf", "check").stdout
    seen = elsewhere.run_on_a_terminal("lwf", "build")
    assert "Built " in seen
    assert "lwf_checkpoint" in seen
    assert [noise for noise in NOISE if noise in seen] == []  # of the libraries, between the bars
    assert "reference" in elsewhere.run("lwf", "report").stdout
    elsewhere.run("lwf", "export", "own_answers|chat", "delivered")
    there = {path.name for path in (elsewhere.folder / "delivered").iterdir()}
    assert there >= {"README.md", "model.safetensors", "bom.cdx.json", "provenance.intoto.json"}
    assert "Nothing to do" in elsewhere.run("lwf", "plan").stdout
    manifest = json.loads(next((elsewhere.folder / ".lwf/store/lwf_checkpoint").glob("*/*/manifest.json")).read_text())
    assert manifest["provenance"]["git_commit"] is None


def test_both_uis_are_served(elsewhere: Elsewhere, tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    command = [str(elsewhere.programs / "lwf"), "ui", "--dagster-port", str(ports[0]), "--mlflow-port", str(ports[1])]
    server = subprocess.Popen(
        command,
        cwd=elsewhere.folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not all(answers(port) for port in ports):
            assert server.poll() is None, server.stdout.read() if server.stdout else ""
            assert time.monotonic() < deadline
            time.sleep(1)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
