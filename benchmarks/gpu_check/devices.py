"""Whether two cards compute what one computes."""

from __future__ import annotations

import torch

from benchmarks.gpu_check.check import Check, Figure, Place, Skipped


def two_devices(place: Place) -> list[Figure]:
    """Relative errors of Fisher, terms and a fine-tune on two cards against one, under DDP and FSDP2."""
    from benchmarks.several_devices import DEVICES, check_two_devices

    if torch.cuda.device_count() < DEVICES or place.tiny:
        raise Skipped(f"it needs {DEVICES} cards")
    found = check_two_devices()
    return [
        Figure(f"error, {name}", entry["error"], entry["bound"], "", notes={"times as fast": found["ratios"].get(name)})
        for name, entry in found["errors"].items()
    ]


TWO_DEVICES = Check("two devices", "Two cards against one", two_devices, seconds=60, gib=5)
