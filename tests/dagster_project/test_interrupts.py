"""Ctrl-C: one line, exit code 130, soon; and the next build goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from world import World, copied, new_world

from dagster_project.cli import interrupts
from lwf_assets.graph.cells import cells


def versions(world: World) -> dict[str, str]:
    """The version of every artifact of the study."""
    store, study = world.home.store, world.study
    return {str(cell): store.built(cell.asset, cell.partition).version for cell in cells(study)}


def interrupted(world: World, line: str) -> tuple[int, str]:
    """`lwf build`, interrupted when it has written a line with this text; its exit code, and what it wrote then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster_project.cli", "build"],
        env={**os.environ, "LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file), "COLUMNS": "200"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Jobs in the background have it ignored, and so have their children, which is right for them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    try:
        for written in process.stderr:
            if line in written:
                break
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, told


SIGNAL_THAT_IS_SWALLOWED = """
import os, signal, sys, time
from dagster_project.cli.interrupts import end_soon_after_an_interrupt
end_soon_after_an_interrupt()
signal.signal(signal.{name}, lambda number, frame: None)
os.kill(os.getpid(), signal.{name})
time.sleep(30)
"""


@pytest.mark.parametrize(("name", "code", "word"), [("SIGINT", 130, "Interrupted"), ("SIGTERM", 143, "Terminated")])
def test_a_signal_that_a_library_swallows_ends_the_command_all_the_same(name: str, code: int, word: str) -> None:
    program = SIGNAL_THAT_IS_SWALLOWED.format(name=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code
    assert done.stderr == f"\n{word}. The next build goes on from here.\n"


def test_an_interrupt_that_python_drops_is_not_told(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    class Fails:
        def __init__(self, error: type[BaseException]) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    interrupts._say_nothing_of_interrupts()
    Fails(KeyboardInterrupt)
    assert capsys.readouterr().err == ""
    Fails(ZeroDivisionError)
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_build_ends_with_one_line_and_goes_on(built_once: World, tmp_path: Path) -> None:
    world = new_world(tmp_path)
    for line in ("to build, at most", "sums: learning_data", "|sums: "):
        code, told = interrupted(world, line)
        assert code == 130, told
        lines = [text for text in told.splitlines() if text.strip() and "━" not in text and ": " not in text]
        assert lines == ["Interrupted. The next build goes on from here."], told
    world.build()
    assert versions(world) == versions(copied(built_once, tmp_path / "copy"))
    assert not list(world.home.store.root.rglob(".draft-*"))
