"""Which token comes next, drawn so that it follows from the seed, the prompt and the step alone.

Every token of the vocabulary has a random number of its own, a hash of (seed, prompt, how often the prompt was asked
before, step, token), and the token with the largest logit plus Gumbel noise is taken (the Gumbel-max trick: Gumbel
1954, Maddison et al. 2014). That is a draw from the softmax. No generator keeps a state, so it does not matter which
prompts share a batch, nor on which device the draw is made.

Logits differ in their last bits when the same prompt is in another batch, because matrix products then add in another
order. Gumbel-max takes the same token unless the two best are that close. Looking up one uniform number in the
cumulative distribution would be cheaper, but every small step of that long staircase moves: with 49,152 tokens and
logits that differ by 1e-6 it takes another token in 2 of 1,000 draws, Gumbel-max in none of 4,000; with 1e-2, as in
bfloat16, in 300 of 1,000 and in 3.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

# Odd multipliers of splitmix64's finalizer (Steele et al. 2014), as signed integers: torch has no unsigned product.
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)
_LARGEST = 1 - 2.0**-24
"""The largest number below 1 in float32: at 1 the noise would be minus infinity."""


def numbers_of(prompts: Sequence[Sequence[int]]) -> list[int]:
    """How often each prompt stands earlier in the list: two draws for one prompt must differ."""
    seen = Counter[tuple[int, ...]]()
    numbers = []
    for prompt in map(tuple, prompts):
        numbers.append(seen[prompt])
        seen[prompt] += 1
    return numbers


def draw_keys(seed: int, prompt: Sequence[int], number: int, steps: int) -> list[int]:
    """A random 64-bit integer for each step of one response. Fewer steps give the first of the same."""
    name = f"{seed}/{number}/{','.join(map(str, prompt))}"
    keys: list[int] = np.frombuffer(hashlib.shake_128(name.encode()).digest(8 * steps), dtype="<i8").tolist()
    return keys


class Draws:
    """A logits processor after which the largest score is a draw, for greedy decoding of `model.generate`.

    Args:
        keys: one row for each prompt of the batch, of `draw_keys`; shape [prompts, steps], int64.
        prompt_tokens: length of the padded prompts.
    """

    def __init__(self, keys: Tensor, prompt_tokens: int) -> None:
        self._keys = keys
        self._prompt_tokens = prompt_tokens
        self._tokens: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` [prompts, vocabulary] in fp32, plus noise; those of minus infinity stay so."""
        if self._tokens is None:
            self._tokens = _scattered(torch.arange(scores.shape[-1], device=scores.device))
        step = input_ids.shape[1] - self._prompt_tokens
        return gumbel(self._keys[:, step, None] ^ self._tokens).add_(scores)


def gumbel(integers: Tensor) -> Tensor:
    """Standard Gumbel noise in fp32 from random int64, which are overwritten.

    What decides are the large values: minus the logarithm of a small exponential variable. That is formed from a number
    near 0, where fp32 has its full relative precision, so that a token of a probability of 1e-9 is drawn as often as it
    should be.
    """
    uniform = _mixed(integers).bitwise_and_((1 << 63) - 1).float().mul_(2.0**-63)
    exponential = uniform.clamp_(2.0**-63, _LARGEST).neg_().log1p_().neg_()
    return exponential.log_().neg_()


def _scattered(integers: Tensor) -> Tensor:
    """The small integers as random ones: of tokens side by side, the low bits alone would differ."""
    return _mixed(_mixed(integers.add(1)))


def _mixed(integers: Tensor) -> Tensor:
    """A hash, in place, of which the high bits are the good ones."""
    integers.mul_(_FIRST)
    integers.bitwise_xor_(integers >> 32)
    return integers.mul_(_SECOND)
