"""Objects of `multiprocessing` and sockets, to a worker and back: both sides are in this process."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import socket
import ssl
import sys
from contextlib import closing
from multiprocessing import managers, queues, reduction, shared_memory, sharedctypes
from typing import Any

import pytest

from parmap._memory import host
from parmap._wire.pickling import Encoded
from parmap.errors import SerializationError

SPAWN = multiprocessing.get_context("spawn")


def refuses(codec, obj, text):
    with pytest.raises(SerializationError, match=text):
        codec.dumps(obj)


@pytest.mark.parametrize("name", ["Lock", "RLock", "Semaphore", "Event", "Condition"])
def test_a_lock_is_the_same_lock_there_and_is_no_result(name, parent, worker):
    mine = getattr(SPAWN, name)()
    theirs = worker.loads(parent.dumps(mine))

    if name == "Event":
        theirs.set()
        assert mine.is_set()
    elif name == "Semaphore":
        assert theirs.acquire(block=False)
        assert not mine.acquire(block=False)
    else:
        assert type(theirs) is type(mine)
    refuses(worker, mine, f"a {name} of multiprocessing ends with the process that made it")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("name", ["Lock", "Queue", "Event"])
def test_what_only_forked_processes_can_use_is_refused_with_the_cure(name, parent):
    made = getattr(multiprocessing.get_context("fork"), name)()
    refuses(parent, made, rf'get_context\("spawn"\).{name}\(\) instead')


class Labelled(queues.SimpleQueue):
    """A user's queue, with a descriptor of its own that goes along as multiprocessing's do."""

    def __init__(self, fd):
        super().__init__(ctx=SPAWN)
        self.fd = fd

    def __getstate__(self):
        return super().__getstate__(), reduction.DupFd(self.fd)

    def __setstate__(self, state):
        inherited, fd = state
        super().__setstate__(inherited)
        self.fd = fd.detach()


@pytest.mark.skipif(sys.platform == "win32", reason="there are handles")
def test_a_descriptor_that_a_subclass_hands_over_as_to_a_new_process_arrives_open(parent, worker):
    read, write = os.pipe()
    mine = Labelled(write)
    theirs = worker.loads(parent.dumps(mine))

    assert theirs.fd != write
    os.write(theirs.fd, b"by the descriptor")
    theirs.put("by the queue")
    assert (os.read(read, 100), mine.get()) == (b"by the descriptor", "by the queue")

    for end in (theirs, mine):
        end.close()
    for fd in (read, write, theirs.fd):
        os.close(fd)


def test_a_lock_goes_along_with_what_travels_by_value(parent, worker):
    lock = SPAWN.Lock()

    def is_free():
        return lock.acquire(block=False)

    theirs = worker.loads(parent.dumps(is_free))
    assert theirs()
    assert not is_free()


def test_a_lock_that_was_gone_when_it_arrived_is_named(parent, worker):
    sent = parent.dumps(SPAWN.Lock())  # keeps it
    arrived = Encoded.from_segments([bytearray(each) for each in sent.segments], [])
    del sent
    with pytest.raises(SerializationError, match="Lock of multiprocessing was gone"):
        worker.loads(arrived)


def test_values_and_arrays_are_the_same_memory_and_copies_as_results(parent, worker):
    value, raw = SPAWN.Value("i", 3), sharedctypes.RawValue("i", 4)
    numbers = sharedctypes.RawArray("i", [1, 2])
    theirs = worker.loads(parent.dumps([value, raw, numbers]))
    theirs[0].value, theirs[1].value, theirs[2][0] = 30, 40, 10

    assert (value.value, raw.value, list(numbers)) == (30, 40, [10, 2])
    back = parent.loads(worker.dumps([theirs[1], theirs[2]]))
    theirs[1].value, theirs[2][0] = 0, 0
    assert (back[0].value, list(back[1])) == (40, [10, 2])
    refuses(worker, value, r"a Value of multiprocessing .*use parmap\.SharedValue\(\.\.\.\)")


class Pair(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int))


@pytest.mark.parametrize(
    ("kind", "name", "cure"),
    [
        (Pair, "Value", "SharedValue"),
        (ctypes.c_double, "Value", "SharedValue"),
        (ctypes.c_int * 3, "Array", "SharedArray"),
        (ctypes.c_char * 3, "Array", "SharedArray"),
    ],
)
def test_what_is_shared_is_named_as_the_function_that_makes_it(kind, name, cure, worker):
    """Whatever lies in it: multiprocessing makes a class for each structure."""
    made = sharedctypes.synchronized(sharedctypes.RawValue(kind), ctx=SPAWN)
    refuses(worker, made, rf"a {name} of multiprocessing ends .*use parmap\.{cure}\(\.\.\.\)")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_value_that_only_forked_processes_can_use_is_refused_with_the_cure(parent):
    made = multiprocessing.get_context("fork").Value(Pair)
    refuses(
        parent, made, r'get_context\("spawn"\)\.Value\(\.\.\.\) instead, or parmap\.SharedValue'
    )


def test_an_ordinary_object_of_ctypes_is_a_copy(parent, worker):
    mine = ctypes.c_int(3)
    theirs = worker.loads(parent.dumps(mine))
    theirs.value = 5
    assert mine.value == 3


def test_memory_that_cannot_be_mapped_leaves_no_descriptor(parent, worker, monkeypatch):
    from multiprocessing import heap

    sent = parent.dumps(SPAWN.Value("i", 3))
    before = len(os.listdir("/proc/self/fd"))

    def refuse(*_):
        raise OSError("no room")

    monkeypatch.setattr(heap, "Arena", refuse)
    with pytest.raises(OSError, match="no room"):
        worker.loads(sent)
    assert len(os.listdir("/proc/self/fd")) < before


def test_connections_and_sockets_arrive_open_and_closed_ones_are_refused(parent, worker):
    here, there = multiprocessing.Pipe()
    with here, there, worker.loads(parent.dumps(there)) as theirs:
        theirs.send("hello")
        assert here.recv() == "hello"
    left, right = socket.socketpair()
    with left, right:
        right.settimeout(7.0)
        with worker.loads(parent.dumps(right)) as theirs:
            assert theirs.gettimeout() == 7.0
            theirs.sendall(b"x")
            assert left.recv(1) == b"x"
    refuses(parent, right, "this socket is closed")
    refuses(parent, here, "handle is closed")


def test_a_socket_that_encrypts_does_not_travel(parent):
    """It is more than its descriptor."""
    context = ssl.create_default_context()
    left, right = socket.socketpair()
    with (
        left,
        context.wrap_socket(right, server_hostname="x", do_handshake_on_connect=False) as tls,
    ):
        refuses(parent, tls, "SSLSocket")


def test_named_memory_is_attached_to_and_closed_memory_is_refused(parent, worker):
    with closing(shared_memory.SharedMemory(create=True, size=64)) as mine:
        try:
            with closing(worker.loads(parent.dumps(mine))) as theirs:
                theirs.buf[0] = 9
                assert mine.buf[0] == 9
        finally:
            mine.unlink()
    refuses(parent, mine, "this SharedMemory is closed")


def test_named_memory_goes_by_its_name_alone_where_descriptors_cannot_travel(
    parent, worker, monkeypatch
):
    monkeypatch.setenv("PARMAP_PORTABLE", "2")
    assert not host.passes_descriptors()
    with closing(shared_memory.SharedMemory(create=True, size=64)) as mine:
        try:
            reduced = parent.dumps(mine)
            assert b"tracker" not in bytes(reduced.data)
        finally:
            mine.unlink()


class Untracked(shared_memory.SharedMemory):
    """Memory that no tracker removes; from Python 3.13 on SharedMemory can be so itself."""

    _track = False

    def __init__(self, name=None, create=False, size=0, *, track=True):
        self.asked_to_track = track
        options = {"track": False} if sys.version_info >= (3, 13) else {}
        super().__init__(name, create, size, **options)


def test_memory_that_no_tracker_watches_is_watched_by_none_where_it_arrives(parent, worker):
    with closing(Untracked(create=True, size=64)) as mine:
        try:
            sent = parent.dumps(mine)
            assert sent.fds == []  # the way to a tracker is one
            with closing(worker.loads(sent)) as theirs:
                assert not theirs.asked_to_track
                theirs.buf[0] = 9
                assert mine.buf[0] == 9
        finally:
            mine.unlink()


class Wilful(managers.BaseProxy):
    """A user's proxy, which says itself how it is pickled: it needs no key."""

    def __reduce__(self):
        return str, ("stands for a list",)


