"""What is in a model, as a CycloneDX bill of materials: models, data and libraries, each with its hash or version."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lwf_assets.lineage.chain import Chain, Link

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

_MODELS = ("base_model", "control_base", "reference_checkpoint", "lwf_checkpoint", "arm_checkpoint")


def bill_of_materials(chain: Chain) -> str:
    """The bill of the chain's end as JSON of CycloneDX 1.6. Equal chains give equal bills, but for the time."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    bom = Bom(serial_number=uuid.UUID(chain.end.manifest.seal[:32]))
    parts = {link.name: _component(link) for link in chain.links}
    libraries = list(_libraries(chain.end))
    model = parts[chain.end.name]
    bom.metadata.component = model
    for part in (*parts.values(), *libraries):
        if part is not model:
            bom.components.add(part)
    for link in chain.links:
        bom.register_dependency(parts[link.name], [parts[other.name] for other in chain.inputs(link)])
    bom.register_dependency(model, libraries)
    text: str = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    return text + "\n"


def _component(link: Link) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    manifest = link.manifest
    kind = ComponentType.MACHINE_LEARNING_MODEL if manifest.asset in _MODELS else ComponentType.DATA
    return Component(
        name=manifest.name,
        version=manifest.version,
        type=kind,
        bom_ref=f"{manifest.name}@{manifest.version}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=manifest.seal)],
        properties=[Property(name=f"sha256:{entry.path}", value=entry.sha256) for entry in manifest.files],
    )


def _libraries(link: Link) -> Iterable[Component]:
    from cyclonedx.model.component import Component, ComponentType

    for name, version in link.manifest.provenance.get("libraries", {}).items():
        yield Component(
            name=name, version=str(version), type=ComponentType.LIBRARY, bom_ref=f"pkg:pypi/{name}@{version}"
        )
