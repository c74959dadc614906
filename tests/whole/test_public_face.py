"""What `lwf_assets` offers at its top, and that it costs nothing to import."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from places import ROOT
from tiny import random_samples, tiny_llama

import lwf_assets
from lwf_assets import PeriodicUnlearning, Sample, confidence_terms, fisher_diagonal, load_study
from lwf_assets.engine import confidence, fisher, samples
from lwf_assets.engine.unlearning import periodic
from lwf_assets.study import file


def test_the_names_are_those_of_their_modules() -> None:
    assert fisher_diagonal is fisher.fisher_diagonal
    assert confidence_terms is confidence.confidence_terms
    assert Sample is samples.Sample
    assert PeriodicUnlearning is periodic.PeriodicUnlearning
    assert load_study is file.load_study
    assert set(lwf_assets.__all__) <= set(dir(lwf_assets))


def test_a_notebook_needs_nothing_else() -> None:
    model, scored = tiny_llama(), random_samples(4)
    diagonal = fisher_diagonal(model, scored)
    terms = confidence_terms(
        model, scored, fisher=diagonal, delta={name: torch.ones_like(value) for name, value in diagonal.items()}
    )
    assert terms.constant == pytest.approx(0.5 * sum(float(value.sum()) for value in diagonal.values()), rel=1e-5)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fisher_diagram'"):
        lwf_assets.fisher_diagram  # noqa: B018
    with pytest.raises(ImportError):
        from lwf_assets import no_such_name  # noqa: F401


@pytest.mark.parametrize(
    "code",
    [
        "import lwf_assets",
        "from lwf_assets import load_study; load_study('studies/quickstart.yaml')",
        "from lwf_assets.graph import cells; from lwf_assets.planning import plan, forecast",
    ],
)
def test_it_imports_no_torch(code: str) -> None:
    heavy = ("torch", "transformers", "dagster", "mlflow")
    check = f"import sys; sys.exit(sum(name in sys.modules for name in {heavy}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {check}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
