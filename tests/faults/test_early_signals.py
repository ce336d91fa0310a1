"""A signal that comes just before a wait is noted by Python, but does not end the wait."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from parmap import Pool, TaskErrorGroup, WorkerGroup, parallel_imap, parallel_map
from support.gates import Diary

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="POSIX")


class Stuck:
    """The kernel gives SIGTERM to another thread of the worker, which leaves the main thread in that
    very state: the signal is noted, and the wait goes on."""

    def __init__(self, path):
        self.diary = Diary(path)

    def __call__(self, x=1):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self.diary.write("waits")
            time.sleep(600)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            self.diary.write("tidied")


def test_a_worker_of_a_group_hears_that_it_shall_go(tmp_path):
    stuck = Stuck(tmp_path / "diary")
    with pytest.raises(TaskErrorGroup), WorkerGroup(grace=30) as group:
        group.start(stuck, 1)
        stuck.diary.wait_for(1)
        raise RuntimeError("body")
    assert stuck.diary.lines() == ["waits", "tidied"]


def test_an_item_hears_that_it_is_not_wanted_any_more(tmp_path):
    stuck = Stuck(tmp_path / "diary")

    def fail_beside_it(x):
        if x == 0:
            stuck.diary.wait_for(1)
            raise ValueError(x)
        return stuck(x)

    with pytest.raises(ValueError, match="0"), Pool(2) as pool:
        parallel_map(fail_beside_it, [0, 1], pool=pool, chunksize=1)
    assert stuck.diary.lines() == ["waits", "tidied"]


def test_a_result_does_not_wait_for_the_item_behind_it():
    """The parent's word that it wants the rest of the chunk back is lost, the first time."""

    def task(x):
        if x:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG})
            signal.sigwait({signal.SIGURG})
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGURG})
            time.sleep(600)
        return x

    with Pool(1) as pool:
        results = parallel_imap(task, [0] * 12 + [1], pool=pool)
        try:
            assert [next(results) for _ in range(12)] == [0] * 12
        finally:
            results.close()


def test_a_handler_of_its_own_runs_once(tmp_path):
    """Who is asked to go and needs a while for it is woken again, but not asked again."""
    diary = Diary(tmp_path / "diary")

    def target():
        asked, woken = threading.Event(), threading.Event()

        def on_sigterm(number, frame):
            diary.write("asked")
            asked.set()

        def on_sigint(number, frame):
            woken.set()

        signal.signal(signal.SIGTERM, on_sigterm)
        signal.signal(signal.SIGINT, on_sigint)
        diary.write("waits")
        asked.wait()
        woken.wait()

    with WorkerGroup(grace=30) as group:
        worker = group.start(target)
        diary.wait_for(1)
        worker.terminate()
        assert worker.result(30) is None
    assert diary.lines() == ["waits", "asked"]
