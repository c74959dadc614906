"""A worse challenger is not promoted, a better one is, and a rollback restores; in a real MLflow server's registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from servers_at_work import free_port, mlflow_server
from world import World, copied

from dagster_project.tracking.champions import CHAMPION, promote_challenger, roll_back
from lwf_assets.comparison.promotion import decide_promotion
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.lineage.audit import audit
from lwf_assets.lineage.find import find_manifest
from lwf_assets.statistics import paired_effect
from lwf_assets.store.partition import Partition
from lwf_assets.store.tables import write_rows
from lwf_assets.study.sections import PromotionSettings

CELL = Partition("teeth", "sums")
NAME = "tiny.sums.forgetting.teeth"


@dataclass
class Measured:
    """Folders as an evaluation and a forget set have them, with figures of choice."""

    folder: Path

    def evaluation(self, name: str, nll: np.ndarray, *, neutral: float = 1.0) -> Path:
        """`nll`: seeds by items."""
        out = self.folder / name
        out.mkdir()
        seeds, items = nll.shape
        texts = {"prompt": "p", "answer": "a", "response": "r", "extracted": "a"}
        write_rows(
            out / "items.parquet",
            [
                {"seed": s, "id": f"i{i}", **texts, "accuracy": 1.0, "target_nll": float(nll[s, i])}
                for s in range(seeds)
                for i in range(items)
            ],
        )
        write_rows(
            out / "utility.parquet",
            [
                {"seed": s, "group": "neutral", "task": "neutral", "id": f"n{i}", "accuracy": None, "nll": neutral}
                for s in range(seeds)
                for i in range(2)
            ],
        )
        write_rows(
            out / "forgetting.parquet",
            [
                {"seed": s, "forgetting_task": "teeth", "sample_id": i, "nll": 1.0, "memorised": 0.0}
                for s in range(seeds)
                for i in ("a", "b")
            ],
        )
        write_rows(
            out / "examples.parquet",
            [{"forgetting_task": "teeth", "prompt_id": "p", "prompt": "p", "response": "r"}],
        )
        write_rows(
            out / "learning_curves.parquet",
            [{"seed": s, "step": t, "loss": float(nll[s].mean()) + 1 / t} for s in range(seeds) for t in (1, 2, 3)],
        )
        summary = {
            "model": "lwf.teeth",
            "label": "lwf",
            "kind": "lwf",
            "description": "",
            "forgetting_task": "teeth",
            "steps": 3,
            "seeds": list(range(seeds)),
            "aggregates": [],
            "distance": [],
        }
        (out / "summary.json").write_text(json.dumps(summary))
        return out

    def forget_set(self) -> Path:
        out = self.folder / "forget_set"
        out.mkdir(exist_ok=True)
        rows = [{"id": name, "selected": name == "a", "source_task": "teeth"} for name in ("a", "b")]
        write_rows(out / "scored_forget_set.parquet", rows)
        return out


@pytest.mark.parametrize(
    ("shift", "margin", "promoted"), [(-0.2, 0.0, True), (0.2, 0.0, False), (0.2, 0.5, True), (0.0, 0.0, False)]
)
def test_the_whole_interval_must_be_within_the_margin(
    tmp_path: Path, shift: float, margin: float, promoted: bool
) -> None:
    """NLL: lower is better. Even a model that is as good needs a margin, for nobody can say that it is not worse."""
    draws = np.random.default_rng(0)
    measured = Measured(tmp_path)
    old = draws.normal(2, 0.3, (3, 30))
    new = old + shift + draws.normal(0, 0.05, (3, 30))
    decision = decide_promotion(
        measured.evaluation("new", new),
        measured.evaluation("old", old),
        measured.forget_set(),
        PromotionSettings(margin=margin),
        measure="target_nll",
        forgetting_task="teeth",
    )
    assert decision.promote == promoted
    effect = paired_effect(new - old)
    assert decision.figures["difference"] == pytest.approx(effect.mean)
    assert decision.figures["difference_high"] == pytest.approx(effect.high)
    assert promoted == (effect.high <= margin)
    assert f"{effect.mean:+.4g}" in decision.reason


@pytest.mark.parametrize(("bound", "promoted"), [(1.5, True), (1.3, True), (1.2, False)])
def test_what_must_not_be_lost_is_bounded(tmp_path: Path, bound: float, promoted: bool) -> None:
    measured = Measured(tmp_path)
    nll = np.full((2, 4), 1.0) + np.arange(4) / 10
    settings_ = PromotionSettings(bounds={"neutral_nll": bound, "accuracy": 0.9})
    decision = decide_promotion(
        measured.evaluation("new", nll, neutral=1.3),
        None,
        measured.forget_set(),
        settings_,
        measure="target_nll",
        forgetting_task="teeth",
    )
    assert decision.promote == promoted
    assert decision.figures["neutral_nll"] == pytest.approx(1.3)
    assert decision.reasons[0] == "there is no champion yet"


def test_an_unknown_bound_is_told_with_the_measures_there_are(tmp_path: Path) -> None:
    measured = Measured(tmp_path)
    with pytest.raises(LwfError, match=r"promotion\.bounds: happiness was not measured; measured: accuracy"):
        decide_promotion(
            measured.evaluation("new", np.ones((2, 3))),
            None,
            measured.forget_set(),
            PromotionSettings(bounds={"happiness": 1}),
            measure="target_nll",
            forgetting_task="teeth",
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on the loopback address."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), free_port()) as address:
        yield address


def champion_of(client: MlflowClient) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(NAME, CHAMPION).version)
    except MlflowException:
        return None


@pytest.mark.slow
def test_in_a_real_registry_the_better_one_wins_and_a_rollback_restores(
    built_once: World, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    world = copied(built_once, tmp_path)
    world.values["evaluation"]["primary_measure"] = "target_nll"
    world.values["promotion"] = {"margin": 0.05, "bounds": {"target_nll": 50.0}}
    world.build()
    client = MlflowClient(tracking_uri=server)
    # The first that is built after there are conditions: registered already, or by this build.
    world.build(force=[Cell("lwf_checkpoint", CELL), Cell("eval_report", CELL)])
    assert champion_of(client) == "1"
    first = client.get_model_version(NAME, "1")
    assert json.loads(first.tags["lwf.promotion"])["reason"].startswith("there is no champion yet")

    # One that unlearned so much that it is worse: built, registered, reported, and not promoted.
    good = dict(world.values["unlearning"])
    world.values["unlearning"].update(forgetting_rate=0.02, interval=1)
    with pytest.raises(LwfError, match=r"everything is built, but not promoted: teeth\|sums: NLL of the targets"):
        world.build()
    assert not world.stale()
    assert champion_of(client) == "1"
    second = client.get_model_version_by_alias(NAME, "challenger")
    assert second.version == "2"
    told = json.loads(second.tags["lwf.promotion"])
    assert told["passed"] is False
    assert told["figures"]["difference"] > 0.05
    assert told["figures"]["champion_before"] == "1"

    # A better one: it learned longer. It takes the place of the first, and can be taken back.
    world.values["unlearning"] = good
    world.values["training"]["max_steps"] = 30
    try:
        world.build()
    except LwfError as error:  # of the other cell nothing is asked here
        assert "teeth|sums" not in str(error)  # noqa: PT017
    assert champion_of(client) == "3"
    third = client.get_model_version(NAME, "3")
    assert json.loads(third.tags["lwf.promotion"])["figures"]["difference_high"] <= 0.05
    assert third.tags["lwf.champion_before"] == "1"
    manifest = find_manifest(world.home.store, "teeth|sums")
    told_by_lineage = audit(world.home.store, manifest).verdicts[manifest.name]["promotion"]
    assert told_by_lineage["passed"] is True
    assert told_by_lineage["figures"] == json.loads(third.tags["lwf.promotion"])["figures"]

    assert roll_back(world.study, world.home, server, CELL) == ("3", "1")
    assert champion_of(client) == "1"
    decision = promote_challenger(world.study, world.home, server, CELL)
    assert not decision.promote  # what was taken back does not come back by itself
    assert champion_of(client) == "1"
    with pytest.raises(LwfError, match="first champion"):
        roll_back(world.study, world.home, server, CELL)
