"""Triton's compiler takes the kernels, for the cards that they are meant for. No GPU is needed for that.

The interpreter of the other tests takes Python that the compiler refuses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

COMPILES = """
import itertools, json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lwf_assets.engine.gradients import fused, kernels

CONTIGUOUS = {"left_row": 1, "right_column": 1, "result_column": 1, "fisher_column": 1, "delta_column": 1}
TYPES = {"keep": "*u8", "result": "*fp32", "fisher": "*bf16", "delta": "*bf16", "sums": "*fp32", "share": "fp32"}

ONE = {name: 1 for name in ("samples", "positions", "rows", "columns")}  # which Triton takes as constants

def shared_memory(kernel, label, dtype, tile, precision, architecture):
    constants = {
        "HEIGHT": tile.height, "WIDTH": tile.width, "DEPTH": tile.depth, "PRECISION": precision, "WIDEN": False,
        "KEEP": True, "NORM": True, **CONTIGUOUS, **(ONE if label == "one" else {}),
    }
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    types = {"left": dtype, "right": dtype, **TYPES}
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(kernel.arg_names) if n in types and n != "share"}
    return triton.compile(
        ASTSource(kernel, signature, constants, aligned),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": tile.warps, "num_stages": tile.stages},
    ).metadata.shared

found = {}
for (label, dtype, tile, precision), kernel in itertools.product(
    [
        ("large", "*bf16", fused.LARGE, "tf32"),
        ("small", "*bf16", fused.SMALL, "tf32"),
        ("one", "*bf16", fused.SMALL, "tf32"),
        ("tf32", "*fp32", fused.TF32, "tf32"),
        ("exact", "*fp32", fused.EXACT, "ieee"),
    ],
    [kernels.add_squares, kernels.weighted_row_sums],
):
    found[f"{label} {kernel.__name__}"] = shared_memory(kernel, label, dtype, tile, precision, int(sys.argv[1]))
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "kilobytes"), [(89, 99), (90, 227)], ids=["L4", "H100"])
def test_the_compiler_takes_the_kernels_and_they_fit_the_card(architecture: int, kilobytes: int) -> None:
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILES, str(architecture)],
        env={**environment, "TRITON_ALWAYS_COMPILE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shared = json.loads(done.stdout)
    assert len(shared) == 10
    assert max(shared.values()) <= kilobytes * 1024, shared
