"""A lock that its holder's death releases."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

from parmap._memory.arena import Arena
from parmap._memory.flock import RobustLock
from parmap._memory.segment import Segment
from parmap._memory.transit import FdSink, FdSource, exporting, importing
from parmap._memory.words import words

pytestmark = pytest.mark.usefixtures("platform")


@pytest.fixture(params=["whole", "range"])
def lock(request, platform):
    if request.param == "whole":
        return RobustLock.create()
    return RobustLock(Segment.create(100), 64)


def test_held_and_free(lock):
    assert not lock.held
    with lock as entered:
        assert entered is lock
        assert lock.held
        assert "held by this thread" in repr(lock)
    assert not lock.held
    assert lock.acquire(timeout=0)
    lock.release()
    assert not lock.was_abandoned


def test_misuse_is_said(lock):
    with pytest.raises(RuntimeError, match="does not hold"):
        lock.release()
    with lock:
        with pytest.raises(RuntimeError, match="not reentrant"):
            lock.acquire()
        with pytest.raises(RuntimeError, match="not reentrant"):
            lock.acquire(timeout=0)
    assert not lock.held


def test_another_thread_cannot_release(lock):
    errors = []

    def release():
        try:
            lock.release()
        except RuntimeError as error:
            errors.append(str(error))

    with lock:
        thread = threading.Thread(target=release)
        thread.start()
        thread.join()
        assert lock.held
    assert errors == ["another thread of this process holds the lock"]


def test_threads_of_one_process_exclude_each_other(lock):
    """Also through two objects: they share one gate."""
    twin = RobustLock(lock.segment, lock.offset, whole=lock.whole)
    inside, worst = [], []

    def work(mine):
        for _ in range(300):
            with mine:
                inside.append(1)
                worst.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in (lock, twin, lock, twin)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(worst) == 1
    assert len(worst) == 1200


def test_processes_exclude_each_other(lock):
    """A counter that is read and written in two steps loses nothing."""
    segment = Segment.create(8)
    count = words(segment)
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(500):
                    with lock:
                        count[0] += 1
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    assert count[0] == 1500


def test_a_timeout_is_kept_between_processes(lock, in_child):
    def try_it():
        begin = time.monotonic()
        return not lock.acquire(timeout=0.05) and 0.05 <= time.monotonic() - begin < 5

    with lock:
        assert in_child(try_it) == 0
        assert in_child(lambda: not lock.acquire(timeout=0)) == 0
    assert in_child(lambda: lock.acquire(timeout=30)) == 0


def test_a_timeout_is_kept_between_threads(lock):
    got = []
    with lock:
        thread = threading.Thread(target=lambda: got.append(lock.acquire(timeout=0.02)))
        thread.start()
        thread.join()
    assert got == [False]
    assert lock.acquire(timeout=0)
    lock.release()


def test_a_waiter_gets_it_when_it_falls_free(lock):
    read, write = os.pipe()
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, b"1")
            with lock:
                os.write(write, b"2")
        finally:
            os._exit(0)
    assert os.read(read, 1) == b"1"
    lock.release()
    assert os.read(read, 1) == b"2"
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)


def test_a_forked_child_neither_holds_nor_keeps_the_lock(lock):
    """Hazard 14: the child inherits the description on which its parent's lock lives."""
    ready, go = os.pipe(), os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            lock.acquire()
            child = os.fork()
            if child == 0:
                try:
                    lock.release()
                except RuntimeError:
                    os.write(ready[1], b"r")
                os.read(go[0], 1)
                os._exit(0)
            os.write(ready[1], b"p")
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert {os.read(ready[0], 1), os.read(ready[0], 1)} == {b"r", b"p"}
    os.waitpid(parent, 0)

    assert lock.acquire(timeout=30), "the child of the dead holder keeps the lock"
    assert lock.was_abandoned
    lock.release()
    os.write(go[1], b"x")
    for fd in ready + go:
        os.close(fd)


def test_a_child_may_use_the_lock_its_parent_held_at_the_fork(lock, in_child):
    with lock:
        assert in_child(lambda: not lock.held and not lock.acquire(timeout=0)) == 0
    assert in_child(lambda: lock.acquire(timeout=30)) == 0, "a child's exit is a death too"
    with lock:
        assert lock.was_abandoned
    with lock:
        assert not lock.was_abandoned


def test_a_thread_that_held_it_at_the_fork_does_not_block_the_child(lock, in_child):
    held, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    assert in_child(lambda: not lock.acquire(timeout=0)) == 0
    done.set()
    thread.join()
    assert in_child(lambda: lock.acquire(timeout=30)) == 0


