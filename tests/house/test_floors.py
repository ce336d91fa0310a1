"""Imports lead down only, and the core is pure (docs/explanation/architecture.md)."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest

from house._source import Module, modules, unit_of

# From the ground up. Neighbours on one floor may use each other, but not in a circle.
FLOORS = (
    ("_memory", "_core", "errors", "_version", "_alarm"),
    ("shared", "_wire", "options", "_nesting", "_cpus"),
    ("channel", "_channel", "_worker", "_task"),
    ("_launch", "_calls"),
    ("_foreign", "_checkpoint"),
    (
        "_driver",
        "_loop",
        "_living",
        "_overhearing",
        "_wheel",
        "_hold",
        "_alone",
        "_express",
        "_group",
        "_watching",
    ),
    ("workers", "pool"),
    ("mapping", "observe", "integrations", "testing"),
    ("compat", "aio", "_async", "_doctor"),
    ("__init__", "__main__"),
)
FLOOR_OF = {unit: number for number, floor in enumerate(FLOORS) for unit in floor}

# What reads a clock, rolls dice, waits, or touches the machine. An allowed list would be longer.
IMPURE = {
    "asyncio", "concurrent", "ctypes", "fcntl", "io", "logging", "mmap", "multiprocessing", "os",
    "pathlib", "pickle", "random", "secrets", "select", "selectors", "signal", "socket",
    "subprocess", "tempfile", "threading", "time", "uuid",
}  # fmt: skip


def units_used(module: Module, *, at_run_time: bool = False) -> set[str]:
    names = module.imports(at_run_time=at_run_time)
    # `import parmap` alone: the package itself, which is loaded whenever a part of it is
    ours = (name for name in names if name.startswith("parmap."))
    return {unit_of(name) if unit_of(name) in FLOOR_OF else "__init__" for name in ours}


def test_every_module_has_a_floor() -> None:
    homeless = {module.unit for module in modules()} - set(FLOOR_OF)

    assert not homeless, "write them into FLOORS, here and in architecture.md"


def test_imports_lead_down_only() -> None:
    upward = [
        f"{module.name} imports {unit}"
        for module in modules()
        for unit in units_used(module)
        if FLOOR_OF[unit] > FLOOR_OF[module.unit]
    ]

    assert not upward


def test_neighbours_on_a_floor_do_not_use_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module in modules():
        used = units_used(module, at_run_time=True)
        graph.setdefault(module.unit, set()).update(used - {module.unit})

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_the_core_is_pure() -> None:
    impure = [
        f"{module.name} imports {name}"
        for module in modules()
        if module.unit == "_core"
        for name in module.imports()
        if name.split(".")[0] in IMPURE
    ]

    assert not impure
