"""One decoding step of a transformers model as a CUDA graph: its hundreds of kernels are launched as one.

A small model decodes as fast as Python can launch kernels, not as fast as the device computes. Capturing the launches
takes about as long as a few steps; compiling the step takes half a minute.

A graph repeats exactly the launches that were captured: what Python decided then is fixed, and all that changes must be
in tensors. That holds for a static cache of plain layers, which keeps its length in a tensor. The first steps are
compared with the model's own, so that a model for which it does not hold is found before it says anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers.cache_utils import StaticCache

Forward = Callable[..., Any]
Recorder = Callable[[Callable[[], "Tensor"], Callable[[], None]], tuple[Callable[[], object], "Tensor"]]
"""From a step that gives logits, and what undoes it, to a way to repeat it, and the logits that this overwrites."""

COMPARED_STEPS = 2
TOLERANCE = 0.02
"""Of the largest logit. The kernels are the same; a wrong position or mask changes logits as a whole."""


class CannotBeCapturedError(Exception):
    """Why this model's step cannot be repeated as a graph."""


def cuda_graph(run: Callable[[], Tensor], undo: Callable[[], None]) -> tuple[Callable[[], object], Tensor]:
    """The recorder for CUDA. What libraries set up at their first call must not be captured, so the step runs first."""
    here = torch.cuda.current_stream()
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(2):
            run()
            undo()
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = run()
    return graph.replay, logits


class CapturedStep:
    """Takes the place of the model's call for the decoding steps of one batch.

    Args:
        forward: the model.
        record: see `Recorder`.
    """

    def __init__(self, forward: Forward, record: Recorder = cuda_graph) -> None:
        self._forward = forward
        self._record = record
        self._held: dict[str, Tensor] = {}
        self._replay: Callable[[], object] | None = None
        self._logits: Tensor | None = None
        self._steps = 0

    def __call__(self, **inputs: Any) -> Any:
        """As the model's own call: of the next token of each row, with a static cache that is updated in place.

        Raises:
            CannotBeCapturedError: the cache was advanced or not, and is of no use any more.
        """
        from transformers.modeling_outputs import CausalLMOutputWithPast

        cache = inputs["past_key_values"]
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        undo = _rollback(cache)
        expected = None
        if self._steps < COMPARED_STEPS:
            expected = self._forward(**inputs).logits.clone()
            undo()
        if self._replay is None:
            self._held = {name: tensor.clone() for name, tensor in tensors.items()}
            step = inputs | self._held
            try:
                self._replay, self._logits = self._record(lambda: self._forward(**step).logits, undo)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise CannotBeCapturedError(str(error).splitlines()[0]) from error
        if _shapes(tensors) != _shapes(self._held):
            raise CannotBeCapturedError("the inputs of its steps differ in shape")
        for name, held in self._held.items():
            held.copy_(tensors[name])
        self._replay()
        assert self._logits is not None
        if expected is not None and not _alike(self._logits, expected):
            raise CannotBeCapturedError("its step, repeated, gives other logits")
        self._steps += 1
        return CausalLMOutputWithPast(logits=self._logits, past_key_values=cache)


def _rollback(cache: StaticCache) -> Callable[[], None]:
    """What sets the cache back to its present length; what is stored beyond that does not count."""
    from transformers.cache_utils import StaticLayer

    if any(type(layer) is not StaticLayer for layer in cache.layers):
        raise CannotBeCapturedError("its cache has layers that are not plain static ones")
    lengths = [(layer.cumulative_length, layer.cumulative_length.clone()) for layer in cache.layers]

    def undo() -> None:
        for length, value in lengths:
            length.copy_(value)

    return undo


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _alike(logits: Tensor, expected: Tensor) -> bool:
    return bool((logits - expected).abs().max() <= TOLERANCE * expected.abs().max())
