"""Static caches, captured and compiled steps give the tokens that the plain way gives."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from by_hand import tiny_model
from recorded import recorded
from tiny import tiny_llama
from transformers import GenerationMixin, MistralConfig, MistralForCausalLM, PreTrainedModel

from lwf_assets.engine.generation import decoding, generate
from lwf_assets.engine.generation.captured_step import CapturedStep
from lwf_assets.engine.generation.decoding import STEPS_TO_COMPILE, Decoding, best_decoding

LENGTHS = (1, 20, 3, 3, 8, 13, 2)
ENDS = [7, 11, 19, 30, 44, 52]


def _responses(model: PreTrainedModel, how: Decoding | None, **settings: Any) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(2, 61, (length,), generator=generator).tolist() for length in LENGTHS]
    arguments = {"max_new_tokens": 12, "pad_id": 1, "end_ids": ENDS, "temperature": 1.0, "batch_size": 3}
    return generate(model, prompts, decoding=how, **arguments | settings)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, transformers asks for the compiled step where it is ours, and the step is recorded and repeated."""
    monkeypatch.setattr(
        GenerationMixin, "_valid_auto_compile_criteria", lambda model, *_: "get_compiled_call" in vars(model)
    )
    monkeypatch.setattr(decoding, "CapturedStep", partial(CapturedStep, record=recorded))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "gemma", "opt", "mixtral"])
@pytest.mark.parametrize("temperature", [None, 1.0])
def test_a_static_cache_gives_the_same_tokens(architecture: str, temperature: float | None) -> None:
    """`compiled` is on a CPU a static cache alone, with the last batch filled up."""
    model = tiny_model(architecture, spread=0.4)
    static = _responses(model, "compiled", temperature=temperature)
    assert static == _responses(model, "plain", temperature=temperature)
    assert temperature is None or len({len(response) for response in static}) > 1


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "gemma"])
@pytest.mark.parametrize("temperature", [None, 1.0])
@pytest.mark.usefixtures("on_a_gpu")
def test_a_captured_step_gives_the_same_tokens(
    architecture: str, temperature: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(architecture, spread=0.4)
    before = vars(model).copy()
    calls = _count_calls(model)
    captured = _responses(model, "captured", temperature=temperature)
    assert not caplog.records
    # Of each of three batches: its prompts, the recording, and the two steps that are compared.
    assert len(calls) == 3 * (1 + 1 + 2)
    assert vars(model).keys() - before.keys() <= {"_previous_max_cache_length"}
    assert captured == _responses(model, "plain", temperature=temperature)


def _count_calls(model: PreTrainedModel) -> list[int]:
    calls: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    return calls


@pytest.mark.usefixtures("on_a_gpu")
def test_a_step_that_python_decides_about_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """Its logits depend on how often Python called it, which no graph knows: the second step shows it."""

    class Moody(type(tiny_llama())):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            length = int(kwargs["past_key_values"].get_seq_length())
            output.logits[..., length % 50] += 3
            return output

    model = tiny_llama()
    model.__class__ = Moody
    captured = _responses(model, "captured")
    assert [record.message for record in caplog.records] == [
        "Moody is decoded step by step, without a CUDA graph: its step, repeated, gives other logits"
    ]
    assert captured == _responses(model, "plain")


@pytest.mark.usefixtures("on_a_gpu")
def test_a_cache_that_counts_in_python_is_not_captured(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=61, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=4, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    captured = _responses(model, "captured")
    assert "not plain static ones" in caplog.text
    assert captured == _responses(model, "plain")


def _refuses(error: Exception) -> Any:
    def record(run: Any, undo: Any) -> Any:
        raise error

    return partial(CapturedStep, record=record)


@pytest.mark.usefixtures("on_a_gpu")
def test_a_device_that_refuses_to_capture_decodes_plainly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_llama()
    monkeypatch.setattr(decoding, "CapturedStep", _refuses(RuntimeError("operation not permitted\nwhile capturing")))
    assert _responses(model, "captured") == _responses(model, "plain")
    assert [record.message for record in caplog.records] == [
        "LlamaForCausalLM is decoded step by step, without a CUDA graph: operation not permitted"
    ]


@pytest.mark.usefixtures("on_a_gpu")
def test_memory_that_runs_out_is_not_taken_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "CapturedStep", _refuses(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        _responses(tiny_llama(), "captured")


def test_a_compiled_batch_that_does_not_fit_is_not_filled_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = tiny_llama(), list[int]()
    expected, original = _responses(model, "plain"), model.generate

    def limited(*, input_ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
        rows.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(input_ids=input_ids, **arguments)

    monkeypatch.setattr(model, "generate", limited)
    assert _responses(model, "compiled", batch_size=4) == expected
    assert rows == [4, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("device", "steps", "expected"),
    [
        ("cpu", 10**6, "plain"),
        ("cuda", 64, "captured"),
        ("cuda", STEPS_TO_COMPILE - 1, "captured"),
        ("cuda", STEPS_TO_COMPILE, "compiled"),
    ],
)
def test_long_work_on_a_gpu_is_compiled(
    device: str, steps: int, expected: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreTrainedModel, "device", torch.device(device))
    assert best_decoding(tiny_llama(), steps) == expected


def test_a_model_that_takes_no_static_cache_is_decoded_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PreTrainedModel, "device", torch.device("cuda"))
    model = tiny_llama()
    model._can_compile_fullgraph = False
    assert best_decoding(model, 10**6) == "plain"


@pytest.mark.slow
def test_a_compiled_step_gives_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's own compiler, for the CPU."""
    monkeypatch.setattr(GenerationMixin, "_valid_auto_compile_criteria", lambda *_: True)
    torch._dynamo.reset()
    model = tiny_llama()
    with torch._dynamo.config.patch(error_on_recompile=True):  # one shape for all batches
        compiled = _responses(model, "compiled")
    assert hasattr(model, "_compiled_call")
    assert compiled == _responses(model, "plain")
