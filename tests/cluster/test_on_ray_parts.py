"""The parts of a build on Ray that need no Ray: what a node must have, what it says meanwhile, what is no address."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import time

import pytest
from tiny import tiny_study_values, write_study

from dagster_project.builds.on_ray import messages
from dagster_project.builds.on_ray.connection import connected
from dagster_project.builds.on_ray.messages import Message, Phase, Said, SentProgress, warnings_sent
from dagster_project.builds.on_ray.setup import RECORDS, Setup, difference, setup_of
from lwf_assets.errors import LwfError
from lwf_assets.store.home import REMOTE_VARIABLE, Home
from lwf_assets.study.file import load_study

HERE = Setup("s3://bucket/team", ("MLFLOW_TRACKING_URI",), "c0de", {"torch": "2.13.0"}, {"learning_data[sums]": "1"})


def test_a_node_that_is_the_same_is_taken() -> None:
    assert difference(HERE, HERE) is None
    more = dataclasses.replace(HERE, records=RECORDS)
    assert difference(HERE, more) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"remote": ""}, "LWF_REMOTE is not set there"),
        ({"remote": "s3://bucket/other"}, "LWF_REMOTE is s3://bucket/other there and s3://bucket/team here"),
        ({"records": ()}, "MLFLOW_TRACKING_URI is set here and not there"),
        ({"code": "0ther"}, "the code of lwf-assets there is another version"),
        ({"libraries": {"torch": "2.12.0"}}, "torch is 2.12.0 there and 2.13.0 here"),
        ({"contents": {"learning_data[sums]": "2"}}, r"the files that learning_data\[sums\] is made from are others"),
    ],
)
def test_a_node_that_is_another_is_told_what_to_do(changed: dict[str, object], said: str) -> None:
    told = difference(HERE, dataclasses.replace(HERE, **changed))
    assert told is not None
    with pytest.raises(LwfError, match=said):
        raise LwfError(told)


def test_an_address_is_told_without_its_password() -> None:
    told = difference(HERE, dataclasses.replace(HERE, remote="s3://me:hidden-word@bucket"))
    assert told is not None
    assert "hidden-word" not in told


def test_a_file_with_other_bytes_is_seen_by_its_contents(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REMOTE_VARIABLE, "s3://bucket/team/")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = load_study(write_study(tmp_path, tiny_study_values(tmp_path)))
    home = Home(tmp_path / "home")
    wanted = setup_of(study, home)
    assert wanted.remote == "s3://bucket/team"
    assert difference(wanted, pickle.loads(pickle.dumps(setup_of(study, Home(tmp_path / "other"))))) is None
    prompts = tmp_path / "teeth.jsonl"
    prompts.write_text(prompts.read_text().replace("teeth 4", "gums 4"))
    told = difference(wanted, setup_of(study, home))
    assert told is not None
    assert "forgetting_prompts[teeth]" in told


def test_progress_is_sent_when_it_matters_and_not_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    sent: list[Message] = []
    progress = SentProgress(sent.append, "a cell")
    progress.begin("Learning", 100)
    for _ in range(99):
        now[0] += messages.EVERY / 10.5
        progress.advance()
    assert sent[0] == Phase("a cell", "Learning", 100, 0)
    assert 8 <= len(sent) <= 10
    done = [phase.done for phase in sent]
    assert done == sorted(done)
    progress.advance()
    assert sent[-1] == Phase("a cell", "Learning", 100, 100)
    progress.begin("Writing", 2)
    assert sent[-1] == Phase("a cell", "Writing", 2, 0)


def test_warnings_of_this_package_are_sent_and_only_in_the_block() -> None:
    sent: list[Message] = []
    with warnings_sent(sent.append, "a cell"):
        logging.getLogger("lwf.store").warning("the store does not answer: %s", "x")
        logging.getLogger("lwf.store").info("nothing")
        logging.getLogger("other").warning("not ours")
    logging.getLogger("lwf.store").warning("too late")
    assert sent == [Said("a cell", "the store does not answer: x")]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://head:8265", "is not the address of a Ray cluster; write ray://HOST:10001"),
        ("ray://head", "is not the address of a Ray cluster"),
        ("head", "is not the address of a Ray cluster"),
        ("ray://127.0.0.1:1", "nobody answers there"),
        ("127.0.0.1:1", "is the head node up"),
    ],
)
def test_no_cluster_is_one_line(address: str, said: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(LwfError, match=said) as refused, connected(address):
        pass
    assert str(refused.value).startswith(f"--on {address}: ")
    assert "\n" not in str(refused.value)
