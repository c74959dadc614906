"""Adapters against the arithmetic that they stand for: opened, merged, measured; per-sample gradients beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import gradients_by_hand, relative_error, same_bits, samples_of_all_lengths, tiny_model, weights
from tiny import load_tiny, random_samples, save_tiny_model, tiny_llama, tiny_tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from lwf_assets.engine.adapter import (
    adapted_weights,
    adapter_parameters,
    add_adapter,
    base_name,
    base_parameters,
    target_layers,
    updates,
)
from lwf_assets.engine.checkpoint import load_model, parameter_difference, save_model
from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.evaluation.weight_distance import weight_distance
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.errors import LwfError


def _trained(base: PreTrainedModel, *, rank: int = 3, targets: object = "all-linear", spread: float = 0.05) -> Any:
    """A PEFT model whose adapter is no longer at its start."""
    model = add_adapter(base, rank=rank, alpha=2 * rank, dropout=0.1, targets=targets, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapter_parameters(model).items():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model.eval()


def _merged_by_hand(base: PreTrainedModel, carrying: Any) -> PreTrainedModel:
    """W + alpha / rank * B A, written out; Conv1D keeps its weight as [inputs, outputs]."""
    with torch.no_grad():
        for name, module in base.named_modules():
            layer = carrying.get_base_model().get_submodule(name)
            if hasattr(layer, "lora_A"):
                product = 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
                module.weight += product.T if type(module).__name__ == "Conv1D" else product
    return base


def test_a_fresh_adapter_changes_nothing_and_follows_from_its_seed() -> None:
    samples = random_samples(4)
    before = negative_log_likelihoods(tiny_llama(), samples)
    bases = [tiny_llama() for _ in range(3)]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = (
        add_adapter(base, rank=4, alpha=8, dropout=0.0, targets="all-linear", seed=seed)
        for base, seed in zip(bases, (3, 3, 4), strict=True)
    )
    assert torch.equal(torch.rand(3), expected), "the caller's generator was used"
    assert negative_log_likelihoods(first.eval(), samples) == before
    assert same_bits(weights(first), weights(second))
    assert not same_bits(weights(first), weights(other))
    trainable = {name for name, parameter in first.named_parameters() if parameter.requires_grad}
    assert trainable == set(adapter_parameters(first))
    assert len(trainable) == 2 * 7 * 2


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_saved_and_opened_it_is_the_model_that_it_stands_for(architecture: str, tmp_path: Path) -> None:
    base, samples = tiny_model(architecture), samples_of_all_lengths()
    base.save_pretrained(tmp_path / "base")
    carrying = _trained(tiny_model(architecture))
    save_model(carrying, tiny_tokenizer(), tmp_path / "adapter", base="the base")
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= files
    assert not {"model.safetensors", "README.md"} & files

    by_hand = _merged_by_hand(load_tiny(tmp_path / "base"), carrying)
    expected = negative_log_likelihoods(by_hand, samples)
    opened = load_model(tmp_path / "adapter", tmp_path / "base")
    merged = load_model(tmp_path / "adapter", tmp_path / "base", merged=True)
    assert negative_log_likelihoods(opened, samples) == pytest.approx(expected, rel=1e-5)
    assert negative_log_likelihoods(opened, samples) != pytest.approx(negative_log_likelihoods(base, samples), rel=1e-3)
    assert relative_error(weights(merged), weights(by_hand)) < 1e-6
    assert all(parameter.requires_grad for parameter in merged.parameters())
    dense = {name: factors[...] for name, factors in updates(opened).items()}
    assert (
        relative_error(
            {name: value + dense.get(name, 0) for name, value in base_parameters(opened).items()}, weights(by_hand)
        )
        < 1e-6
    )
    for name, factors in updates(opened).items():
        assert factors.shape == dense[name].shape
        assert torch.allclose(factors[2:5], dense[name][2:5], atol=1e-7)
        assert torch.equal((-factors)[...], -dense[name])
    found, expected_distance = weight_distance(opened, base), weight_distance(by_hand, base)
    assert found.total == pytest.approx(expected_distance.total, rel=1e-4)
    assert found.relative == pytest.approx(expected_distance.relative, rel=1e-4)


def test_a_merge_in_bfloat16_would_lose_the_update_and_the_opened_adapter_does_not(tmp_path: Path) -> None:
    base, samples = tiny_llama().to(torch.bfloat16), random_samples(6)
    base.save_pretrained(tmp_path / "base")
    carrying = _trained(base, spread=1e-4)
    save_model(carrying, tiny_tokenizer(), tmp_path / "adapter")
    merged = load_model(tmp_path / "adapter", tmp_path / "base", merged=True)
    expected = weight_distance(merged, load_tiny(tmp_path / "base").float()).total
    opened = load_model(tmp_path / "adapter", tmp_path / "base")
    assert {p.dtype for p in base_parameters(opened).values()} == {torch.bfloat16}
    assert {p.dtype for p in adapter_parameters(opened).values()} == {torch.float32}
    assert weight_distance(opened, load_tiny(tmp_path / "base")).total == pytest.approx(expected, rel=1e-3)
    rounded = load_model(tmp_path / "adapter", tmp_path / "base", merged=True).bfloat16().float()
    assert weight_distance(rounded, merged).total > 0.5 * expected
    assert len(negative_log_likelihoods(opened, samples)) == 6


WRITE = """
import sys
from pathlib import Path
from tiny import tiny_llama, tiny_tokenizer
from lwf_assets.engine.adapter import add_adapter
from lwf_assets.engine.checkpoint import save_model
model = add_adapter(tiny_llama(layers=4), rank=2, alpha=4, dropout=0.0, targets="all-linear", seed=1)
save_model(model, tiny_tokenizer(), Path(sys.argv[1]), base="a base")
"""


def test_equal_adapters_are_equal_files_with_no_path_in_them(tmp_path: Path) -> None:
    """PEFT keeps the targets in a set, whose order differs from process to process."""
    written = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        folder = tmp_path / seed
        subprocess.run([sys.executable, "-c", WRITE, str(folder)], env=environment, check=True, capture_output=True)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]
    config = json.loads(written[0]["adapter_config.json"])
    assert config["base_model_name_or_path"] == "a base"
    assert str(tmp_path) not in written[0]["adapter_config.json"].decode()


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_fisher_of_the_weights_that_carry_an_adapter_equals_the_loop(architecture: str, tmp_path: Path) -> None:
    """Of frozen weights, beside the adapter: the same as of the plain model with the adapter merged."""
    samples = samples_of_all_lengths()
    carrying = _trained(tiny_model(architecture)).get_base_model()
    merged = _merged_by_hand(tiny_model(architecture), _trained(tiny_model(architecture)))
    by_hand = gradients_by_hand(merged, samples, "mean")
    frozen = {name: parameter.requires_grad for name, parameter in carrying.named_parameters()}
    names = adapted_weights(carrying)

    fisher = fisher_diagonal(carrying, samples, only=names, batch_size=4)

    assert set(fisher) == set(names)
    assert not any(frozen[name] for name in names)
    assert {name: parameter.requires_grad for name, parameter in carrying.named_parameters()} == frozen
    expected = {n: torch.stack([one[n] ** 2 for one in by_hand]).mean(dim=0) for n in names.values()}
    assert relative_error({names[name]: value for name, value in fisher.items()}, expected) < 2e-4


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_terms_over_the_weights_equal_the_literal_formula(architecture: str) -> None:
    """1/2 sum F (W - alpha g - W*)^2 over the matrices that carry an adapter; W* = W + s B A is never formed whole."""
    samples, alpha = samples_of_all_lengths(), 1e-2
    base = tiny_model(architecture)
    carrying = _trained(tiny_model(architecture)).get_base_model()
    names = adapted_weights(carrying)
    fisher = {names[n]: value for n, value in fisher_diagonal(carrying, samples, only=names).items()}
    delta = {name: -factors for name, factors in updates(carrying).items()}

    terms = confidence_terms(base, samples, fisher=fisher, delta=delta, only=fisher.keys(), batch_size=4)

    theirs = weights(_merged_by_hand(tiny_model(architecture), _trained(tiny_model(architecture))))
    gradients = gradients_by_hand(base, samples, "mean")

    def total(of: object) -> float:
        return sum(of(name).double().sum().item() for name in fisher)

    mine = weights(base)
    difference = {name: mine[name].double() - theirs[name].double() for name in fisher}
    literal = [total(lambda n, g=g: 0.5 * fisher[n].double() * (difference[n] - alpha * g[n]) ** 2) for g in gradients]
    assert np.allclose(terms.forgetting_confidence(alpha), literal, rtol=1e-4)
    linear = np.array([total(lambda n, g=g: fisher[n].double() * difference[n] * g[n]) for g in gradients])
    assert np.linalg.norm(terms.linear - linear) < 1e-4 * np.linalg.norm(linear)
    norms = [total(lambda n, g=g: g[n] ** 2) ** 0.5 for g in gradients]
    assert np.allclose(terms.gradient_norm, norms, rtol=1e-4)


def test_fisher_and_terms_over_the_adapters_own_parameters_equal_the_loop() -> None:
    samples = samples_of_all_lengths()
    learned = _trained(tiny_model("llama")).get_base_model()
    carrying = add_adapter(tiny_model("llama"), rank=3, alpha=6, dropout=0.1, targets="all-linear", seed=0)
    fresh: Any = carrying.eval().get_base_model()
    names = list(adapter_parameters(learned))
    fisher = fisher_diagonal(learned, samples, only=names)
    by_hand = gradients_by_hand(learned, samples, "mean")
    expected = {name: torch.stack([one[name] ** 2 for one in by_hand]).mean(dim=0) for name in names}
    assert relative_error(fisher, expected) < 2e-4

    delta = parameter_difference(fresh, learned, only=names)
    terms = confidence_terms(fresh, samples, fisher=fisher, delta=delta, only=names)
    gradients = gradients_by_hand(fresh, samples, "mean")
    assert all(float(one[name].abs().max()) == 0 for one in gradients for name in names if "lora_A" in name)
    quadratic = [sum((0.5 * fisher[n].double() * g[n] ** 2).sum().item() for n in names) for g in gradients]
    linear = [sum((fisher[n].double() * delta[n].double() * g[n]).sum().item() for n in names) for g in gradients]
    assert np.allclose(terms.quadratic, quadratic, rtol=1e-4)
    assert np.linalg.norm(terms.linear - linear) < 1e-4 * np.linalg.norm(linear)


def test_a_subset_must_be_of_the_model() -> None:
    samples = random_samples(2)
    with pytest.raises(ValueError, match="nowhere"):
        fisher_diagonal(tiny_llama(), samples, only=["nowhere.weight"])
    with pytest.raises(ValueError, match="not parameters"):
        fisher_diagonal(tiny_llama(), samples, only=[])


@pytest.mark.parametrize(
    ("targets", "rank", "message"),
    [
        (["q_prj"], 4, r"model\.adapter\.targets: no module's name ends in 'q_prj'; .* end in down_proj, .*v_proj"),
        (["q_proj", "mlp"], 4, r"model\.adapter\.targets: model\.layers\.0\.mlp is a LlamaMLP; .* linear layers"),
        (["norm"], 4, r"model\.adapter\.targets: .*norm is a LlamaRMSNorm"),
        (["q_proj"], 33, r"model\.adapter\.rank: 33 is above what model\.layers\.0\.self_attn\.q_proj can .* most 32"),
        ("all-linear", 20, r"model\.adapter\.rank: 20 is above .*k_proj.* 16 x 32; give at most 16"),
        (["lm_head"], 4, r"model\.adapter\.targets: model\.embed_tokens and lm_head are one weight \(tied\)"),
    ],
)
def test_a_target_or_a_rank_that_cannot_be(targets: object, rank: int, message: str) -> None:
    with pytest.raises(LwfError, match=message):
        add_adapter(tiny_llama(), rank=rank, alpha=8, dropout=0.0, targets=targets, seed=0)


def test_embeddings_of_their_own_are_no_linear_layer_and_an_untied_head_is_one() -> None:
    model = tiny_llama(tied=False)
    with pytest.raises(LwfError, match="embed_tokens is a Embedding"):
        target_layers(model, ["embed_tokens"])
    assert list(target_layers(model, ["lm_head"])) == ["lm_head"]
    assert "lm_head" not in target_layers(model, "all-linear")


def test_an_adapter_without_its_base_or_on_another(tmp_path: Path) -> None:
    save_model(_trained(tiny_llama()), tiny_tokenizer(), tmp_path / "adapter")
    with pytest.raises(LwfError, match="holds an adapter and no whole model"):
        load_model(tmp_path / "adapter")
    save_tiny_model(tmp_path / "wider", model=tiny_llama(hidden=64))
    with pytest.raises(LwfError, match="cannot be put on the model"):
        load_model(tmp_path / "adapter", tmp_path / "wider")


def test_names_in_the_base() -> None:
    carrying = _trained(tiny_llama()).get_base_model()
    assert set(base_parameters(carrying)) == {name for name, _ in tiny_llama().named_parameters()}
    assert {base_name(name) for name in adapted_weights(carrying)} == set(adapted_weights(carrying).values())
    value: Tensor = next(iter(updates(carrying).values()))[...]
    assert value.dtype == torch.float32
