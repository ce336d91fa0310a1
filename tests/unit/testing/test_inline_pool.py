"""`InlinePool`: everything in this process, at once."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Executor

import pytest

from parmap import PoolClosedError, TaskFailure, parallel_imap, parallel_map
from parmap.testing import InlinePool


def fail(item):
    raise KeyError(item)


def test_a_map_runs_here_in_order_and_nothing_is_pickled():
    seen = []

    def note(item):
        seen.append((item, os.getpid(), threading.current_thread()))
        return threading.Lock()  # cannot travel, and need not

    with InlinePool() as pool:
        parallel_map(note, range(3), pool=pool)

    here = (os.getpid(), threading.current_thread())
    assert seen == [(0, *here), (1, *here), (2, *here)]


def test_a_lazy_map_runs_one_item_for_each_result():
    ran: list[int] = []
    results = parallel_imap(ran.append, iter(range(10)), pool=InlinePool())

    next(results)
    next(results)

    assert ran == [0, 1]
    results.close()


def test_it_is_an_executor():
    with InlinePool() as pool:
        assert isinstance(pool, Executor)
        assert list(pool.map(pow, [2, 3], [3, 2])) == [8, 9]
        assert isinstance(pool.submit(fail, 1).exception(), KeyError)


def test_failures_and_retries_are_those_of_any_map():
    outcomes = parallel_map(fail, [1], pool=InlinePool(), on_error="return", retry=1)

    assert isinstance(outcomes[0], TaskFailure)
    assert isinstance(outcomes[0].error, KeyError)


def test_ctrl_c_is_the_users():
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InlinePool().submit(interrupted)
    with pytest.raises(KeyboardInterrupt):
        parallel_map(interrupted, [1], pool=InlinePool(), on_error="return")


def test_a_closed_one_takes_nothing():
    pool = InlinePool()
    pool.shutdown()

    with pytest.raises(PoolClosedError):
        pool.submit(abs, 1)
    with pytest.raises(PoolClosedError):
        parallel_map(abs, [1], pool=pool)


class Nothing(Exception):
    def __len__(self):
        return 0


def test_a_falsy_error_is_an_error():
    def refuse(*_):
        raise Nothing

    with pytest.raises(Nothing):
        InlinePool().submit(refuse).result()
    with pytest.raises(Nothing):
        list(InlinePool().map(refuse, [1]))
