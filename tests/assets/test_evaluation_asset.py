"""What an evaluation and a probe write, against the obvious: one sample at a time, by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from armed import FORMS, PASSAGES, SEEDS, Armed, samples_of
from safetensors.torch import load_file

from lwf_assets.assets import evaluation, forgetting_probe
from lwf_assets.disk.hashes import hash_file
from lwf_assets.engine.checkpoint import load_model, load_tokenizer
from lwf_assets.engine.probes.quantization import quantize_weights
from lwf_assets.engine.samples import Sample
from lwf_assets.errors import LwfError
from lwf_assets.store.layout import FORGET_SET
from lwf_assets.store.tables import read_rows, write_rows

TABLES = ("items", "utility", "forgetting")
REFERENCE, LWF = "reference", "lwf.teeth"


def nll_by_hand(model: Any, ids: list[int], first: int) -> tuple[float, float]:
    """Mean NLL of the tokens from `first` on, and the share of them that is the likeliest."""
    with torch.no_grad():
        log_probabilities = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)
    places = range(first, len(ids))
    nll = [-log_probabilities[place - 1, ids[place]].item() for place in places]
    known = [log_probabilities[place - 1].argmax().item() == ids[place] for place in places]
    return sum(nll) / len(nll), sum(known) / len(known)


def sample_by_hand(model: Any, sample: Sample) -> tuple[float, float]:
    return nll_by_hand(model, [*sample.prompt_ids, *sample.response_ids], len(sample.prompt_ids))


def model_of(armed: Armed, asset: str, key: str, seed: int) -> Any:
    return load_model(armed.path(asset, key) / f"seed-{seed}")


def corpus(armed: Armed, name: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_rows(armed.path("self_generated_corpus", name) / "corpus.parquet")}


@pytest.mark.parametrize("model", ["base", REFERENCE, LWF, "bss", "taught", "npo.teeth"])
def test_every_seed_is_measured_and_the_base_has_none(armed: Armed, model: str) -> None:
    expected = [None] if model == "base" else list(SEEDS)
    for table in TABLES:
        rows = armed.evaluation(model, table)
        assert list(dict.fromkeys(row["seed"] for row in rows)) == expected
        counts = {seed: sum(row["seed"] == seed for row in rows) for seed in expected}
        assert len(set(counts.values())) == 1
    assert len(armed.evaluation(model, "items")) == 6 * len(expected)
    summary = json.loads((armed.path("evaluation", f"sums|{model}") / "summary.json").read_text())
    assert summary["seeds"] == expected
    assert [entry["seed"] for entry in summary["aggregates"]] == expected
    assert summary["steps"] == (None if model == "base" else 6)


def test_neutral_text_is_as_likely_as_by_hand(armed: Armed) -> None:
    rows = [row for row in armed.evaluation(REFERENCE, "utility") if row["group"] == "neutral"]
    assert [(row["seed"], row["id"]) for row in rows] == [(seed, f"p{n}") for seed in SEEDS for n in range(2)]
    for row in rows:
        folder = armed.path("reference_checkpoint", "sums") / f"seed-{row['seed']}"
        ids = load_tokenizer(folder)(PASSAGES[int(row["id"][1:])])["input_ids"]
        expected, _ = nll_by_hand(load_model(folder), ids, 1)
        assert row["nll"] == pytest.approx(expected, rel=1e-5)
        assert (row["accuracy"], row["invalid"], row["task"]) == (None, None, "neutral")


def test_a_passage_of_one_token_says_what_is_wrong(armed: Armed, tmp_path: Path) -> None:
    work = armed.work("evaluation", "sums|base", tmp_path / "work")
    for cell, artifact in work.inputs.items():
        if cell.asset == "utility_data":
            folder = tmp_path / "utility"
            folder.mkdir()
            (folder / "items.parquet").write_bytes((artifact.path / "items.parquet").read_bytes())
            write_rows(folder / "neutral.parquet", [{"id": "short", "text": "x"}])
            inputs = {**work.inputs, cell: dataclasses.replace(artifact, path=folder)}
    with pytest.raises(LwfError, match=r"evaluation\.neutral_text: the passage 'short' is a single token; "):
        evaluation.materialize(dataclasses.replace(work, inputs=inputs))


@pytest.mark.parametrize(
    ("model", "asset", "key"), [(REFERENCE, "reference_checkpoint", "sums"), (LWF, "lwf_checkpoint", "teeth|sums")]
)
def test_own_samples_are_as_likely_and_as_known_as_by_hand(armed: Armed, model: str, asset: str, key: str) -> None:
    loaded = {seed: model_of(armed, asset, key, seed) for seed in SEEDS}
    samples = corpus(armed, "teeth")
    rows = [row for row in armed.evaluation(model, "forgetting") if row["forgetting_task"] == "teeth"]
    assert [row["sample_id"] for row in rows] == [
        name for _ in SEEDS for name, row in samples.items() if row["response"].strip()
    ]
    for row in rows:
        (sample,) = samples_of([samples[row["sample_id"]]])
        nll, known = sample_by_hand(loaded[row["seed"]], sample)
        assert row["nll"] == pytest.approx(nll, rel=1e-5)
        assert row["memorised"] == pytest.approx(known)
    assert {row["memorised"] for row in rows} != {0.0}


def test_the_base_finds_its_samples_as_likely_as_when_they_were_scored(armed: Armed) -> None:
    scored = read_rows(armed.path("confidence_terms", "teeth|sums") / "confidence_terms.parquet")
    own = {r["sample_id"]: r["nll"] for r in armed.evaluation("base", "forgetting") if r["forgetting_task"] == "teeth"}
    assert own == pytest.approx({row["id"]: row["nll"] for row in scored})


def test_a_model_is_measured_on_the_samples_of_its_own_task_or_of_all(armed: Armed) -> None:
    def tasks(model: str, table: str) -> set[str]:
        return {row["forgetting_task"] for row in armed.evaluation(model, table)}

    for table in ("forgetting", "examples"):
        assert tasks(LWF, table) == tasks("low.teeth", table) == {"teeth"}
        assert tasks("lwf.mixed", table) == {"mixed"}
        assert tasks("base", table) == tasks("bss", table) == {"teeth", "mixed"}


def test_a_mixed_cell_leaves_out_the_learning_tasks_own_prompts(armed: Armed) -> None:
    everything = corpus(armed, "mixed")
    assert {row["source_task"] for row in everything.values()} == {"teeth", "sums"}
    for model in ("lwf.mixed", REFERENCE):
        seen = {r["sample_id"] for r in armed.evaluation(model, "forgetting") if r["forgetting_task"] == "mixed"}
        assert seen == {
            name for name, row in everything.items() if row["source_task"] == "teeth" and row["response"].strip()
        }
        asked = {r["prompt_id"] for r in armed.evaluation(model, "examples") if r["forgetting_task"] == "mixed"}
        assert {name.split("/")[0] for name in asked} == {"teeth"}


def test_examples_are_spread_evenly_over_the_prompts(armed: Armed) -> None:
    prompts = [row["id"] for row in read_rows(armed.path("forgetting_prompts", "teeth") / "prompts.parquet")]
    asked = [row["prompt_id"] for row in armed.evaluation(LWF, "examples")]
    assert asked == [prompts[index] for index in (0, 3, 6, 9)]


def test_utility_is_that_of_the_forgetting_tasks_own_tests_and_of_untouched_tasks(armed: Armed) -> None:
    rows = [row for row in armed.evaluation("base", "utility") if row["group"] != "neutral"]
    assert [(row["group"], row["task"]) for row in rows] == [("forgetting", "sums")] * 3 + [
        ("untouched", "letters")
    ] * 3
    assert all(math.isfinite(row["nll"]) for row in rows)
    items = read_rows(armed.path("utility_data") / "items.parquet")
    folder = armed.path("base_model")
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    for row, item in zip(rows, items, strict=True):
        assert row["id"] == item["id"]
        prompt = tokenizer(item["prompt"])["input_ids"]
        whole = [*tokenizer(f"{item['prompt']} {item['target']}")["input_ids"], 256]
        assert row["nll"] == pytest.approx(nll_by_hand(model, whole, len(prompt))[0], rel=1e-5)


def test_the_distance_is_that_of_the_weights(armed: Armed) -> None:
    summary = json.loads((armed.path("evaluation", f"sums|{LWF}") / "summary.json").read_text())
    base = load_file(armed.path("base_model") / "model.safetensors")
    size = math.sqrt(sum(value.double().square().sum().item() for value in base.values()))
    for entry in summary["distance"]:
        mine = load_file(armed.path("lwf_checkpoint", "teeth|sums") / f"seed-{entry['seed']}" / "model.safetensors")
        squares = sum((mine[name].double() - base[name].double()).square().sum().item() for name in base)
        assert entry["absolute"] == pytest.approx(math.sqrt(squares))
        assert entry["relative"] == pytest.approx(math.sqrt(squares) / size)
    (of_base,) = json.loads((armed.path("evaluation", "sums|base") / "summary.json").read_text())["distance"]
    assert of_base == {"seed": None, "absolute": 0.0, "relative": 0.0}


def test_curves_go_with_the_evaluation_of_a_model_that_was_trained(armed: Armed) -> None:
    for name in ("learning_curves.parquet", "validation_curve.parquet"):
        own = armed.path("evaluation", "sums|bss") / name
        assert own.read_bytes() == (armed.arm("bss") / name).read_bytes()
        assert not (armed.path("evaluation", "sums|base") / name).exists()


def test_what_a_model_is_called(armed: Armed) -> None:
    def told(model: str) -> tuple[str, str, str | None]:
        summary = json.loads((armed.path("evaluation", f"sums|{model}") / "summary.json").read_text())
        assert summary["model"] == model
        assert summary["description"].endswith(".")
        return summary["label"], summary["kind"], summary["forgetting_task"]

    assert told("base") == ("base", "base", None)
    assert told(LWF) == ("lwf", "lwf", "teeth")
    assert told("npo.teeth") == ("npo", "variant", "teeth")
    assert told("tokens.teeth") == ("tokens", "random_tokens", "teeth")
    assert told("taught") == ("taught", "other_base", None)


def probe(armed: Armed, model: str) -> list[dict[str, Any]]:
    return read_rows(armed.path("forgetting_probe", f"sums|{model}") / "probe.parquet")


def chosen(armed: Armed, task: str) -> list[dict[str, Any]]:
    rows = read_rows(armed.path("scored_forget_set", f"{task}|sums") / FORGET_SET)
    return [row for row in rows if row["selected"]]


def mean(values: list[tuple[float, float]]) -> dict[str, float]:
    nll, memorised = zip(*values, strict=True)
    return {"nll": sum(nll) / len(nll), "memorised": sum(memorised) / len(memorised)}


def test_a_probe_has_every_look_at_every_seed_and_task(armed: Armed) -> None:
    looks = [("int8", None, None), ("int4", None, None), *(("format", None, form) for form in FORMS)]
    looks += [("relearning", step, None) for step in range(3)]
    rows = probe(armed, REFERENCE)
    assert [(r["seed"], r["forgetting_task"], r["probe"], r["step"], r["variant"]) for r in rows] == [
        (seed, task, *look) for seed in SEEDS for task in ("teeth", "mixed") for look in looks
    ]
    assert {row["forgetting_task"] for row in probe(armed, LWF)} == {"teeth"}


@pytest.mark.parametrize("bits", [8, 4])
def test_rounded_weights_are_looked_at_as_by_hand(armed: Armed, bits: Any) -> None:
    samples = samples_of(chosen(armed, "teeth"))
    for seed in SEEDS:
        model = model_of(armed, "lwf_checkpoint", "teeth|sums", seed)
        plain = mean([sample_by_hand(model, sample) for sample in samples])
        with quantize_weights(model, bits):
            expected = mean([sample_by_hand(model, sample) for sample in samples])
        (row,) = [row for row in probe(armed, LWF) if row["probe"] == f"int{bits}" and row["seed"] == seed]
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-4)
        assert row["nll"] != pytest.approx(plain["nll"], rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_another_form_of_the_prompt_is_looked_at_as_by_hand(armed: Armed, form: str) -> None:
    seed = SEEDS[1]
    folder = armed.path("lwf_checkpoint", "teeth|sums") / f"seed-{seed}"
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    asked = [
        Sample(tokenizer(form.replace("{prompt}", row["prompt"]))["input_ids"], row["response_ids"])
        for row in chosen(armed, "teeth")
    ]
    expected = mean([sample_by_hand(model, sample) for sample in asked])
    (row,) = [row for row in probe(armed, LWF) if row["variant"] == form and row["seed"] == seed]
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_relearning_begins_at_what_the_evaluation_found(armed: Armed) -> None:
    names = {row["id"] for row in chosen(armed, "teeth")}
    for seed in SEEDS:
        found = [
            row["nll"]
            for row in armed.evaluation(LWF, "forgetting")
            if row["seed"] == seed and row["sample_id"] in names
        ]
        curve = [row["nll"] for row in probe(armed, LWF) if row["probe"] == "relearning" and row["seed"] == seed]
        assert curve[0] == pytest.approx(sum(found) / len(found))
        assert curve[-1] < curve[0]


def test_a_probe_leaves_the_checkpoint_as_it_was(armed: Armed) -> None:
    for asset, key in (("lwf_checkpoint", "teeth|sums"), ("reference_checkpoint", "sums")):
        artifact = armed.artifact(asset, key)
        for entry in artifact.manifest.files:
            assert hash_file(artifact.path / entry.path) == entry.sha256


def test_a_form_that_makes_a_prompt_too_long_is_refused(armed: Armed, tmp_path: Path) -> None:
    assert armed.study.probe is not None
    long = armed.study.probe.model_copy(update={"prompt_forms": ("x" * 300 + "{prompt}",)})
    work = armed.work("forgetting_probe", f"sums|{LWF}", tmp_path)
    work = dataclasses.replace(work, study=armed.study.model_copy(update={"probe": long}))
    with pytest.raises(
        LwfError, match=r"probe\.prompt_forms: 'xxx.*' makes the prompt of teeth/teeth-\d+/0 3\d\d tokens"
    ):
        forgetting_probe.materialize(work)