def test_an_exception_from_a_signal_handler_leaves_it_free(lock, in_child):
    """Ctrl-C while it waits: nothing of the lock stays behind."""

    class Interrupt(Exception):
        pass

    def interrupt(*_):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with lock:
                os.write(ready[1], b"x")
                signal.pause()
        finally:
            os._exit(0)
    os.read(ready[0], 1)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    with pytest.raises(Interrupt):
        lock.acquire()
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    with pytest.raises(Interrupt):
        lock.acquire(timeout=60)
    signal.signal(signal.SIGALRM, before)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert lock.acquire(timeout=30)
    lock.release()
    assert in_child(lambda: lock.acquire(timeout=30)) == 0
    for fd in ready:
        os.close(fd)


def test_interrupted_at_every_moment_it_is_never_half_held(lock, in_child):
    """A storm of exceptions from a signal handler, wherever they strike inside acquire."""

    class Interrupt(Exception):
        pass

    armed = [False]

    def interrupt(*_):
        if armed[0]:  # one that comes late strikes nobody
            armed[0] = False
            raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    hits = 0
    for number in range(400):
        try:
            armed[0] = True
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + number % 40 * 1e-6)
            lock.acquire()
            armed[0] = False
        except Interrupt:
            hits += 1
        if lock.held:
            lock.release()
        assert lock.acquire(timeout=0)
        lock.release()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert hits
    assert in_child(lambda: lock.acquire(timeout=30)) == 0


def test_a_handler_that_comes_in_between_is_refused(lock):
    """Re-entered from a signal handler the lock must not be taken twice."""
    seen = []

    def handler(*_):
        try:
            lock.acquire()
        except RuntimeError as error:
            seen.append(str(error))

    before = signal.signal(signal.SIGALRM, handler)
    with lock:
        os.kill(os.getpid(), signal.SIGALRM)
    signal.signal(signal.SIGALRM, before)
    assert len(seen) == 1


def test_it_travels_and_is_the_same_lock(lock):
    sink = FdSink()
    with exporting(sink):
        data = pickle.dumps(lock)
    source = FdSource(sink.take())
    with importing(source):
        twin = pickle.loads(data)
    source.close_unclaimed()
    with lock:
        assert twin.held


def test_many_locks_in_one_segment_are_independent(in_child):
    segment = Segment.create(4096)
    one, other = RobustLock(segment, 0), RobustLock(segment, 8)
    with one:
        assert in_child(lambda: other.acquire(timeout=0) and not one.acquire(timeout=0)) == 0
        with other:
            assert other.was_abandoned


def test_a_lock_in_a_block_keeps_and_travels_with_its_block():
    lock = Arena.create().allocate(64).lock(8)
    sink = FdSink()
    with exporting(sink):
        data = pickle.dumps(lock)
    source = FdSource(sink.take())
    with importing(source):
        twin = pickle.loads(data)
    source.close_unclaimed()
    with twin:
        assert lock.held
    with pytest.raises(ValueError, match="inside"):
        lock.block.lock(64)


def test_portable_lock_files_are_removed_and_swept(tmp_path):
    """The last user removes the file; what a kill left is swept by the next process."""
    code = """if True:
        import gc, os, signal, sys, tempfile
        from parmap._memory.flock import RobustLock
        folder = f"{tempfile.gettempdir()}/parmap-locks-{os.getuid()}"
        lock = RobustLock.create()
        lock.acquire()
        print(len(os.listdir(folder)), flush=True)
        if sys.argv[1] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        lock.release()
        del lock
        gc.collect()
        print(len(os.listdir(folder)))
    """
    env = {**os.environ, "PARMAP_PORTABLE": "1", "TMPDIR": str(tmp_path)}

    def run(how):
        done = subprocess.run(
            [sys.executable, "-c", code, how], env=env, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return done.stdout.split()

    assert run("live") == ["1", "0"]
    assert run("die") == ["1"]
    assert run("live") == ["1", "0"]


def test_a_swept_lock_file_is_made_again(lock, platform, in_child):
    """Removing the name under somebody's feet breaks nothing."""
    if platform == "native":
        pytest.skip("native locks have no name")
    from pathlib import Path

    with lock:
        assert in_child(lambda: not lock.acquire(timeout=0)) == 0
    Path(lock._backing._path).unlink()
    with lock:
        assert in_child(lambda: not lock.acquire(timeout=0)) == 0
    assert in_child(lambda: lock.acquire(timeout=30)) == 0


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    folder = tmp_path / f"parmap-locks-{os.getuid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    code = "from parmap._memory.flock import RobustLock; RobustLock.create()"
    env = {**os.environ, "PARMAP_PORTABLE": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert "not a private folder" in done.stderr
