"""What other code in the program does to us: forks behind Python's back, thousands of descriptors."""

from __future__ import annotations

import os
import resource
import signal
import sys

import pytest

from parmap._launch import launcher_for
from parmap._launch.crew import Crew
from support.gates import Diary, wait_until_dead
from support.scripts import running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def test_a_killed_parent_takes_its_workers_with_it_though_a_child_that_c_has_forked_lives_on(
    tmp_path,
):
    """Python's own fork closes what is the parent's in the child; a library's does not."""
    source = """
        import ctypes, os
        from parmap import Pool
        from support.gates import Diary

        pids, children = Diary("pids"), Diary("children")
        libc = ctypes.PyDLL(None)

        def busy(number):
            pids.write(os.getpid())
            sum(range(10**12))

        with Pool(2) as pool:
            for number in range(2):
                pool.submit(busy, number)
            pids.wait_for(2)
            child = libc.fork()
            if child == 0:
                while True:
                    libc.pause()
            children.write(child)
            while True:
                libc.pause()
        """
    with running(source, tmp_path) as script:
        [child] = map(int, Diary(tmp_path / "children").wait_for(1))
        try:
            os.kill(script.pid, signal.SIGKILL)
            wait_until_dead(Diary(tmp_path / "pids").numbers(), timeout=5)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.fixture
def _descriptors_beyond_1023():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("may not open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.dup(2) for _ in range(1100)]
    yield
    for fd in held:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_descriptors_beyond_1023")
def test_who_is_left_when_a_loop_breaks_is_ended_whatever_the_numbers_of_its_descriptors():
    crew = Crew(launcher_for(None))
    peer = crew.start(1, "late")
    assert peer.death_fileno() > 1023

    crew.end()

    wait_until_dead([peer.pid])
