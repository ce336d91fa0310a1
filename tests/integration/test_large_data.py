"""Large arrays and bytes: what is kept for them, and what a kill in the middle of one leaves."""

from __future__ import annotations

import os
import platform
import signal
import threading
import weakref

import pytest

np = pytest.importorskip("numpy")

from parmap import Pool, parallel_imap, parallel_map  # noqa: E402
from parmap._memory import pages  # noqa: E402
from support.gates import Diary, all_workers, wait_until  # noqa: E402

HUGE = 48 << 20
# sendto and sendmsg
SENDING = {"x86_64": {"44", "46"}, "aarch64": {"206", "211"}}.get(platform.machine())
linux_only = pytest.mark.skipif(
    pages._IN_LARGE_PAGES is None or SENDING is None, reason="needs /proc and a known processor"
)


def full(number):
    return np.full(HUGE, number, "u1")


def head(array):
    return len(array), int(array[0]), int(array[-1])


def pid_of_worker(_=None):
    return os.getpid()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def assert_nothing_is_held():
    """What was received into goes with the last view, also where half a message had come."""
    kept = [weakref.ref(mapping) for mapping in pages._remembered]
    pages.forget()
    assert [ref() for ref in kept] == [None] * len(kept)


def test_bytes_of_every_size_travel_both_ways():
    items = [
        kind(size) for kind in (bytes, bytearray) for size in (0, 1, 65_535, 65_536, 9_000_000)
    ]
    with Pool(2) as pool:
        results = parallel_map(lambda data: (type(data), data), items, pool=pool)

    assert results == [(type(data), data) for data in items]


class KillsWhenSent:
    """While it is pickled nobody reads what workers write; meanwhile one is killed that is writing."""

    def __init__(self, diary):
        self.diary = diary
        self.done = False

    def __reduce__(self):
        if not self.done:
            self.done = True
            (pid,) = wait_until(self.diary.lines, "the other item to be run")
            wait_until(lambda: is_writing(pid), "its worker to write")
            os.kill(int(pid), signal.SIGKILL)
        return str, ("harmless",)


def is_writing(pid):
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().split()[0] in SENDING


def note_and_give(item):
    if isinstance(item, Diary):
        item.write(os.getpid())
        return full(3)
    return item


@linux_only
def test_a_worker_that_is_killed_while_it_writes_loses_nothing(tmp_path):
    """Its item had run, and its result had not come: it runs again, at no charge."""
    diary = Diary(tmp_path / "diary")
    with Pool(2) as pool:
        all_workers(pool, 2, tmp_path)
        before = descriptors()
        array, other = parallel_map(note_and_give, [diary, KillsWhenSent(diary)], pool=pool)

        assert head(array) == (HUGE, 3, 3)
        assert other == "harmless"
        assert len(diary.lines()) == 2
        assert pool.statistics().lost == 0
        assert descriptors() <= before

    del array
    assert_nothing_is_held()


@linux_only
def test_a_worker_that_is_killed_while_it_reads_loses_nothing():
    """It had not begun the item, which another one runs."""
    with Pool(1) as pool:
        pid = pool.submit(pid_of_worker).result()
        os.kill(pid, signal.SIGSTOP)
        results = []
        items = [full(1), full(2)]
        caller = threading.Thread(
            target=lambda: results.extend(parallel_map(head, items, pool=pool))
        )
        caller.start()
        (peer,) = pool._driver._crew.members.values()
        wait_until(lambda: peer.backlog, "the message to be on its way")
        os.kill(pid, signal.SIGKILL)
        caller.join()

        assert results == [(HUGE, 1, 1), (HUGE, 2, 2)]
        assert pool.statistics().lost == 0

    assert_nothing_is_held()


@linux_only
def test_a_stream_of_large_results_uses_the_same_memory_again():
    """The parent's memory does not grow with the length of the stream."""
    pages.forget()
    seen = set()
    with Pool(2) as pool:
        for number, array in enumerate(parallel_imap(full, range(24), buffersize=4, pool=pool)):
            assert head(array) == (HUGE, number, number)
            seen.add(array.ctypes.data)
            del array

    assert len(seen) < 24
    assert_nothing_is_held()


@linux_only
def test_after_a_while_nothing_is_kept():
    with Pool(1) as pool:
        assert head(pool.submit(full, 1).result()) == (HUGE, 1, 1)
        wait_until(lambda: not pages._remembered, "the memory to be given back")
        there = pool.submit(remembered_there, full(2)).result()
        assert there == 1
        wait_until(lambda: pool.submit(remembered_there, None).result() == 0, "the worker's, too")


def remembered_there(_):
    return len(pages._remembered)
