"""Descriptors on their way with a pickle."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading

import pytest

from parmap._memory.segment import Segment
from parmap._memory.transit import (
    FdSink,
    FdSource,
    current_sink,
    current_source,
    export_fd,
    exporting,
    import_fd,
    importing,
)
from parmap.errors import SerializationError


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_the_same_descriptor_travels_once(pipe):
    sink = FdSink()

    tokens = [sink.add(fd) for fd in (pipe[0], pipe[1], pipe[0])]

    assert tokens == [0, 1, 0]
    assert len(sink.fds) == 2
    sink.close()


def test_a_number_given_away_again_is_another_file(pipe):
    """A number closed between two adds must not send the first file again."""
    sink = FdSink()
    first = os.dup(pipe[0])
    one = sink.add(first)
    os.dup2(pipe[1], first)  # the other end of the same pipe: the same inode even

    other = sink.add(first)

    assert one != other
    os.close(first)
    sink.close()


def test_epoll_and_eventfd_share_an_inode_but_are_not_mixed_up():
    sink = FdSink()
    fd = os.eventfd(0)
    one = sink.add(fd)
    os.close(fd)
    again = os.eventfd(7)
    assert again == fd

    assert sink.add(again) != one

    os.close(again)
    sink.close()


def test_what_is_collected_survives_the_original_and_is_not_inherited(pipe):
    sink = FdSink()
    fd = os.dup(pipe[1])
    token = sink.add(fd)
    os.close(fd)

    assert not os.get_inheritable(sink.fds[token])
    os.write(sink.fds[token], b"x")
    assert os.read(pipe[0], 1) == b"x"
    sink.close()
    sink.close()


def test_a_token_can_be_claimed_twice_even_after_the_first_claim_was_closed(pipe):
    source = FdSource([os.dup(pipe[1])])

    first = source.claim(0)
    os.close(first)
    second = source.claim(0)
    source.close_unclaimed()

    os.write(second, b"y")
    assert os.read(pipe[0], 1) == b"y"
    os.close(second)


def test_a_token_that_did_not_arrive_is_an_error():
    with pytest.raises(LookupError, match="only 0 came"):
        FdSource([]).claim(0)
    with pytest.raises(LookupError, match="did not arrive"):
        FdSource([]).claim(-1)


def test_current_ones_nest_and_belong_to_a_thread():
    outer, inner = FdSink(), FdSink()
    seen = []
    with exporting(outer), importing(FdSource([])) as source:
        with exporting(inner):
            assert current_sink() is inner
            with exporting(None):
                assert current_sink() is None
        assert current_sink() is outer
        assert current_source() is source
        thread = threading.Thread(target=lambda: seen.append((current_sink(), current_source())))
        thread.start()
        thread.join()
    assert current_sink() is None
    assert current_source() is None
    assert seen == [(None, None)]


def test_leaving_by_an_error_restores():
    with pytest.raises(ZeroDivisionError), exporting(FdSink()):
        _ = 1 / 0
    assert current_sink() is None


def test_a_plain_pickle_refuses_with_a_sentence():
    with pytest.raises(SerializationError, match="argument of a"):
        pickle.dumps(Segment.create(1))


def test_bytes_without_their_descriptors_refuse():
    sink = FdSink()
    with exporting(sink):
        data = pickle.dumps(Segment.create(1))
    sink.close()
    with pytest.raises(SerializationError, match="did not come"):
        pickle.loads(data)


def test_a_given_descriptor_is_closed_when_it_cannot_travel(pipe):
    fd = os.dup(pipe[0])
    with pytest.raises(SerializationError):
        export_fd(fd, "thing", give=True)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_given_descriptors_are_never_taken_for_one(pipe):
    sink = FdSink()
    with exporting(sink):
        assert [export_fd(os.dup(pipe[0]), "thing", give=True) for _ in range(3)] == [0, 1, 2]
    sink.close()


def test_import_lifts_a_claim_above_the_standard_streams(pipe):
    source = FdSource([os.dup(pipe[0])])
    with importing(source):
        fd = import_fd(0)
    source.close_unclaimed()
    assert fd > 2
    os.close(fd)


def test_running_out_of_descriptors_is_said_and_leaks_nothing():
    """RLIMIT_NOFILE: the error names the cure, and everything is closed again."""
    code = """if True:
        import os, resource
        from parmap._memory.transit import FdSink
        r, w = os.pipe()
        before = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        sink = FdSink()
        try:
            for _ in range(100):
                sink._tokens.clear()
                sink.add(r)
        except OSError as error:
            assert "ulimit -n" in str(error), error
        else:
            raise SystemExit("no error")
        sink.close()
        assert len(os.listdir("/proc/self/fd")) == before
        print("fine")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def _report(segment, same, connection):
    segment.buf[0] = 42
    connection.send(same is segment)
    connection.close()


@pytest.mark.usefixtures(
    "keeps_fds"
)  # multiprocessing's own: the resource tracker, the fork server
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_handles_are_arguments_of_a_multiprocessing_process(method):
    """Also twice in one process: the spawn method refuses a number that it gets twice."""
    context = multiprocessing.get_context(method)
    segment = Segment.create(100)
    here, there = context.Pipe()
    process = context.Process(target=_report, args=(segment, segment, there))
    process.start()
    there.close()

    assert here.recv() is True
    process.join()
    assert process.exitcode == 0
    assert segment.buf[0] == 42
    here.close()
    process.close()


class Twice:
    """Pickles one descriptor twice, as two unrelated handles over one file would."""

    def __init__(self, fd):
        self.fd = fd

    def __reduce__(self):
        return _land, (export_fd(self.fd, "thing"), export_fd(self.fd, "thing"))


def _land(one, other):
    return import_fd(one), import_fd(other)


def _write_both(fds):
    for fd in fds:
        os.write(fd, b"!")


@pytest.mark.usefixtures("keeps_fds")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_one_descriptor_twice_in_one_process_object(method, pipe):
    context = multiprocessing.get_context(method)
    process = context.Process(target=_write_both, args=(Twice(pipe[1]),))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert os.read(pipe[0], 9) == b"!!"
    process.close()


def test_importing_the_memory_package_is_light():
    """Every worker imports it: none of the heavy modules may come along."""
    code = (
        "import sys, parmap; before = set(sys.modules)\n"
        "import parmap._memory.arena, parmap._memory.keeper\n"
        "heavy = {'multiprocessing', 'ctypes', 'subprocess', 'dataclasses', 'inspect', 'socket',"
        " 'threading', 'logging', 'tempfile', 'weakref', 'random', 'contextlib', 'typing'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
