"""A study built by the nodes of a Ray cluster: real nodes, an S3 server, PostgreSQL and MLflow, on this machine."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from campaign.builds import versions
from team import REMOTE, SECRETS, Team, team_of, wait_until
from terminal import on_a_terminal
from world import World, copied

from lwf_assets.graph.cells import Cell, cells
from lwf_assets.object_storage.bucket import Bucket
from lwf_assets.store.home import REMOTE_VARIABLE
from lwf_assets.store.shared.place import SCRATCH

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # on a machine with other work

NODES = ("head", "two")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with team_of(tmp_path_factory.mktemp("team")) as there:
        yield there


@pytest.fixture
def twin(built_once: World, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The versions of a build on one machine, with these changes of sections of the study."""

    def built_alone(**changes: dict[str, object]) -> dict[str, str]:
        world = copied(built_once, tmp_path)
        for section, values in changes.items():
            world.values[section] |= values
        world.build()
        return versions(world)

    return built_alone


def shared_versions(world: World) -> dict[str, str]:
    """What is current in the store of who asked for the build."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(REMOTE_VARIABLE, REMOTE)
        world.home.store.refresh()
        return versions(world)


def made_on(told: str) -> dict[str, str]:
    """The node that made each cell, by the lines that stay; on a terminal they stand behind what they overwrite."""
    line = rf"([a-z_]+(?:\[[^\]\s]+\])?) on ({'|'.join(NODES)}) in [\d.]+ s$"
    return dict(re.findall(line, told, re.MULTILINE))


def test_a_study_is_built_by_both_nodes_each_cell_once(team: Team, built_once: World) -> None:
    command = team.command(address=team.cluster.address_from_elsewhere)
    told = on_a_terminal(command, team.of(team.world), columns=200)
    every = {str(cell) for cell in cells(team.world.study)}
    assert shared_versions(team.world) == versions(built_once)
    assert team.materialized() == dict.fromkeys(every, 1)
    at = made_on(told)
    assert at.keys() == every
    assert set(at.values()) == set(NODES)
    assert "node two: 1 CPU and 4.0 GB of memory" in told
    assert re.search(rf"artifacts\s+\S+\s+{len(every) - 1}/{len(every)}", told)  # the table
    assert re.search(r"lwf_checkpoint\[teeth\|sums\]  Learning with forgetting +(head|two) ", told), told
    assert f"Built {len(every)} artifacts in" in told
    assert "not recorded" not in told
    again = team.run(team.world)
    assert again.returncode == 0
    assert f"Nothing to do: all {len(every)} artifacts" in again.stderr


def test_a_node_that_goes_down_is_replaced_from_its_last_checkpoint(
    team: Team, twin: Callable[..., dict[str, str]]
) -> None:
    forgets = {"forgetting_rate": 0.0002}
    team.world.values["unlearning"] |= forgets
    team.world.values["training"]["checkpoint_every"] = 2  # no part of a recipe
    hook = team.folder / "hook"
    (hook / "flag").touch()
    build = team.start(team.world)
    wait_until((hook / "at-work").exists, 240, build.told())
    wait_until(lambda: bool(Bucket(REMOTE).list(SCRATCH)), 60, build.told())
    two = team.cluster.nodes["two"]
    two.kill()
    assert build.wait() == 0, build.told()
    two.begin()
    assert shared_versions(team.world) == twin(unlearning=forgets)
    (trained,) = re.findall(r"^(\S+): its process or its node died; it goes on on head$", build.told(), re.MULTILINE)
    cell = next(cell for cell in cells(team.world.study) if str(cell) == trained)
    artifact = team.world.home.store.built(cell.asset, cell.partition)
    assert artifact.manifest.provenance["resumed"]
    assert not Bucket(REMOTE).list(SCRATCH)


def test_two_builds_at_once_and_a_store_that_is_away_end_in_one_world(
    team: Team, twin: Callable[..., dict[str, str]]
) -> None:
    forgets = {"forgetting_rate": 0.0003}
    team.world.values["unlearning"] |= forgets
    before = team.materialized()
    other = team.another("second")
    builds = [team.start(team.world), team.start(other)]
    for build in builds:
        build.wait_for("node two")
    team.gate.shut()
    time.sleep(8)
    team.gate.open()
    assert [build.wait() for build in builds] == [0, 0], "\n".join(build.told() for build in builds)
    assert any("Waiting for it; nothing is lost." in build.told() for build in builds)
    alone = twin(unlearning=forgets)
    assert shared_versions(team.world) == alone
    assert shared_versions(other) == alone
    made = team.materialized() - before
    assert set(made) == {str(cell) for cell in stale_by_forgetting(team.world)}
    assert max(made.values()) <= 2  # once for each of the two who asked


def stale_by_forgetting(world: World) -> list[Cell]:
    """What follows from another way to unlearn."""
    lwf = [cell for cell in cells(world.study) if cell.asset in ("lwf_checkpoint", "eval_report", "leaderboard")]
    return lwf + [cell for cell in cells(world.study) if cell.asset == "evaluation" and "lwf." in str(cell)]


def test_a_cell_that_fails_holds_up_only_what_depends_on_it(team: Team) -> None:
    prompts = team.world.folder / "teeth.jsonl"
    good = prompts.read_text()
    prompts.write_text('{"id": "a", "prompt": "teeth?"}\n{"id": "b", "nothing": 1}\n')
    minds = team.world.folder / "minds.jsonl"
    minds.write_text(minds.read_text().replace("minds 2?", "thoughts 2?"))
    try:
        ran = team.run(team.world)
    finally:
        prompts.write_text(good)
    assert ran.returncode == 1
    (error,) = [line for line in ran.stderr.splitlines() if line.startswith("Error")]
    assert re.match(r"Error: forgetting_prompts\[teeth\] on (head|two): .*line 2", error), error
    assert "Traceback" not in ran.stderr
    assert {"forgetting_prompts[minds]", "self_generated_corpus[minds]"} <= made_on(ran.stderr).keys()


def test_ctrl_c_is_one_line_and_leaves_no_process_at_work(team: Team) -> None:
    assets = {cell.asset for cell in cells(team.world.study)}

    def at_work() -> list[str]:
        """Ray gives a process the name of the cell that it makes."""
        commands = [words for node in team.cluster.nodes.values() for words in node.commands()]
        return [words for words in commands if words.removeprefix("ray::").partition("[")[0].strip() in assets]

    build = team.start(team.world)
    wait_until(lambda: bool(at_work()), 240, build.told())
    build.process.send_signal(signal.SIGINT)
    assert build.wait() == 130
    last = [line for line in build.told().splitlines() if line.strip()][-1]
    assert last == "Interrupted. The next build goes on from here."
    assert "Traceback" not in build.told()

    wait_until(lambda: not at_work(), 30, "a cell is still being made")


def test_what_no_node_has_and_what_a_node_has_otherwise_is_one_line(team: Team, tmp_path: Path) -> None:
    ran = team.run(team.another("fresh"), "--processes", "64", "--force", "lwf_checkpoint")
    assert ran.returncode == 1
    assert "needs 64 CPUs and" in ran.stderr
    assert re.search(r"the largest, (head|two), has 1 CPU and 4.0 GB of memory", ran.stderr), ran.stderr
    assert len([line for line in ran.stderr.splitlines() if line.startswith("Error")]) == 1
    elsewhere = f"file://{tmp_path}/shared"
    ran = team.run(team.another("elsewhere"), **{REMOTE_VARIABLE: elsewhere})
    assert ran.returncode == 1
    assert f"node head: LWF_REMOTE is {REMOTE} there and {elsewhere} here" in ran.stderr


def test_no_file_has_a_secret(team: Team) -> None:
    """Last, when everything has written what it writes."""
    found = [path for path in team.files() for secret in SECRETS if secret.encode() in path.read_bytes()]
    assert found == []
