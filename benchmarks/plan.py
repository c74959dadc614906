"""How much is measured: the default fits into half an hour on two cores, `--quick` into seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.problem import mixed_lengths


@dataclass(frozen=True)
class Workload:
    """Samples of the race, their lengths in tokens, and in how many rounds each pace of method runs on them."""

    name: str
    lengths: list[int]
    rounds: dict[str, int]


@dataclass(frozen=True)
class Size:
    """A random Llama's size."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int


@dataclass(frozen=True)
class Experts:
    """A random Qwen3-MoE's size, the lengths of its samples in tokens, and in how many rounds all methods run."""

    hidden: int
    width: int
    experts: int
    chosen: int
    layers: int
    vocabulary: int
    lengths: list[int]
    rounds: int


@dataclass(frozen=True)
class Plan:
    """Everything that can be made smaller.

    `samples_axis`, `tokens_axis` and `sizes` are the points of the three growth curves; `growth_samples` and
    `growth_tokens` (per sample) are what stays fixed. A growth point is repeated until `growth_seconds` are over.
    Training is `training_steps` long, of which those up to `training_warm_up` are not counted, in batches of
    `training_batch` samples of `training_tokens`; `step_pairs` unlearning steps are timed beside a minimal one.
    `load_sides` are the learning tasks of a study, with as many forgetting tasks, and by which settings it is built.
    Artifacts of files of `shared_sizes` megabytes are published and fetched in `shared_rounds` rounds; studies of
    `shared_sides` tasks of each kind are planned from a shared store. Generation is of `new_tokens` for each of
    `prompts` prompts, `generation_batch` at once.
    """

    workloads: list[Workload]
    samples_axis: list[int]
    tokens_axis: list[int]
    sizes: list[Size]
    experts: Experts
    growth_samples: int
    growth_tokens: int
    growth_seconds: float
    training_rounds: int
    training_steps: int
    training_warm_up: int
    training_batch: int
    training_tokens: int
    step_pairs: int
    generation_rounds: int
    prompts: int
    new_tokens: int
    generation_batch: int
    load_sides: list[tuple[int, int]]
    shared_sizes: list[int]
    shared_rounds: int
    shared_sides: list[int]
    interval: int = field(default=5)


_COUNT = 16

FULL = Plan(
    workloads=[
        Workload("64 to 128 tokens", mixed_lengths(_COUNT, 64, 128), {"main": 7, "loop": 2, "peer": 0}),
        Workload("64 tokens", [64] * _COUNT, {"main": 7, "loop": 3, "peer": 2}),
        Workload("128 tokens", [128] * _COUNT, {"main": 3, "loop": 1, "peer": 0}),
    ],
    samples_axis=[1, 2, 4, 8, 16],
    tokens_axis=[32, 64, 128, 256],
    sizes=[
        Size("10M", 192, 512, 10, 3, 1, 32768),
        Size("40M", 384, 1024, 18, 6, 2, 32768),
        Size("135M", 576, 1536, 30, 9, 3, 49152),
    ],
    experts=Experts(256, 96, 32, 4, 7, 8192, mixed_lengths(_COUNT, 64, 128), 7),
    growth_samples=8,
    growth_tokens=64,
    growth_seconds=2.0,
    training_rounds=2,
    training_steps=35,
    training_warm_up=5,
    training_batch=8,
    training_tokens=32,
    step_pairs=7,
    generation_rounds=2,
    prompts=16,
    new_tokens=16,
    generation_batch=8,
    load_sides=[(4, 1), (10, 1), (30, 1), (30, 2)],
    shared_sizes=[256, 64, 64, *([1] * 8), *([0] * 8)],
    shared_rounds=4,
    shared_sides=[13],
)

_TINY = Size("tiny", 32, 48, 2, 4, 2, 61)

QUICK = Plan(
    workloads=[
        Workload("8 tokens", [8] * 4, {"main": 2, "loop": 2, "peer": 1}),
        Workload("6 to 12 tokens", mixed_lengths(4, 6, 12), {"main": 2, "loop": 1, "peer": 0}),
    ],
    samples_axis=[2, 4],
    tokens_axis=[8, 16],
    sizes=[_TINY, Size("small", 64, 96, 2, 4, 2, 61)],
    experts=Experts(32, 16, 4, 2, 2, 61, mixed_lengths(4, 6, 12), 2),
    growth_samples=2,
    growth_tokens=8,
    growth_seconds=0.0,
    training_rounds=1,
    training_steps=4,
    training_warm_up=2,
    training_batch=2,
    training_tokens=8,
    step_pairs=2,
    generation_rounds=1,
    prompts=4,
    new_tokens=2,
    generation_batch=2,
    load_sides=[(1, 1), (2, 1)],
    shared_sizes=[20, 1, 0],
    shared_rounds=1,
    shared_sides=[1],
    interval=2,
)
