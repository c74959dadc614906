"""nngeometry: its diagonal matrix representation, asked for in the three ways that there are."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.methods.method import CannotDoItError, Method, Result, what_was_said
from benchmarks.problem import Problem
from lwf_assets.engine.loss import sample_losses
from lwf_assets.engine.samples import IGNORED, Batch, collate


def _prepare(problem: Problem) -> Callable[[], Result]:
    from nngeometry.layercollection import LayerCollection
    from nngeometry.metrics import FIM
    from nngeometry.object import PMatDiag

    model = copy.deepcopy(problem.model)
    batch = collate(problem.samples)

    def losses_of_ids(*rows: Tensor) -> Tensor:
        return sample_losses(model, Batch(*rows)).unsqueeze(1)

    def losses_of_vectors(vectors: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        logits = model(inputs_embeds=vectors, attention_mask=mask, use_cache=False).logits[:, :-1]
        losses = functional.cross_entropy(
            logits.transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none"
        ).sum(dim=1)
        return (losses / (labels[:, 1:] != IGNORED).sum(dim=1)).unsqueeze(1)

    def diagonal(first: Tensor, losses: Callable[..., Tensor], *, ignore_unsupported: bool) -> Result:
        layers = LayerCollection.from_model(model, ignore_unsupported_layers=ignore_unsupported)
        rows = DataLoader(TensorDataset(first, batch.attention_mask, batch.labels), batch_size=len(problem.samples))
        # With outputs that are losses, the Fisher information of a regression is their empirical Fisher.
        fisher = FIM(model, rows, PMatDiag, variant="regression", function=losses, layer_collection=layers)
        flat, given, at = fisher.get_diag(), {}, 0
        for name, parameter in layers.named_parameters(layers.get_layerid_module_maps(model)[0]):
            given[name] = flat[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()
        return {name: value for name, value in given.items() if name in problem.fisher}

    def run() -> Result:
        with torch.no_grad():
            vectors = model.get_input_embeddings()(batch.input_ids)
        attempts: dict[str, Callable[[], Result]] = {
            "all layers": lambda: diagonal(batch.input_ids, losses_of_ids, ignore_unsupported=False),
            "known layers alone": lambda: diagonal(batch.input_ids, losses_of_ids, ignore_unsupported=True),
            "known layers, from embedding vectors": lambda: diagonal(
                vectors, losses_of_vectors, ignore_unsupported=True
            ),
        }
        said = []
        for attempt, call in attempts.items():
            try:
                return call()
            except Exception as error:  # whatever a peer raises is its row's entry
                said.append(f"{attempt}: {what_was_said(error)}")
        raise CannotDoItError("; ".join(said))

    return run


FISHER = Method("nngeometry", "nngeometry: `FIM`, `PMatDiag`", "fisher", "peer", _prepare, package="nngeometry")
