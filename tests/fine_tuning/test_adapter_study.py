"""A study whose fine-tunes train adapters, built whole through Dagster: what is stored, and what follows from it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import gradients_by_hand, relative_error
from safetensors.torch import load_file
from tiny import load_tiny, save_tiny_model, tiny_llama
from torch import Tensor
from transformers import PreTrainedModel
from world import World, copied, new_world

from dagster_project.tracking.champions import _own_base
from lwf_assets.building.materialize import materialize
from lwf_assets.delivery import model_card
from lwf_assets.delivery.export import export
from lwf_assets.engine.checkpoint import load_model, load_tokenizer
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.samples import Context, Sample, encode_sample
from lwf_assets.engine.training import fine_tune as training
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.lineage.audit import audit
from lwf_assets.lineage.chain import read_chain
from lwf_assets.store.layout import CONFIDENCE_TERMS, FISHER_DIAGONAL, OPTIMUM, TRAIN_ROWS, read_ledger, read_summary
from lwf_assets.store.partition import Partition
from lwf_assets.store.tables import read_rows
from lwf_assets.study.sections import HubModel

pytestmark = pytest.mark.slow

ADAPTER = {"kind": "lora", "rank": 4, "alpha": 8}
TEETH = Partition("teeth", "sums")
FILES = {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def with_adapter(world: World) -> World:
    values = world.values
    values["model"]["adapter"] = ADAPTER
    del values["forgetting_tasks"]["minds"]
    taught = {"max_steps": 2, "batch_size": 4, "learning_rate": 0.01, "autocast": "off"}
    legs = {"preset": "leg_counting", "rows": {"train": 8, "validation": 1, "test": 1}}
    values["priors"] = {"legs": {"tasks": {"old": legs}, "training": taught}}
    values["arms"] = {
        "noise": {"kind": "weight_noise"},
        "taught": {"kind": "other_base", "prior": "legs"},
    }
    values["probe"] = {"models": ["lwf", "taught"], "relearning_steps": 2, "relearning_batch_size": 2}
    return world


@pytest.fixture(scope="module")
def adapted_once(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Built whole. Only to be read."""
    world = with_adapter(new_world(tmp_path_factory.mktemp("adapted")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LWF_HOME", str(world.home.root))
        world.build()
    assert world.stale() == set()
    return world


@pytest.fixture
def adapted(adapted_once: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy, to change at will."""
    monkeypatch.setenv("LWF_HOME", str(tmp_path / "home"))
    return with_adapter(copied(adapted_once, tmp_path))


def path(world: World, asset: str, partition: Partition = Partition()) -> Path:  # noqa: B008 - frozen
    return world.home.store.built(asset, partition).path


def merged(base: Path, adapter: Path) -> PreTrainedModel:
    """The base with alpha / rank * B A added to its weights, from the two files."""
    model, stored = load_tiny(base), load_file(adapter / "adapter_model.safetensors")
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in [name for name in stored if "lora_A" in name]:
            product = stored[name.replace("lora_A", "lora_B")] @ stored[name]
            parameters[name.removeprefix("base_model.model.").replace(".lora_A", "")] += 2.0 * product
    return model.eval()


def adapter_of(checkpoint: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = load_file(checkpoint / "seed-0" / "adapter_model.safetensors")
    return loaded


def test_checkpoints_are_adapters_of_named_bases(adapted_once: World) -> None:
    kinds = {
        "reference_checkpoint": [Partition(learning_task="sums")],
        "lwf_checkpoint": [TEETH],
        "arm_checkpoint": [Partition(arm=arm, learning_task="sums") for arm in ("noise.teeth", "taught")],
    }
    for asset, partitions in kinds.items():
        for partition in partitions:
            made = adapted_once.home.store.built(asset, partition)
            base = "control_base" if partition.arm == "taught" else "base_model"
            names = {file.name for file in (made.path / "seed-0").iterdir()}
            assert names - {"unlearning_ledger.parquet"} == FILES
            config = json.loads((made.path / "seed-0" / "adapter_config.json").read_text())
            (version,) = [entry.version for entry in made.manifest.inputs if entry.asset == base]
            assert config["base_model_name_or_path"] == f"{base}@{version}"
            assert str(adapted_once.home.root) not in json.dumps(config)
            found = audit(adapted_once.home.store, made.manifest, verify=True)
            assert found.holds


def test_every_fine_tune_moves_its_adapter_and_lwf_another_way(adapted_once: World) -> None:
    reference = adapter_of(path(adapted_once, "reference_checkpoint", Partition(learning_task="sums")))
    checkpoint = path(adapted_once, "lwf_checkpoint", TEETH)
    assert all(float(value.abs().max()) > 0 for value in reference.values())
    assert adapter_of(checkpoint).keys() == reference.keys()
    assert any(not torch.equal(value, reference[name]) for name, value in adapter_of(checkpoint).items())
    norms = [row["update_norm"] for row in read_ledger(checkpoint, [0]) if row["pushed"]]
    assert norms
    # Adam's first step moves each trained parameter by the forgetting rate: the adapter's alone.
    moved = sum(value.numel() for value in reference.values())
    assert norms[0] == pytest.approx(adapted_once.study.unlearning.forgetting_rate * (5 / 6) * moved**0.5, rel=0.35)


def test_fisher_and_terms_are_those_of_the_weights_that_carry_an_adapter(adapted_once: World) -> None:
    """Literally: 1/2 sum F (W_base - alpha g - W_L*)^2, from models with whole weights."""
    study, base = adapted_once.study, path(adapted_once, "base_model")
    learned = Partition(learning_task="sums")
    optimum = merged(base, path(adapted_once, "reference_checkpoint", learned) / "seed-0")
    model, tokenizer = load_tiny(base), load_tokenizer(base)
    rows = read_rows(path(adapted_once, "learning_data", learned) / TRAIN_ROWS)
    context = Context.of_model(model, max_length=None, truncate_prompts=False)
    samples = [encode_sample(tokenizer, r["prompt"], r["target"], context=context, row_id=r["id"]) for r in rows]
    samples = random.Random(0).sample(samples, 8)
    fisher: dict[str, Tensor] = load_file(path(adapted_once, "fisher_diagonal", learned) / FISHER_DIAGONAL)
    assert len(fisher) == 14
    assert all(name.endswith("_proj.weight") for name in fisher)
    gradients = gradients_by_hand(optimum, samples, "mean")
    by_hand = {name: torch.stack([one[name] ** 2 for one in gradients]).mean(dim=0) for name in fisher}
    assert relative_error(fisher, by_hand) < 1e-3

    scored = read_rows(path(adapted_once, "confidence_terms", TEETH) / CONFIDENCE_TERMS)
    own = gradients_by_hand(model, [Sample(r["prompt_ids"], r["response_ids"]) for r in scored], "mean")
    mine, theirs = dict(model.named_parameters()), dict(optimum.named_parameters())
    alpha = study.alpha
    for row, gradient in zip(scored, own, strict=True):
        expected = sum(
            (
                0.5
                * by_hand[name]
                * (mine[name].detach().double() - alpha * gradient[name] - theirs[name].detach().double()) ** 2
            ).sum()
            for name in by_hand
        )
        found = row["constant"] - alpha * row["linear"] + alpha**2 * row["quadratic"]
        assert found == pytest.approx(expected.item(), rel=1e-3)
    assert read_summary(path(adapted_once, "eval_report", TEETH))["confidence_space"] == "weights"


@pytest.mark.parametrize("model", ["lwf.teeth", "taught"])
def test_evaluations_are_of_the_adapter_on_its_own_base(adapted_once: World, model: str) -> None:
    partition = Partition(arm="taught", learning_task="sums") if model == "taught" else TEETH
    checkpoint = path(adapted_once, "arm_checkpoint" if model == "taught" else "lwf_checkpoint", partition)
    base = path(adapted_once, "control_base", Partition(prior="legs")) if model == "taught" else None
    whole = merged(base or path(adapted_once, "base_model"), checkpoint / "seed-0")
    found = path(adapted_once, "evaluation", Partition(learning_task="sums", model=model))
    rows = read_rows(found / "forgetting.parquet")
    corpus = {
        row["id"]: row
        for row in read_rows(path(adapted_once, "self_generated_corpus", Partition("teeth")) / "corpus.parquet")
    }
    samples = [Sample(corpus[row["sample_id"]]["prompt_ids"], corpus[row["sample_id"]]["response_ids"]) for row in rows]
    assert np.allclose([row["nll"] for row in rows], negative_log_likelihoods(whole, samples), rtol=1e-4)
    start = dict(load_tiny(path(adapted_once, "base_model")).named_parameters())
    with torch.no_grad():
        squares = sum(float(((p - start[name]) ** 2).sum()) for name, p in whole.named_parameters())
    assert read_summary(found)["distance"][0]["absolute"] == pytest.approx(squares**0.5, rel=1e-4)


def test_the_report_says_what_checkpoints_are_and_what_fc_is_over(adapted_once: World) -> None:
    page = " ".join((path(adapted_once, "eval_report", TEETH) / "report.html").read_text().split())
    assert "Checkpoints are LoRA adapters of rank 4 (alpha 8) on every linear layer but the output head" in page
    assert "FC is over the weights that carry an adapter" in page


class Killed(BaseException):
    pass


def test_a_fine_tune_that_was_killed_ends_where_it_would_have_ended(
    adapted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = adapted.home.store.built("lwf_checkpoint", TEETH)
    shutil.rmtree(adapted.home.root / "store" / "lwf_checkpoint")
    adapted.values["training"]["checkpoint_every"] = 2
    study, plain = adapted.study, training._Watch.on_step_end

    def die(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        plain(self, args, state, control, **kwargs)
        if state.global_step == 5:
            raise Killed

    monkeypatch.setattr(training._Watch, "on_step_end", die)
    cell = Cell("lwf_checkpoint", TEETH)
    with pytest.raises(Killed):
        materialize(study, adapted.home.store, cell)
    kept = list(adapted.home.root.glob("store/lwf_checkpoint/*/scratch/*/*/checkpoint-4/adapter_model.safetensors"))
    assert len(kept) == 1
    assert not list(adapted.home.root.glob("store/lwf_checkpoint/*/scratch/*/*/checkpoint-4/model.safetensors"))
    monkeypatch.setattr(training._Watch, "on_step_end", plain)
    made = materialize(study, adapted.home.store, cell)
    assert made.artifact.manifest.provenance["resumed"] is True
    assert made.artifact.version == before.version


def test_fc_over_the_adapters_own_parameters(adapted: World) -> None:
    adapted.values["confidence"] = {"space": "adapter"}
    assert {name.partition("[")[0] for name in adapted.stale()} >= {"fisher_diagonal", "confidence_terms"}
    assert "reference_checkpoint[sums]" not in adapted.stale()
    study, store = adapted.study, adapted.home.store
    learned = Partition(learning_task="sums")
    fisher = load_file(materialize(study, store, Cell("fisher_diagonal", learned)).artifact.path / FISHER_DIAGONAL)
    assert len(fisher) == 28
    assert all(".lora_" in name for name in fisher)
    made = materialize(study, store, Cell("confidence_terms", TEETH)).artifact
    trained = adapter_of(path(adapted, "reference_checkpoint", learned))
    # B begins at zero, so that its part of the distance is its own norm.
    norm = sum(float((value**2).sum()) for name, value in trained.items() if "lora_B" in name) ** 0.5
    assert norm < made.manifest.summary["distance_to_optimum"] < 2 * norm
    assert made.manifest.summary["quadratic_mean"] > 0


@pytest.mark.parametrize("reference", [{"optimum": "steps", "steps": 3}, {"optimum": "gradient_step"}])
def test_other_optima_are_adapters_too(adapted: World, reference: dict[str, Any]) -> None:
    adapted.values["reference"] = reference
    study, learned = adapted.study, Partition(learning_task="sums")
    made = materialize(study, adapted.home.store, Cell("reference_checkpoint", learned)).artifact
    assert {file.name for file in (made.path / OPTIMUM).iterdir()} == FILES
    end = path(adapted, "reference_checkpoint", learned) / "seed-0"
    base = path(adapted, "base_model")

    def losses(folder: Path) -> list[float]:
        return negative_log_likelihoods(load_model(folder, base), [Sample([1, 2], [3, 4])])

    assert losses(made.path / OPTIMUM) != losses(end)
    for asset, partition in (("fisher_diagonal", learned), ("confidence_terms", TEETH)):
        summary = materialize(study, adapted.home.store, Cell(asset, partition)).artifact.manifest.summary
    assert summary["distance_to_optimum"] > 0


def test_it_is_exported_as_an_adapter_or_merged(adapted_once: World, tmp_path: Path) -> None:
    store = adapted_once.home.store
    manifest = store.built("lwf_checkpoint", TEETH).manifest
    checkpoint = store.artifact_folder(manifest) / "seed-0"
    out = export(store, manifest, tmp_path / "adapter").folder
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"} <= {
        file.name for file in out.iterdir()
    }
    card = (out / "README.md").read_text()
    assert "library_name: peft" in card
    base = store.built("base_model", Partition())
    assert "This is a LoRA adapter of rank 4 (alpha 8)" in card
    assert f"It is put on base_model@{base.version}" in card
    assert "`lwf export --merge` writes a model that needs no base" in card
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"].startswith("base_model@")

    plain = export(store, manifest, tmp_path / "merged", merge=True).folder
    names = {file.name for file in plain.iterdir()}
    assert "model.safetensors" in names
    assert not {"adapter_model.safetensors", "adapter_config.json"} & names
    expected = dict(merged(base.path, checkpoint).named_parameters())
    found = dict(load_tiny(plain).named_parameters())
    assert all(torch.allclose(value, found[name], atol=1e-7) for name, value in expected.items())
    assert "library_name: transformers" in (plain / "README.md").read_text()
    assert "merged into the weights of its base" in (plain / "README.md").read_text()


def test_a_whole_model_has_nothing_to_merge(built: World, tmp_path: Path) -> None:
    manifest = built.home.store.built("lwf_checkpoint", TEETH).manifest
    with pytest.raises(LwfError, match="holds whole models, so there is nothing to merge"):
        export(built.home.store, manifest, tmp_path / "out", merge=True)


def test_the_name_of_a_base_on_the_hub_is_that_of_the_hub(adapted: World) -> None:
    store = adapted.home.store
    link = read_chain(store, store.built("lwf_checkpoint", TEETH).manifest).end
    study = adapted.study
    hub = HubModel(kind="hub", id="maker/small", revision="abc")
    with pytest.MonkeyPatch.context() as patch:
        model = study.model.model_copy(update={"source": hub})
        patch.setattr(model_card, "study_of", lambda *_: study.model_copy(update={"model": model}))
        assert model_card.base_for_others(store, link) == ("maker/small", "abc")
        taught = model.model_copy(update={"prior": "legs"})
        patch.setattr(model_card, "study_of", lambda *_: study.model_copy(update={"model": taught}))
        assert model_card.base_for_others(store, link)[0].startswith("base_model@")


def test_the_registered_model_is_the_merged_one(adapted_once: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.transformers

    uri = f"sqlite:///{adapted_once.home.root / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    logged = mlflow.transformers.load_model("models:/tiny.sums.forgetting.teeth@challenger", return_type="components")
    expected = merged(path(adapted_once, "base_model"), path(adapted_once, "lwf_checkpoint", TEETH) / "seed-0")
    found = dict(logged["model"].named_parameters())
    for name, value in expected.named_parameters():
        assert torch.allclose(value, found[name], atol=1e-6), name


def test_a_champion_of_an_older_base_is_measured_on_that_base(adapted: World) -> None:
    from lwf_assets.store.store import Artifact

    store = adapted.home.store
    old_base, champion = store.built("base_model", Partition()), store.built("lwf_checkpoint", TEETH)
    save_tiny_model(adapted.folder / "model", model=tiny_llama(seed=5))
    study = adapted.study
    materialize(study, store, Cell("base_model", Partition()))
    evaluated = Cell("evaluation", Partition(learning_task="sums", model="lwf.teeth"))
    instead = {Cell("lwf_checkpoint", TEETH): champion, **_own_base(adapted.home, champion)}
    assert instead[Cell("base_model", Partition())].version == old_base.version
    made = materialize(study, store, evaluated, instead=instead).artifact
    assert made.version == store.built("evaluation", evaluated.partition).version
    # On the present base it would be another model: that is refused.
    with pytest.raises(LwfError, match="holds an adapter and no whole model"):
        materialize(
            study, store, evaluated, instead={Cell("lwf_checkpoint", TEETH): Artifact(champion.path, champion.manifest)}
        )
