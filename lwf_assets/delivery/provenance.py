"""How a model came about, as an in-toto statement with SLSA provenance (https://slsa.dev/provenance/v1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from lwf_assets.lineage.chain import Chain

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://arxiv.org/abs/2505.19715#lwf-assets"
"""What kind of build it is: Learning With Forgetting, as this package does it."""


def provenance_statement(chain: Chain, subjects: Mapping[str, str]) -> str:
    """The statement as JSON: `subjects`, files by name with their sha256, were made as the chain says."""
    end = chain.end.manifest
    provenance = end.provenance
    began = datetime.fromisoformat(provenance["began"])
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"study": provenance.get("study"), "cell": end.name, "settings": end.settings},
                "internalParameters": {
                    "code_version": end.code_version,
                    "git_commit": provenance.get("git_commit"),
                    "libraries": provenance.get("libraries", {}),
                },
                "resolvedDependencies": [_dependency(link.manifest) for link in chain.links[:-1]],
            },
            "runDetails": {
                "builder": {"id": BUILD_TYPE},
                "metadata": {
                    "invocationId": str(provenance.get("mlflow_run") or end.seal),
                    "startedOn": began.isoformat(),
                    "finishedOn": (began + timedelta(seconds=provenance["wall_seconds"])).isoformat(),
                },
                "byproducts": [{"name": "manifest.json", "digest": {"sha256": end.seal}}],
            },
        },
    }
    return json.dumps(statement, indent=2, ensure_ascii=False) + "\n"


def _dependency(manifest: Any) -> dict[str, Any]:
    """An artifact that it was made from, by the seal of its manifest, which names the hash of every file."""
    return {
        "name": manifest.name,
        "digest": {"sha256": manifest.seal},
        "annotations": {"version": manifest.version, "files": {entry.path: entry.sha256 for entry in manifest.files}},
    }
