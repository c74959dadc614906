"""What FC is over: all parameters, the weights that carry an adapter, or the adapter's own parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal

from lwf_assets.fine_tuning.starting_model import starting_model
from lwf_assets.store.layout import optimum_folder

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from lwf_assets.engine.low_rank import LowRank
    from lwf_assets.graph.work import Work

Space = Literal["weights", "adapter"]


def parameters_of_space(model: PreTrainedModel, space: Space | None) -> Collection[str] | None:
    """The names, in a model that carries an adapter, of the parameters that FC is over; None for all."""
    from lwf_assets.engine.adapter import adapted_weights, adapter_parameters

    match space:
        case None:
            return None
        case "weights":
            return adapted_weights(model).keys()
        case "adapter":
            return adapter_parameters(model).keys()


def base_and_difference(work: Work, dtype: torch.dtype) -> tuple[PreTrainedModel, Mapping[str, Tensor | LowRank]]:
    """The model at theta_base, whose gradients FC takes, and theta_base - theta_L* by the names of its parameters, held
    as `dtype`.

    Over the weights that carry an adapter the difference is -s B A of the optimum's adapter, in factors. Over the
    adapter's own parameters theta_base is the adapter that the fine-tune of the first seed began with.
    """
    from lwf_assets.engine.adapter import adapter_parameters, updates
    from lwf_assets.engine.checkpoint import load_model, parameter_difference

    base, space = work.input("base_model"), work.study.confidence_space
    optimum = load_model(optimum_folder(work.input("reference_checkpoint")), work.base_of("reference_checkpoint"))
    if space == "weights":
        difference = {name: -factors for name, factors in updates(optimum).items()}
        del optimum  # before the base is loaded: it is as large
        return load_model(base), difference
    model = starting_model(work.study, base, work.study.seeds[0])
    if space is None:
        return model, parameter_difference(model, optimum, dtype)
    model = model.get_base_model()
    return model, parameter_difference(model, optimum, dtype, only=adapter_parameters(model).keys())
