"""The leak checker sees each kind of thing that can be left, and only that."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
from multiprocessing import shared_memory

import pytest

from parmap.testing.leaks import _is_mapped, _maps, nothing_left_behind

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells")


def leaks() -> contextlib.AbstractContextManager[None]:
    # shutdown=False: these tests are about the checker, not about the shared pool.
    return nothing_left_behind(timeout=0, shutdown=False)


def test_a_clean_block_passes() -> None:
    with leaks(), open(os.devnull):
        pass


@linux_only
def test_a_running_child_is_named_with_its_command() -> None:
    with contextlib.ExitStack() as stack:
        with pytest.raises(AssertionError, match=r"process \d+: .*stdin\.read"), leaks():
            child = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
                )
            )
        assert child.poll() is None


@linux_only
def test_a_child_that_nobody_waited_for_is_a_leak() -> None:
    with pytest.raises(AssertionError, match="nobody waited for it"), leaks():
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    os.waitpid(pid, 0)


@linux_only
def test_an_open_descriptor_is_named_with_its_target() -> None:
    with pytest.raises(AssertionError, match=rf"descriptor \d+: {os.devnull}"), leaks():
        fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)


def test_a_thread_is_named() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten")
    with pytest.raises(AssertionError, match="thread <Thread\\(forgotten"), leaks():
        thread.start()
    release.set()
    thread.join()


def test_a_thread_that_is_about_to_end_gets_its_time() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    with nothing_left_behind(timeout=30, shutdown=False):
        thread.start()
        threading.Timer(0.05, release.set).start()


@linux_only
def test_a_named_block_of_shared_memory_is_a_leak_even_when_nobody_maps_it() -> None:
    with pytest.raises(AssertionError, match="shared memory /dev/shm/"), leaks():
        fd = os.open("/dev/shm/parmap-test-leak", os.O_CREAT | os.O_RDWR, 0o600)
        os.close(fd)
    os.unlink("/dev/shm/parmap-test-leak")


@linux_only
@pytest.mark.parametrize("whose", ["a stranger's", "ours"])
def test_a_name_with_the_pid_of_a_stranger_is_no_leak_of_ours(whose: str) -> None:
    """As loky names its semaphores, which it maps only now and then."""
    pid = os.getppid() if whose == "a stranger's" else os.getpid()
    path = f"/dev/shm/sem.parmap-test-{pid}-x"
    try:
        expected = pytest.raises(AssertionError) if whose == "ours" else contextlib.nullcontext()
        with expected, leaks():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    finally:
        os.unlink(path)


@linux_only
def test_whoever_has_a_semaphore_open_is_found() -> None:
    """It is mapped before it has its name."""
    lock = multiprocessing.get_context("spawn").Lock()
    name = f"sem.{lock._semlock.name[1:]}"  # type: ignore[attr-defined]

    assert _is_mapped(name, _maps(os.getpid()))
    assert not _is_mapped(name, _maps(os.getppid()))


@linux_only
def test_multiprocessings_own_helper_is_not_our_leak() -> None:
    """The resource tracker starts with the first named block and lives until the program ends."""
    with leaks():
        block = shared_memory.SharedMemory(create=True, size=16)
        block.close()
        block.unlink()


def test_the_blocks_own_error_is_what_one_sees() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    with pytest.raises(ValueError, match="mine"), leaks():
        thread.start()
        raise ValueError("mine")
    release.set()
    thread.join()


def test_what_multiprocessing_makes_is_no_leak_of_a_process_without_its_tracker(
    monkeypatch, tmp_path
):
    monkeypatch.setattr("parmap.testing.leaks.SHARED_MEMORY", str(tmp_path))
    monkeypatch.setattr("parmap.testing.leaks._stdlib_helpers", lambda kind: set())
    with leaks():
        (tmp_path / "sem.mp-abcdefgh").touch()  # by whomever
        (tmp_path / "psm_12345678").touch()
    with pytest.raises(AssertionError, match="of-ours"), leaks():
        (tmp_path / "of-ours").touch()

    monkeypatch.setattr("parmap.testing.leaks._stdlib_helpers", lambda kind: {1})
    with pytest.raises(AssertionError, match=r"sem\.mp-other"), leaks():
        (tmp_path / "sem.mp-other").touch()
