"""Which device computes, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

Autocast = Literal["auto", "bfloat16", "off"]


def best_device() -> torch.device:
    """The accelerator that torch finds, or the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None else torch.device("cpu")


@contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Within the block, products of fp32 values may be taken in TF32, or are exact; torch's own switch for matrices,
    which the kernels of `gradients/` follow too."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def use_bfloat16(autocast: Autocast, device: torch.device) -> bool:
    """Whether to compute in bfloat16: asked for, or `auto` on a device that multiplies in it natively."""
    if autocast != "auto":
        return autocast == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _cpu_multiplies_bfloat16()


def _cpu_multiplies_bfloat16() -> bool:
    # torch reports AVX-512 BF16 and AMX on x86 only through private calls; the kernel lists them.
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
