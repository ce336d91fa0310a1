"""Starting a worker and `import parmap` cost little: heavy modules are loaded when first needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "asyncio", "cloudpickle", "ctypes", "dask", "joblib", "logging", "multiprocessing", "numpy",
    "sqlite3", "subprocess", "tblib", "tqdm",
}  # fmt: skip
# dataclasses pulls in inspect, which alone costs more than all of a worker's own modules.
HEAVY_FOR_A_WORKER = HEAVY | {"dataclasses", "inspect"}


def newly_imported(statement: str) -> set[str]:
    """Names in `sys.modules` after *statement*, without those that Python's own start brings."""
    script = (
        f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_a_worker_imports_little() -> None:
    assert not newly_imported("import parmap._worker.main") & HEAVY_FOR_A_WORKER


def test_importing_parmap_loads_no_heavy_module() -> None:
    assert not newly_imported("import parmap") & (HEAVY | {"concurrent.futures"})


def test_importing_parmap_loads_no_other_part_of_it() -> None:
    parts = {name for name in newly_imported("import parmap") if name.startswith("parmap.")}

    assert parts <= {"parmap._version"}


@pytest.mark.parametrize("part", ["_core.scheduler", "_wire.frames", "_memory.segment", "errors"])
def test_what_lies_below_a_worker_is_light_on_its_own(part: str) -> None:
    assert not newly_imported(f"import parmap.{part}") & HEAVY