def test_a_proxy_that_pickles_itself_in_its_own_way_arrives_so(parent, worker):
    with SPAWN.Manager() as manager:
        parts: Any = manager.list()
        proxy: Any = Wilful(parts._token, "pickle", manager=manager, authkey=parts._authkey)
        assert worker.loads(parent.dumps(proxy)) == "stands for a list"


def test_proxies_and_managers_arrive_connected_and_a_proxy_keeps_what_it_stands_for(parent, worker):
    with SPAWN.Manager() as manager:
        there = worker.loads(parent.dumps({"list": manager.list([1]), "manager": manager}))
        assert list(there["list"]) == [1]
        made = there["manager"].dict(a=1)
        sent = worker.dumps(made)
        del made
        back = parent.loads(sent)
        assert back.copy() == {"a": 1}
    refuses(parent, manager, "this manager is not running")


def test_what_is_written_to_a_file_holds_no_key(parent):
    """`private` is taken back for bytes that others may read."""
    with SPAWN.Manager() as manager:
        proxy = manager.dict()
        parent.scope.private = False
        key = bytes(multiprocessing.current_process().authkey)
        assert key not in parent.dumps_inline(proxy)
        assert key not in parent.dumps(proxy).data
        parent.scope.private = True
        assert key in parent.dumps(proxy).data
        assert pickle.loads(pickle.dumps(proxy)).copy() == {}
