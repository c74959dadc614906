"""What the contents of each asset are computed by, as a hash: so that no change of it goes unnoticed.

`code_version` in `lwf_assets/graph/table.py` must be raised when the code starts to produce other contents from the
same settings and inputs; else a home keeps its old figures as up to date. That is easily forgotten, so
`code_versions.json` keeps, for each asset, the version together with a hash of the code. A test fails when the two no
longer fit.

    python tests/support/code_versions.py     writes the file as things are now: run it after having raised the version,
                                              or after having made sure that the contents stay the same

The hash is over the syntax tree of every module that the asset's own module imports, directly or not, from the packages
that compute. Comments, docstrings, messages of errors, types and imports do not count; nor does where a module lies.
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import grimp

from lwf_assets.graph.table import ASSETS

RECORD = Path(__file__).resolve().parents[1] / "fixtures" / "code_versions.json"
ROOT = Path(__file__).resolve().parents[2]
COMPUTING = ("assets", "fine_tuning", "measuring", "engine", "tasks", "statistics", "comparison")
"""The packages whose code decides contents; reports only draw them, and the rest decides what is made from what."""


def code_versions() -> dict[str, dict[str, str]]:
    """By asset, its code version and the hash of its code."""
    graph = grimp.build_graph("lwf_assets", exclude_type_checking_imports=True, cache_dir=None)
    found = {}
    for spec in ASSETS:
        own = f"lwf_assets.assets.{spec.name}"
        modules = {own, *graph.find_upstream_modules(own)}
        sources = sorted(normalized(source_of(module)) for module in modules if module.split(".")[1] in COMPUTING)
        digest = hashlib.sha256("\n".join(sources).encode()).hexdigest()
        found[spec.name] = {"code_version": spec.code_version, "code": digest[:16]}
    return found


def source_of(module: str) -> str:
    """The source of a module of this checkout."""
    path = ROOT.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


def normalized(source: str) -> str:
    """The syntax tree without what cannot change a number."""
    tree = _Normalizer().visit(ast.parse(source))
    return ast.dump(tree)


class _Normalizer(ast.NodeTransformer):
    """Drops imports, docstrings, annotations, blocks for the type checker, and what errors say."""

    def visit(self, node: ast.AST) -> ast.AST:
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, name, [statement for statement in value if not _is_idle(statement)] or [ast.Pass()])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        self.generic_visit(node)
        return node


def _is_idle(statement: ast.stmt) -> bool:
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    for_types = isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
    return is_text or for_types or isinstance(statement, ast.Import | ast.ImportFrom)


if __name__ == "__main__":
    RECORD.write_text(json.dumps(code_versions(), indent=2) + "\n")
