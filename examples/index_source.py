"""Index Python source in parallel: the largest functions of the standard library, or of a folder.

    python examples/index_source.py [FOLDER]

What to notice: there is no `if __name__ == "__main__"` guard; `index`, the types it returns and
the global `folder` it reads are defined right here, and travel. A file that does not parse is one
failed item among the results and costs only itself.
"""

from __future__ import annotations

import ast
import contextlib
import sys
import sysconfig
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import parmap


class Function(NamedTuple):
    lines: int
    name: str
    place: str


class Module(NamedTuple):
    lines: int
    classes: int
    functions: list[Function]


def index(path: Path) -> Module:
    source = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old code with invalid escapes is not our subject
        nodes = list(ast.walk(ast.parse(source, filename=str(path))))
    place = path.relative_to(folder)
    functions = [
        Function(1 + (node.end_lineno or 0) - node.lineno, node.name, f"{place}:{node.lineno}")
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    classes = sum(isinstance(node, ast.ClassDef) for node in nodes)
    return Module(len(source.splitlines()), classes, functions)


def index_in_a_loop(paths: list[Path]) -> list[Module]:
    modules = []
    for path in paths:
        with contextlib.suppress(Exception):  # the tolerance that on_error="return" gives
            modules.append(index(path))
    return modules


folder = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib"))
paths = [path for path in sorted(folder.rglob("*.py")) if "site-packages" not in path.parts]
if not paths:
    sys.exit(f"no Python files under {folder}")

started = time.perf_counter()
results = parmap.parallel_map(index, paths, on_error="return", progress="parsing")
parallel_time = time.perf_counter() - started

modules = [result for result in results if isinstance(result, Module)]
failures = [result for result in results if isinstance(result, parmap.TaskFailure)]
functions = [function for module in modules for function in module.functions]

print("The ten largest functions:")
for function in sorted(functions, reverse=True)[:10]:
    print(f"  {function.lines:6,} lines  {function.name:32} {function.place}")

if failures:
    print(f"\n{len(failures)} files did not parse:")
for failure in failures:
    reason = f"{type(failure.error).__name__}: {failure.error}".splitlines()[0]
    print(f"  {paths[failure.index].relative_to(folder)}: {reason[:100]}")

print(f"\n{len(modules):,} modules, {sum(module.lines for module in modules):,} lines, ", end="")
print(f"{len(functions):,} functions, {sum(module.classes for module in modules):,} classes")

started = time.perf_counter()
same = index_in_a_loop(paths) == modules
loop_time = time.perf_counter() - started
print(f"\nparallel_map {parallel_time:.2f} s, plain loop {loop_time:.2f} s: ", end="")
print(f"{loop_time / parallel_time:.2f} times as fast, {'the same' if same else 'ANOTHER'} result")
sys.exit(not same)
