"""What a signal's handler raises, at any line of a call, ends that call and harms no other.

The usual run strikes at some lines, at random; `make nightly` at each that there is, three times.
"""

from __future__ import annotations

import gc
import signal
from collections import Counter

import pytest

from parmap import Pool, parallel_imap, parallel_map
from parmap._calls.news import Ended
from parmap._calls.remote import RemoteCall
from support.gates import wait_until
from support.strikes import Struck, lines_of, strike
from support.tasks import double, identity

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="POSIX")

CALLS = {
    "map": lambda pool: parallel_map(identity, [1, 2, 3], pool=pool),
    "map of a lambda": lambda pool: parallel_map(lambda x: x, [1, 2, 3], pool=pool),
    "map of a generator": lambda pool: parallel_map(identity, iter([1, 2, 3]), pool=pool),
    "imap": lambda pool: list(parallel_imap(identity, [1, 2, 3], pool=pool)),
    "submit": lambda pool: pool.submit(identity, 1).result(),
    "Executor.map": lambda pool: list(pool.map(identity, [1, 2, 3])),
}


@pytest.fixture
def pool():
    with Pool(2) as pool:
        yield pool


def nothing_is_left(pool):
    gc.collect()  # what was interrupted is let go of with the error's traceback
    wait_until(lambda: not pool._driver._calls, "no call is left in the books")


def strike_at(pool, name, lines):
    for line in lines:
        place = strike(lambda: CALLS[name](pool), line)
        assert parallel_map(double, range(4), pool=pool) == [0, 2, 4, 6], place
        assert parallel_map(lambda x: x + 1, range(4), pool=pool) == [1, 2, 3, 4], place
        nothing_is_left(pool)


# A strike may fall into an object's `__del__`, where Python lets nothing out.
swallowed_too = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@swallowed_too
@pytest.mark.filterwarnings("ignore:the results of parallel_imap were never asked for")
@pytest.mark.parametrize("name", CALLS)
def test_a_strike_at_some_lines_of_a_call(name, rng):
    with Pool(2) as pool:
        there = lines_of(lambda: CALLS[name](pool))
        strike_at(pool, name, rng.sample(range(1, len(there) + 1), 12))


@swallowed_too
@pytest.mark.stress
@pytest.mark.filterwarnings("ignore:the results of parallel_imap were never asked for")
@pytest.mark.parametrize("name", CALLS)
def test_a_strike_at_every_line_of_a_call(name):
    with Pool(2) as pool:
        passed: Counter[str] = Counter()
        for line, place in enumerate(lines_of(lambda: CALLS[name](pool)), start=1):
            passed[place] += 1
            if passed[place] <= 3:
                strike_at(pool, name, [line])


def test_a_strike_before_the_engine_has_heard_of_the_call(pool, monkeypatch):
    def interrupted(self, items):
        self._is_open = True
        raise Struck

    with monkeypatch.context() as patched:
        patched.setattr(RemoteCall, "_opened", interrupted)
        with pytest.raises(Struck):
            parallel_map(lambda x: x, [1, 2], pool=pool)
    assert parallel_map(double, [1, 2], pool=pool) == [2, 4]
    nothing_is_left(pool)


def test_a_strike_that_takes_the_end_of_the_call_with_it(pool, monkeypatch):
    def interrupted(self, timeout=None, *, insist=False):
        news = self.engine.wait_for(self.mailbox, timeout, self.id, insist=insist)
        if isinstance(news, Ended):
            raise Struck
        return news

    with monkeypatch.context() as patched:
        patched.setattr(RemoteCall, "take", interrupted)
        with pytest.raises(Struck):
            parallel_map(lambda x: x, [1, 2], pool=pool)
    assert parallel_map(double, [1, 2], pool=pool) == [2, 4]
    nothing_is_left(pool)
