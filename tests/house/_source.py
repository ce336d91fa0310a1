"""The package's own source, read as text: what the house tests look at."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


def package_folder() -> Path:
    """Where the parmap under test lies: src/ here, site-packages when a wheel is tested."""
    spec = find_spec("parmap")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


class Module(NamedTuple):
    name: str  # "parmap._core.scheduler"
    path: Path
    text: str

    @property
    def unit(self) -> str:
        """The part of the house that it belongs to: the first name below parmap."""
        return unit_of(self.name)

    def imports(self, *, at_run_time: bool = False) -> list[str]:
        """Absolute names of all it imports, anywhere in it; with or without type checkers' only."""
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        found: list[str] = []
        tree = ast.parse(self.text)
        for node in ast.walk(_WithoutTypeChecking().visit(tree) if at_run_time else tree):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += _names_from(node, package)
        return found


class _WithoutTypeChecking(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        guarded = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return node.orelse if guarded else self.generic_visit(node)


def _names_from(node: ast.ImportFrom, package: str) -> list[str]:
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *([node.module] if node.module else [])])
    else:
        base = node.module or ""
    if base != "parmap":
        return [base]
    return [f"parmap.{alias.name}" for alias in node.names]  # `from parmap import _core`


# One part in several files: what `errors` loads only when it is asked for, and what it says; and
# the options that have a class of their own.
PARTS_OF = {
    "_slow_errors": "errors",
    "_failures": "errors",
    "_words": "errors",
    "_limits": "options",
    "_opening": "mapping",
    "_map_options": "mapping",
    "_pool_view": "pool",
}


def unit_of(name: str) -> str:
    parts = name.split(".")
    unit = parts[1] if len(parts) > 1 else "__init__"
    return PARTS_OF.get(unit, unit)


@cache
def modules() -> tuple[Module, ...]:
    folder = package_folder()
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = ("parmap", *path.relative_to(folder).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts = parts[:-1]
        found.append(Module(".".join(parts), path, path.read_text(encoding="utf-8")))
    return tuple(found)
