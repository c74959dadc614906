"""BackPACK: per-sample gradients from module extensions, with what this model needs added by hand.

It has no rule for Llama's norm, for which its documentation has the user write one, and of a tied parameter's two uses
it keeps one: so the head gets a weight of its own, and the gradients of both uses are added before they are squared.
(That is why `BatchGrad` and not the cheaper `SumGradSquared`: squares of a sum cannot be had from sums of squares.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.methods.method import Method, Result
from benchmarks.problem import Problem
from lwf_assets.engine.loss import sample_losses


def _prepare(problem: Problem) -> Callable[[], Result]:
    from backpack import backpack, extend

    model = copy.deepcopy(problem.model)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = next(name for name, parameter in model.named_parameters() if parameter is embedding.weight)
    head.weight = nn.Parameter(head.weight.detach().clone())
    embedding.padding_idx = None  # it takes no embedding that has one
    extend(model)
    extension = _extension()
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter is not head.weight}

    def run() -> Result:
        sums = {name: torch.zeros_like(parameter, requires_grad=False) for name, parameter in parameters.items()}
        for batch in problem.batches():
            with backpack(extension):
                sample_losses(model, batch).sum().backward()  # type: ignore[no-untyped-call]
            for name, parameter in parameters.items():
                gradients = parameter.grad_batch
                if name == tied:
                    gradients += head.weight.grad_batch
                    del head.weight.grad_batch
                sums[name] += gradients.square_().sum(dim=0)
                del gradients, parameter.grad_batch
            model.zero_grad(set_to_none=True)
        return {name: total.div_(len(problem.samples)) for name, total in sums.items()}

    return run


def _extension() -> Any:
    """`BatchGrad` with a rule for Llama's norm, as BackPACK's documentation says how to add one."""
    from backpack.extensions import BatchGrad
    from backpack.extensions.firstorder.base import FirstOrderModuleExtension
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    class NormGradients(FirstOrderModuleExtension):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(params=["weight"])

        def weight(self, ext: Any, module: Any, g_inp: Any, g_out: tuple[Tensor], quantities: Any) -> Tensor:
            scale = torch.rsqrt(module.input0.pow(2).mean(dim=-1, keepdim=True) + module.variance_epsilon)
            gradients: Tensor = (g_out[0] * module.input0 * scale).sum(dim=1)
            return gradients

    extension = BatchGrad()
    extension.set_module_extension(LlamaRMSNorm, NormGradients())
    return extension


FISHER = Method(
    "backpack",
    "BackPACK: `BatchGrad`",
    "fisher",
    "peer",
    _prepare,
    package="backpack-for-pytorch",
    remark="by hand: a norm rule, an untied head, no padding index",
    chunks=(2, 4, 8),
)
