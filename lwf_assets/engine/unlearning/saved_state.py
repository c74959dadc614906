"""What a resumed run needs of its unlearning, in one safetensors file: nothing in it can be run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from lwf_assets.engine.unlearning.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_REST = "json"
"""The tensor whose bytes are what is no tensor, as JSON; a header of safetensors must not become that long."""
_REFERENCE = "reference_nll"


@dataclass(frozen=True)
class SavedState:
    """The unlearning's optimizer as its `state_dict` has it, the ledger, and the reference likelihoods, [samples]."""

    optimizer: dict[str, Any]
    ledger: Ledger
    reference_nll: Tensor | None

    def write(self, path: Path) -> None:
        """Into a file."""
        tensors, plain = dict[str, torch.Tensor](), dict[str, dict[str, Any]]()
        for index, values in self.optimizer["state"].items():
            plain[str(index)] = {name: value for name, value in values.items() if not torch.is_tensor(value)}
            for name, value in values.items():
                if torch.is_tensor(value):
                    tensors[f"{index}/{name}"] = value.contiguous()
        rest = {"groups": self.optimizer["param_groups"], "plain": plain, "ledger": self.ledger.to_save()}
        tensors[_REST] = torch.frombuffer(bytearray(json.dumps(rest).encode()), dtype=torch.uint8)
        if self.reference_nll is not None:
            tensors[_REFERENCE] = self.reference_nll
        save_file(tensors, path)

    @classmethod
    def read(cls, path: Path, device: torch.device) -> SavedState:
        """From a file, with all tensors on a device."""
        tensors = load_file(path, device=str(device))
        rest = json.loads(bytes(tensors.pop(_REST).cpu().numpy()))
        reference = tensors.pop(_REFERENCE, None)
        state: dict[int, dict[str, Any]] = {int(index): values for index, values in rest["plain"].items()}
        for name, tensor in tensors.items():
            index, _, what = name.partition("/")
            state[int(index)][what] = tensor
        return cls({"state": state, "param_groups": rest["groups"]}, Ledger(rest["ledger"]), reference)
