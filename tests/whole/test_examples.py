"""The examples, as they stand, on a tiny model; and the callback in each way that TRL's SFTTrainer has to train."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from places import ROOT
from tiny import load_tiny, random_samples, save_tiny_model, tiny_llama, tiny_tokenizer, write_prompts
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback
from trl import SFTConfig, SFTTrainer

from examples import forget_set, own_trainer, trl_sft
from lwf_assets.engine.checkpoint import parameter_difference
from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.samples import Context, encode_sample
from lwf_assets.engine.unlearning.periodic import STATE_FILE, PeriodicUnlearning
from lwf_assets.engine.unlearning.saved_state import SavedState
from lwf_assets.errors import LwfError
from lwf_assets.tasks.sources import file_rows

pytestmark = pytest.mark.slow

QUICK: dict[str, Any] = {
    "steps": 6,
    "interval": 2,
    "learning_rate": 1e-3,
    "forgetting_rate": 3e-3,
    "cap": 20.0,
}
BOTH = pytest.mark.parametrize("script", [own_trainer, trl_sft], ids=["own_trainer", "trl_sft"])


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(save_tiny_model(tmp_path / "tiny"))


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every machine, whatever it multiplies in natively."""
    _use_bfloat16(monkeypatch, False)


def _use_bfloat16(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    for script in (own_trainer, trl_sft):
        monkeypatch.setattr(script, "use_bfloat16", lambda *_: answer)


def _weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> set[str]:
    return {name for name, value in first.items() if not torch.equal(value, second[name])}


# The scripts


@BOTH
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_it_forgets_on_schedule_and_the_run_without_the_callback_does_not(
    script: ModuleType, bfloat16: bool, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_bfloat16(monkeypatch, bfloat16)
    unlearning = script.main(tiny, out=tmp_path, **QUICK)

    assert [entry.step for entry in unlearning.ledger] == [step for step in (2, 4, 6) for _ in range(4)]
    assert all(entry.pushed for entry in unlearning.ledger)
    vanilla, forgotten = load_tiny(tmp_path / "reference"), load_tiny(tmp_path / "forgotten")
    start, kept, gone = (
        negative_log_likelihoods(model, unlearning.samples) for model in (tiny_llama(), vanilla, forgotten)
    )
    assert min(after - before for after, before in zip(gone, kept, strict=True)) > 0
    # By far more than learning alone moved them.
    assert sum(gone) - sum(kept) > 3 * abs(sum(kept) - sum(start))


@BOTH
def test_the_last_look_is_at_the_model_that_is_written(script: ModuleType, tiny: str, tmp_path: Path) -> None:
    unlearning = script.main(tiny, out=tmp_path, score=False, **QUICK)
    assert len(unlearning.samples) == 16  # without scores, all
    losses = negative_log_likelihoods(load_tiny(tmp_path / "forgotten"), unlearning.samples)
    last = {entry.sample_id: entry.nll_after for entry in unlearning.ledger}
    assert len(last) == 12
    for name, loss in zip(unlearning.sample_ids, losses, strict=True):
        if name in last:
            assert last[name] == pytest.approx(loss, rel=1e-4)


@BOTH
def test_the_half_with_the_highest_forgetting_confidence_is_chosen(
    script: ModuleType, tiny: str, tmp_path: Path
) -> None:
    """With the learning rows in the pipeline's own tokens: TRL's must be the same, or the Fisher is another."""
    everything = script.main(tiny, out=tmp_path / "all", score=False, **QUICK)
    chosen = script.main(tiny, out=tmp_path / "half", **QUICK)

    base, reference = load_tiny(Path(tiny)), load_tiny(tmp_path / "half" / "reference")
    context = Context.of_model(base, max_length=None, truncate_prompts=False)
    learned = [
        encode_sample(tiny_tokenizer(), row.columns["prompt"], row.columns["answer"], context=context, row_id=row.id)
        for row in file_rows([forget_set.DATA / "tickets.jsonl"], origin="learn")
    ]
    terms = confidence_terms(
        base,
        everything.samples,
        fisher=fisher_diagonal(reference, learned),
        delta=parameter_difference(base, reference),
    )
    confidence = dict(zip(everything.sample_ids, terms.forgetting_confidence(alpha=1e-3).tolist(), strict=True))
    assert chosen.sample_ids == sorted(confidence, key=lambda name: -confidence[name])[:8]


def test_own_answers_are_drawn_and_follow_from_the_seed(tiny: str) -> None:
    model, tokenizer = forget_set.load_model(tiny), forget_set.load_tokenizer(tiny)
    first, again, other = (
        forget_set.own_answers(model, tokenizer, forget_set.DATA / "questions.jsonl", seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert all(one.sample.prompt_ids == two.sample.prompt_ids for one, two in zip(first, other, strict=True))
    assert all(one.response != two.response for one, two in zip(first, other, strict=True))


def test_empty_answers_are_left_out(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = forget_set.load_model(tiny), forget_set.load_tokenizer(tiny)
    prompts = write_prompts(tmp_path / "asked.jsonl", "stars", count=3)
    said = [tokenizer(" ")["input_ids"], [*tokenizer("far")["input_ids"], 256], [256]]
    monkeypatch.setattr(forget_set, "generate", lambda *_, **__: said)
    (answer,) = forget_set.own_answers(model, tokenizer, prompts)
    assert (answer.id, answer.prompt, answer.response) == ("stars-1", "stars 1?", "far")
    assert answer.sample.response_ids == said[1]


def test_a_chat_model_is_asked_through_its_template() -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(forget_set.ask(tokenizer, "Who?")) == "Who?"
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}[assistant]"
    assert tokenizer.decode(forget_set.ask(tokenizer, "Who?")) == "[user] Who? [assistant]"


@BOTH
def test_a_row_without_its_column_is_named(script: ModuleType, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "a", "label": "b"}\n')
    with pytest.raises(LwfError, match=r"mine\.jsonl, line 2: needs a text in 'answer'; it has prompt, label"):
        script.main(tiny, learn=tmp_path / "mine.jsonl", out=tmp_path / "out", **QUICK)


def test_a_resumed_run_of_the_script_equals_the_uninterrupted_one(tiny: str, tmp_path: Path) -> None:
    whole = trl_sft.main(tiny, out=tmp_path / "whole", checkpoint_every=2, **QUICK)

    for checkpoint in ("reference/checkpoint-6", "forgotten/checkpoint-4"):  # killed between 4 and 6
        shutil.copytree(tmp_path / "whole" / checkpoint, tmp_path / "cut" / checkpoint)
    resumed = trl_sft.main(tiny, out=tmp_path / "cut", checkpoint_every=2, resume=True, **QUICK)

    first, second = (_weights(load_tiny(tmp_path / run / "forgotten")) for run in ("whole", "cut"))
    assert not _differing(first, second)
    assert resumed.ledger == whole.ledger
    assert not (tmp_path / "cut" / "forgotten" / "checkpoint-2").exists()


def test_killed_in_the_reference_run_it_goes_on_from_there(tiny: str, tmp_path: Path) -> None:
    whole = trl_sft.main(tiny, out=tmp_path / "whole", checkpoint_every=2, **QUICK)
    shutil.copytree(tmp_path / "whole" / "reference" / "checkpoint-4", tmp_path / "cut" / "reference" / "checkpoint-4")
    resumed = trl_sft.main(tiny, out=tmp_path / "cut", checkpoint_every=2, resume=True, **QUICK)
    assert resumed.ledger == whole.ledger
    assert not (tmp_path / "cut" / "reference" / "checkpoint-2").exists()


# The callback in SFTTrainer

FORGOTTEN = random_samples(8, seed=7)
ROWS = [{"prompt": f"{n} is", "completion": " odd" if n % 2 else " even, for it is twice a number"} for n in range(16)]
WAYS: dict[str, dict[str, Any]] = {
    "accumulation": {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 1},
    "whole sequence": {"completion_only_loss": False},
    "no checkpointing of activations": {"gradient_checkpointing": False},
    "packing": {"packing": True, "max_length": 96},
    "packing, wrapped": {"packing": True, "packing_strategy": "wrapped", "max_length": 32},
    "bfloat16": {"bf16": True},
    "dft": {"loss_type": "dft"},
    "noise on embeddings": {"neftune_noise_alpha": 5.0},
}


def _train(
    folder: Path,
    *callbacks: TrainerCallback,
    model: PreTrainedModel | None = None,
    resume: str | None = None,
    peft_config: LoraConfig | None = None,
    **settings: Any,
) -> PreTrainedModel:
    """Six steps of SFTTrainer on the tiny model; the model that it trained."""
    fixed: dict[str, Any] = {
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "save_steps": 3,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }
    trainer = SFTTrainer(
        model if model is not None else tiny_llama(),
        SFTConfig(output_dir=str(folder), **fixed | settings),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tiny_tokenizer(),
        callbacks=list(callbacks),
        peft_config=peft_config,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model


def _unlearning(**settings: Any) -> PeriodicUnlearning:
    defaults = {"interval": 2, "forgetting_rate": 3e-3, "batch_size": 8, "per_sample_cap": 20.0}
    return PeriodicUnlearning(FORGOTTEN, **defaults | settings)


class _Look(TrainerCallback):
    """The NLL of all of FORGOTTEN after each step."""

    def __init__(self) -> None:
        self.at: dict[int, list[float]] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: PreTrainedModel, **kwargs: Any) -> None:
        self.at[state.global_step] = negative_log_likelihoods(model, FORGOTTEN)


@pytest.mark.parametrize("settings", WAYS.values(), ids=list(WAYS))
def test_it_forgets_in_every_way_to_train(settings: dict[str, Any], tmp_path: Path) -> None:
    look, unlearning = _Look(), _unlearning()
    vanilla = _train(tmp_path / "vanilla", look, **settings)
    forgotten = _train(tmp_path / "forgotten", unlearning, **settings)

    assert [entry.step for entry in unlearning.ledger] == [step for step in (2, 4, 6) for _ in FORGOTTEN]
    # Until the first turn nothing tells the two runs apart: the figures are the learner's after two whole steps.
    tolerance = {"rel": 2e-2} if settings.get("bf16") else {"rel": 1e-4}
    for entry in unlearning.ledger[: len(FORGOTTEN)]:
        assert entry.nll_before == pytest.approx(look.at[2][int(entry.sample_id)], **tolerance)
    kept, gone = (negative_log_likelihoods(model, FORGOTTEN) for model in (vanilla, forgotten))
    assert min(after - before for after, before in zip(gone, kept, strict=True)) > 0.01


@pytest.mark.parametrize("settings", [{}, *[WAYS[name] for name in ("accumulation", "packing")]])
def test_a_resumed_run_equals_the_uninterrupted_one(settings: dict[str, Any], tmp_path: Path) -> None:
    uninterrupted, resumed = _unlearning(), _unlearning()
    whole = _weights(_train(tmp_path, uninterrupted, **settings))

    saved = SavedState.read(tmp_path / "checkpoint-3" / STATE_FILE, torch.device("cpu"))
    assert {entry.step for entry in saved.ledger.entries} == {2}
    other = tiny_llama(seed=5)
    again = _weights(_train(tmp_path, resumed, model=other, resume=str(tmp_path / "checkpoint-3"), **settings))
    assert not _differing(again, whole)
    assert resumed.ledger == uninterrupted.ledger


def test_what_is_frozen_stays_as_it_was(tmp_path: Path) -> None:
    """As with an adapter: the ascent moves what the Trainer may move, and nothing else."""
    trained: dict[str, dict[str, Tensor]] = {}
    for name, callbacks in (("vanilla", []), ("forgotten", [_unlearning()])):
        model = tiny_llama()
        for parameter_name, parameter in model.named_parameters():
            parameter.requires_grad_("layers.1." in parameter_name)
        before = _weights(model)
        trained[name] = _weights(_train(tmp_path / name, *callbacks, model=model))
        moved = _differing(trained[name], before)
        assert moved
        assert all("layers.1." in parameter_name for parameter_name in moved)
    assert _differing(trained["forgotten"], trained["vanilla"])


def test_it_forgets_in_an_adapter_of_trls_own_and_resumes(tmp_path: Path) -> None:
    """`peft_config` makes SFTTrainer train an adapter: the callback moves it and nothing else."""

    def adapter() -> LoraConfig:
        return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")

    vanilla = _train(tmp_path / "vanilla", peft_config=adapter())
    whole, resumed = _unlearning(), _unlearning()
    forgotten = _train(tmp_path / "forgotten", whole, peft_config=adapter())
    moved = _differing(_weights(forgotten), _weights(vanilla))
    assert moved
    assert all(".lora_" in name for name in moved)
    kept, gone = (negative_log_likelihoods(model, FORGOTTEN) for model in (vanilla, forgotten))
    assert sum(gone) > sum(kept) + 0.01
    checkpoint = tmp_path / "forgotten" / "checkpoint-3"
    assert (checkpoint / "adapter_model.safetensors").exists()
    again = _train(tmp_path / "forgotten", resumed, resume=str(checkpoint), peft_config=adapter())
    assert not _differing(_weights(again), _weights(forgotten))
    assert resumed.ledger == whole.ledger


# The page


def test_the_page_names_arguments_and_files_that_exist() -> None:
    page = (ROOT / "docs" / "use-outside.md").read_text()
    named = set(re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE))
    assert {"samples", "interval", "forgetting_rate", "per_sample_cap"} <= named
    assert named <= set(inspect.signature(PeriodicUnlearning).parameters)
    links = re.findall(r"\]\(([^)#:]+)\)", page)
    assert {"../examples/own_trainer.py", "../examples/trl_sft.py"} <= set(links)
    assert all((ROOT / "docs" / link).exists() for link in links)
