"""Nameless memory that several processes see."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading

import pytest

from parmap._memory import host
from parmap._memory import segment as segment_module
from parmap._memory.segment import PAGE, Segment
from parmap._memory.transit import FdSink, FdSource, exporting, importing
from parmap._memory.words import words

pytestmark = pytest.mark.usefixtures("platform")


def send(obj):
    """Pickle and unpickle with descriptors, as two processes would."""
    sink = FdSink()
    with exporting(sink):
        data = pickle.dumps(obj)
    source = FdSource(sink.take())
    try:
        with importing(source):
            return pickle.loads(data)
    finally:
        source.close_unclaimed()


@pytest.mark.parametrize(
    ("asked", "got"), [(0, PAGE), (1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)]
)
def test_new_memory_is_whole_pages_of_zeros(asked, got):
    segment = Segment.create(asked)
    assert segment.size == len(segment.buf) == got
    assert segment.buf[:] == bytes(got)
    assert "bytes" in repr(segment)
    with pytest.raises(ValueError, match="negative"):
        Segment.create(-1)


def test_a_segment_that_arrives_again_is_the_one_that_is_there():
    segment = Segment.create(1)
    assert send(segment) is segment
    assert send([segment, segment]) == [segment, segment]
    assert Segment.from_fd(os.dup(segment.fileno())) is segment


def test_two_threads_receiving_one_segment_map_it_once():
    for _ in range(20):
        fd = host.anonymous_file(PAGE)
        barrier = threading.Barrier(4)
        got: list[Segment] = []

        def receive(fd=fd, barrier=barrier, got=got):
            copy = os.dup(fd)
            barrier.wait()
            got.append(Segment.from_fd(copy))

        threads = [threading.Thread(target=receive) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.close(fd)
        assert len(set(map(id, got))) == 1


def test_what_a_child_writes_is_seen(in_child):
    segment = Segment.create(1)

    def write():
        segment.buf[:5] = b"hello"
        return True

    assert in_child(write) == 0
    assert segment.buf[:5] == b"hello"


def test_growth_is_seen_on_demand_and_old_views_stay_valid(in_child):
    segment = Segment.create(PAGE)
    view = memoryview(segment.buf)

    def grow():
        segment.grow(3 * PAGE)
        segment.buf[3 * PAGE - 1] = 7
        segment.buf[0] = 8
        return segment.size == 3 * PAGE

    assert in_child(grow) == 0
    assert segment.size == PAGE
    assert segment.refresh() == 3 * PAGE
    assert segment.buf[3 * PAGE - 1] == 7
    assert view[0] == 8, "the old mapping shows the same memory"
    view[1] = 9
    assert segment.buf[1] == 9
    with pytest.raises(BufferError):
        segment.close()
    view.release()
    del view
    gc.collect()
    segment.close()


def test_growing_to_less_changes_nothing():
    segment = Segment.create(2 * PAGE)
    segment.grow(1)
    assert segment.size == 2 * PAGE
    host.extend(segment.fileno(), PAGE)  # somebody whose view of the size is old
    assert os.fstat(segment.fileno()).st_size == 2 * PAGE


def test_close_refuses_while_a_view_lives():
    segment = Segment.create(1)
    view = memoryview(segment.buf)
    with pytest.raises(BufferError, match="still in use"):
        segment.close()
    view[0] = 1
    view.release()
    segment.close()
    segment.close()
    assert segment.closed
    assert segment.fileno() == -1
    for use in (
        lambda: segment.buf,
        lambda: segment.grow(1),
        segment.refresh,
        lambda: send(segment),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_views_keep_the_memory_after_the_segment_is_collected():
    segment = Segment.create(1)
    view = memoryview(segment.buf)
    del segment
    gc.collect()
    view[0] = 3
    assert view[0] == 3
    assert all(weak() is not None for weak in segment_module._registry.values())


def test_a_descriptor_that_cannot_be_mapped_is_closed():
    read, write = os.pipe()
    os.close(write)
    with pytest.raises((ValueError, OSError)):
        Segment.from_fd(read)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(read)


def test_nobody_can_shrink_it(platform):
    """A shorter file would kill the others with SIGBUS."""
    segment = Segment.create(2 * PAGE)
    if platform == "portable":
        pytest.skip("only memory files can be sealed")
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fileno(), PAGE)


def test_it_has_no_name(platform):
    segment = Segment.create(1)
    assert os.fstat(segment.fileno()).st_nlink == 0
    assert "deleted" in os.readlink(f"/proc/self/fd/{segment.fileno()}")


def test_a_kernel_before_noexec_seals(monkeypatch, platform):
    """Linux before 6.3 refuses the flag; then it is left out."""
    real, asked = os.memfd_create, []

    def old(name, flags):
        asked.append(flags)
        if flags & 8:
            raise OSError(22, "Invalid argument")
        return real(name, flags)

    monkeypatch.setattr(os, "memfd_create", old)
    assert Segment.create(1).size == PAGE
    assert len(asked) == (2 if platform == "native" else 0)


def test_words_are_eight_aligned_bytes():
    segment = Segment.create(PAGE)
    view = words(segment, 8, 2)
    view[1] = -2
    assert segment.buf[16:24] == (-2).to_bytes(8, sys.byteorder, signed=True)
    for offset, count in [(4, 1), (-8, 1), (0, -1), (PAGE, 1), (0, PAGE)]:
        with pytest.raises(ValueError, match=r"multiples of 8|ends at"):
            words(segment, offset, count)


def test_words_beyond_the_end_look_whether_it_has_grown(in_child):
    segment = Segment.create(PAGE)

    def grow():
        segment.grow(2 * PAGE)
        return True

    assert in_child(grow) == 0
    assert words(segment, PAGE)[0] == 0


def test_a_word_is_published_by_one_store(in_child):
    """A reader next door never sees half of a word."""
    segment = Segment.create(16)
    view = words(segment, 0, 2)
    values = [0, -1, 0x0123456789ABCDEF, -0x0123456789ABCDEF]

    def write():
        for number in range(200_000):
            view[0] = values[number & 3]
        view[1] = 1
        return True

    pid = os.fork()
    if pid == 0:
        try:
            write()
        finally:
            os._exit(0)
    seen = set()
    while not view[1]:
        seen.add(view[0])
    os.waitpid(pid, 0)
    assert seen <= set(values)


def test_memory_goes_with_its_last_user_even_when_all_are_killed(platform, tmp_path, monkeypatch):
    """Nothing in /dev/shm, nothing in the temporary folder, nothing said."""
    from pathlib import Path

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(os.listdir("/dev/shm"))
    code = """if True:
        import os, time
        from parmap._memory.segment import Segment
        from parmap._memory.arena import default_arena
        from parmap._memory.keeper import Keeper
        segment, keeper = Segment.create(1 << 20), Keeper.create()
        block = default_arena().allocate(8)
        os.fork()
        os.write(1, b"ready\\n")
        time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    assert (out, err) == ("", "")
    assert set(os.listdir("/dev/shm")) == before
    left = [path.name for path in Path(tmp_path).rglob("*") if path.is_file()]
    # The portable lock leaves its empty file until the next use (see test_flock).
    assert len(left) == (0 if platform == "native" else 1)


