"""The audit of an artifact as one HTML file."""

from __future__ import annotations

import json
from collections import Counter

from lwf_assets.lineage.audit import Audit
from lwf_assets.reports.page_environment import page_environment


def lineage_page(audit: Audit) -> str:
    """The whole page: the outcome, what was unlearned, what it learned from, the chain."""
    template = page_environment().get_template("lineage.html.j2")
    links = list(reversed(audit.chain.links))
    return template.render(
        audit=audit,
        end=audit.chain.end,
        links=links,
        inputs={link.name: audit.chain.inputs(link) for link in links},
        as_json=lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str),
        agreeing=Counter(record.system for record in audit.outside if record.agrees),
        disagreeing=[record for record in audit.outside if not record.agrees],
    )
