"""For the memory tests: both platforms, no descriptor left open, and children made by fork."""

from __future__ import annotations

import gc
import os
import warnings
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def open_fds() -> int:
    """Count this process's descriptors, garbage aside."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def keeps_fds() -> None:
    """For a test after which something else (multiprocessing) keeps descriptors of its own."""


@pytest.fixture(autouse=True)
def no_descriptor_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a memory test does, it ends with as many open descriptors as it began with."""
    if "keeps_fds" in request.fixturenames:
        yield
        return
    import parmap._memory.arena as arena

    arena.default_arena()
    before = open_fds()
    yield
    request.node.funcargs.clear()  # pytest would keep what the fixtures made until after this
    assert open_fds() == before


@pytest.fixture(params=["native", "portable"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test on this system, and on what it is without Linux's own facilities."""
    if request.param == "portable":
        monkeypatch.setenv("PARMAP_PORTABLE", "1")
    return str(request.param)


@pytest.fixture
def in_child() -> Callable[[Callable[[], object]], int]:
    """Run a function in a forked child; return its exit status (0: it returned True)."""

    def run(fn: Callable[[], object]) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pytest's own threads
            pid = os.fork()
        if pid == 0:
            status = 70
            try:
                status = 0 if fn() else 1
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run
