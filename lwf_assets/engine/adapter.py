"""Low-rank adapters (LoRA; Hu et al., ICLR 2022) by PEFT: put on a model, saved, opened again, and read off.

An adapter adds W' = W + s B A to the weight of a linear layer, with B [outputs, rank] at zero in the beginning, A
[rank, inputs] random and s = alpha / rank. Only A and B are trained.

A model that carries an adapter names the weight of such a layer `q_proj.base_layer.weight`; everything here speaks of
it by its name in the base, `q_proj.weight`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lwf_assets.engine.low_rank import LowRank
from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.nn import Parameter
    from transformers import PreTrainedModel

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ALL_LINEAR: Literal["all-linear"] = "all-linear"
NAME = "default"
"""What PEFT calls an adapter that was given no name."""


def is_adapter(folder: Path) -> bool:
    """Whether the directory holds an adapter instead of a whole model."""
    return (folder / ADAPTER_CONFIG).is_file()


def add_adapter(
    model: PreTrainedModel,
    *,
    rank: int,
    alpha: int,
    dropout: float,
    targets: Literal["all-linear"] | Sequence[str],
    seed: int,
) -> PeftModel:
    """The model with a fresh adapter, which alone is trainable; computes the same as before.

    Args:
        model: the base; changed in place.
        rank: of the update of each weight.
        alpha: the update is scaled by alpha / rank.
        dropout: share of the adapter's inputs that are dropped in training.
        targets: `all-linear`, every linear layer but the output head, or how the names of the modules end.
        seed: of the adapter's starting weights, which follow from it and the model's layers alone.

    Raises:
        LwfError: a target that matches no linear layer, shared weights among the targets, or too high a rank.
    """
    from peft import LoraConfig, get_peft_model

    layers = target_layers(model, targets)
    for name, layer in layers.items():
        if rank > min(layer.weight.shape):
            least = min(min(other.weight.shape) for other in layers.values())
            rows, columns = layer.weight.shape
            raise LwfError(
                f"model.adapter.rank: {rank} is above what {name} can have, a weight of {rows} x {columns}; give at "
                f"most {least}, or take the layer out of model.adapter.targets"
            )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=sorted(layers),
        task_type="CAUSAL_LM",
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
    )
    with torch.random.fork_rng():  # PEFT draws from the global generator, which belongs to the caller
        torch.manual_seed(seed)
        return get_peft_model(model, config).train(model.training)


def target_layers(
    model: PreTrainedModel, targets: Literal["all-linear"] | Sequence[str]
) -> dict[str, nn.Linear | Conv1D]:
    """The layers that an adapter goes on, by name.

    Raises:
        LwfError: a target matches nothing, something else than a linear layer, or weights that another layer uses too.
    """
    modules = dict(model.named_modules())
    head = model.get_output_embeddings()
    linear = {name: module for name, module in modules.items() if isinstance(module, nn.Linear | Conv1D)}
    body = {name: module for name, module in linear.items() if module is not head}
    if targets == ALL_LINEAR:
        found = body
        if not found:
            raise LwfError("model.adapter.targets: the model has no linear layer but its output head")
    else:
        endings = ", ".join(sorted({name.rpartition(".")[2] for name in body})) or "nothing"
        names = [name for target in targets for name in _matching(modules, target, endings)]
        for name in names:
            if name not in linear:
                raise LwfError(
                    f"model.adapter.targets: {name} is a {type(modules[name]).__name__}; an adapter goes on linear "
                    f"layers, whose names here end in {endings}"
                )
        found = {name: linear[name] for name in names}
    users: dict[int, list[str]] = {}
    for name, module in modules.items():
        users.setdefault(id(getattr(module, "weight", None)), []).append(name)
    for name, layer in found.items():
        if len(sharing := users[id(layer.weight)]) > 1:
            raise LwfError(
                f"model.adapter.targets: {' and '.join(sharing)} are one weight (tied), and an adapter on {name} would "
                "change one use of it and not the other; leave it out of the targets"
            )
    return found


def _matching(modules: Mapping[str, nn.Module], target: str, endings: str) -> list[str]:
    matching = [name for name in modules if name == target or name.endswith(f".{target}")]
    if not matching:
        raise LwfError(
            f"model.adapter.targets: no module's name ends in {target!r}; those of linear layers here end in {endings}"
        )
    return matching


def save_adapter(model: PeftModel, folder: Path, *, base: str) -> None:
    """Write the adapter as PEFT reads it: its weights and its settings.

    Equal adapters give equal bytes, and no path of this machine is among them.

    Args:
        model: as `add_adapter` gives it.
        folder: made if need be.
        base: what the settings name as the model that it belongs to.
    """
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a template to be filled in
    rewrite_config(folder, base=base)


def rewrite_config(folder: Path, *, base: str, revision: str | None = None) -> None:
    """Let the settings of the adapter in `folder` name `base`; sets become sorted lists."""
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base, "revision": revision}
    if isinstance(config["target_modules"], list):
        config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def put_on(base: PreTrainedModel, folder: Path, *, merged: bool = False) -> PreTrainedModel:
    """`base` with the adapter in `folder`, frozen; or, with the update added to its weights, a plain model.

    Raises:
        LwfError: the adapter does not fit the model.
    """
    from peft import PeftModel

    try:
        carrying = PeftModel.from_pretrained(base, str(folder))
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise LwfError(f"{folder}: the adapter cannot be put on the model that it is opened with: {error}") from error
    model: PreTrainedModel = carrying.merge_and_unload() if merged else carrying.get_base_model()
    return model.requires_grad_(True) if merged else model


def base_parameters(model: nn.Module) -> dict[str, Parameter]:
    """The parameters of the base by their names in it, tied ones once, without those of an adapter; in the order of
    the model."""
    own = {id(parameter) for parameter in adapter_parameters(model).values()}
    return {base_name(name): p for name, p in model.named_parameters() if id(p) not in own}


def base_name(name: str) -> str:
    """A parameter's name in the base, from its name in a model that carries an adapter."""
    return name.replace(".base_layer.", ".")


def adapter_parameters(model: nn.Module) -> dict[str, Parameter]:
    """A and B of every layer that carries an adapter, by their names in the model."""
    return {
        f"{name}.{factor}.{NAME}.weight": getattr(layer, factor)[NAME].weight
        for name, layer in _layers(model)
        for factor in ("lora_A", "lora_B")
    }


def adapted_weights(model: nn.Module) -> dict[str, str]:
    """The weights that carry an adapter: the name of each in the base, by its name in the model."""
    return {f"{name}.base_layer.weight": f"{name}.weight" for name, _ in _layers(model)}


def updates(model: nn.Module) -> dict[str, LowRank]:
    """What the adapter adds to each weight, s B A, in fp32, by the weight's name in the base; in the weight's shape."""
    found = {}
    for name, layer in _layers(model):
        a, b = (getattr(layer, factor)[NAME].weight.detach().float() for factor in ("lora_A", "lora_B"))
        b = layer.scaling[NAME] * b
        # Conv1D keeps its weight as [inputs, outputs].
        found[f"{name}.weight"] = LowRank(a.T, b.T) if isinstance(layer.get_base_layer(), Conv1D) else LowRank(b, a)
    return found


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """PEFT's layers, without importing PEFT where there are none."""
    return ((name, module) for name, module in model.named_modules() if hasattr(module, "lora_A"))
