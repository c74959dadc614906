"""The vLLM engine, against a stand-in of vLLM's interface: same law, same ends, nothing published with the model."""

from __future__ import annotations

import builtins
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import fake_vllm
import pytest
import torch
from by_hand import tiny_model
from scipy.stats import chisquare

from lwf_assets.engine.checkpoint import load_outline
from lwf_assets.engine.generation import Sampling, end_token_ids, generate, vllm_engine
from lwf_assets.engine.generation.vllm_engine import generate_with_vllm
from lwf_assets.errors import LwfError

PROMPTS = [[3, 9, 4], [5], [8, 8, 2, 30, 41, 12], [5], [17, 6]]
ENDS = [7, 11, 19, 30, 44, 52]
PUBLISHED_ENDS = {*range(0, 60, 2)}


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm.module())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    model = tiny_model("llama", spread=0.4)
    # What is published with it must not count; half of all tokens would end a response.
    model.generation_config.update(eos_token_id=[*PUBLISHED_ENDS], repetition_penalty=1.8, top_k=2, do_sample=True)
    model.save_pretrained(path)
    return path


def _responses(folder: Path, prompts: list[list[int]] = PROMPTS, **options: Any) -> list[list[int]]:
    settings = {"temperature": 1.0, "max_new_tokens": 12, "end_ids": ENDS, "seed": 3}
    kept = {name: options.pop(name) for name in ("shards",) if name in options}
    return generate_with_vllm(folder, prompts, Sampling(**settings | options), dtype="float32", **kept)


def test_greedy_responses_are_those_of_transformers(folder: Path) -> None:
    """Ends included, and no more of them than were given."""
    model = tiny_model("llama", spread=0.4)
    free = generate(model, PROMPTS, max_new_tokens=12, pad_id=1, end_ids=[])
    end = next(token for token in free[0][2:] if token not in PUBLISHED_ENDS)
    expected = generate(model, PROMPTS, max_new_tokens=12, pad_id=1, end_ids=[end])
    assert _responses(folder, temperature=None, end_ids=[end]) == expected
    assert expected[0][-1] == end
    assert any(PUBLISHED_ENDS & {*response[:-1]} for response in expected)


def test_the_model_is_loaded_as_it_is_stored_and_given_back(folder: Path) -> None:
    _responses(folder)
    (model,) = fake_vllm.LLM.made
    assert model.dtype == "float32"
    assert model.options == {"max_model_len": 6 + 12, "generation_config": "vllm"}
    assert not model.is_running


def test_it_is_given_back_after_an_error_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_vllm.LLM, "generate", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _responses(folder)
    assert not fake_vllm.LLM.made[0].is_running


def test_a_response_follows_from_seed_and_prompt(folder: Path) -> None:
    torch.manual_seed(1)
    responses = _responses(folder)
    torch.manual_seed(2)
    assert [*_responses(folder, PROMPTS[::-1])] == [
        responses[n] for n in (4, 1, 2, 3, 0)
    ]  # equal prompts change places
    assert responses[1] != responses[3]
    assert _responses(folder, [[5]]) == [responses[1]]
    assert _responses(folder, seed=4) != responses


def test_a_killed_run_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "SAVED_AT_ONCE", 2)
    expected = _responses(folder, shards=tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 3
    min(tmp_path.glob("*.json")).unlink()
    fake_vllm.LLM.made.clear()
    assert _responses(folder, shards=tmp_path) == expected
    assert fake_vllm.LLM.made[0].requests in (1, 2)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (1.6, 0.8)])
def test_draws_follow_the_models_distribution(folder: Path, temperature: float, top_p: float) -> None:
    """Chi-square of the engine's first tokens against those of the other engine."""
    draws, prompt = 1500, [3, 9, 4]
    ours = _responses(folder, [prompt] * draws, max_new_tokens=1, temperature=temperature, top_p=top_p)
    model = tiny_model("llama", spread=0.4)
    sampled = {"temperature": temperature, "top_p": top_p, "max_new_tokens": 1, "end_ids": ENDS, "pad_id": 1}
    theirs = generate(model, [prompt] * 20 * draws, batch_size=2000, **sampled)
    seen, expected = (Counter(token for (token,) in responses) for responses in (ours, theirs))
    assert set(seen) <= set(expected)
    common = [token for token, count in expected.items() if count >= 200]
    rest = [draws - sum(seen[token] for token in common), draws - sum(expected[token] for token in common) / 20]
    observed = [*[seen[token] for token in common], *rest[:1]]
    foreseen = [*[expected[token] / 20 for token in common], *rest[1:]]
    if foreseen[-1] < 5:
        observed, foreseen = observed[:-1], foreseen[:-1]
        foreseen = [value * sum(observed) / sum(foreseen) for value in foreseen]
    assert chisquare(observed, foreseen).pvalue > 0.001


def test_without_vllm_one_error_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(
        LwfError, match=r"^generation\.engine: vllm is not installed; .*pip install 'lwf-assets\[vllm\]'"
    ):
        _responses(folder)


def test_a_vllm_that_does_not_fit_the_machine_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def broken(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "vllm":
            raise ImportError("libcudart.so.13: cannot open shared object file")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(LwfError, match=r"generation\.engine: vllm cannot be imported \(libcudart"):
        _responses(folder)


@pytest.mark.parametrize("temperature", [0.005, 2.5])
def test_a_temperature_that_vllm_would_change_or_refuse_is_refused(folder: Path, temperature: float) -> None:
    with pytest.raises(LwfError, match=r"^generation\.temperature: .* from 0\.01 to 2"):
        _responses(folder, temperature=temperature)


def test_no_prompts(folder: Path) -> None:
    assert _responses(folder, []) == []
    assert fake_vllm.LLM.made == []


def test_an_outline_says_what_the_model_says(folder: Path) -> None:
    outline = load_outline(folder)
    assert end_token_ids(outline, 9) == sorted({*PUBLISHED_ENDS, 9})
    assert outline.config.hidden_size == tiny_model("llama").config.hidden_size
    assert all(parameter.is_meta for parameter in outline.parameters())