def test_without_descriptors_everything_fails_clearly_and_leaks_nothing(platform):
    """At every limit from "nothing goes" upwards, so that each step is once the one that fails."""
    code = """if True:
        import gc, os, resource
        from parmap._memory.arena import Arena
        from parmap._memory.fdpass import Link
        from parmap._memory.flock import RobustLock
        from parmap._memory.keeper import Keeper
        from parmap._memory.segment import Segment

        def count():
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        def limit(number):
            resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        RobustLock.create()  # what is imported late is imported now
        before = count()
        segment = lambda: Segment.create(1)
        makers = RobustLock.create, Arena.create, Keeper.create, Link.pair, segment
        for room in range(1, 10):
            for make in makers:
                limit(before + room)
                made = []
                try:
                    while True:
                        made.append(make())
                        if make is RobustLock.create:
                            made[-1].acquire()
                except OSError as error:
                    assert "ulimit -n" in str(error), error
                for thing in made:
                    for link in thing if isinstance(thing, tuple) else ():
                        link.close()
                made.clear()
                thing = link = None
                limit(before + 100)
                assert count() == before, (room, make)
        arena = Arena.create()
        blocks = [arena.allocate(1) for _ in range(3)]
        limit(count() - 1)  # no room for the child's own description: it shares its parent's
        pid = os.fork()
        if pid == 0:
            os._exit(0 if arena.statistics()["used"] == 3 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        limit(before + 100)
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")
