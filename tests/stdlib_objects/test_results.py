"""What a task may return or report of them."""

from __future__ import annotations

import multiprocessing
import socket
from multiprocessing import shared_memory
from typing import Any

from parmap import Pool, WorkerGroup, parallel_map, report_ready
from support.gates import PATIENCE


def _both_ends() -> tuple[Any, Any]:
    return multiprocessing.Pipe()


def test_a_connection_is_a_result() -> None:
    with Pool(1) as pool:
        one, other = pool.submit(_both_ends).result()

    with one, other:
        one.send("there")
        assert other.poll(PATIENCE)
        assert other.recv() == "there"


def test_a_socket_is_a_result_and_keeps_its_timeout() -> None:
    def connected() -> tuple[socket.socket, socket.socket]:
        left, right = socket.socketpair()
        left.settimeout(PATIENCE)
        right.settimeout(PATIENCE)
        return left, right

    with Pool(1) as pool:
        left, right = pool.submit(connected).result()

    with left, right:
        assert right.gettimeout() == PATIENCE
        left.send(b"there")
        assert right.recv(5) == b"there"


def test_a_listening_socket_is_reported() -> None:
    def serve() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            report_ready(listener)
            peer, _ = listener.accept()
            with peer:
                peer.send(b"there")

    with (
        WorkerGroup() as group,
        group.ready(group.start(serve), timeout=PATIENCE) as listener,
        socket.create_connection(listener.getsockname(), PATIENCE) as mine,
    ):
        assert mine.recv(5) == b"there"


def test_shared_memory_is_a_result_and_outlives_its_worker() -> None:
    def fill() -> shared_memory.SharedMemory:
        memory = shared_memory.SharedMemory(create=True, size=4)
        assert memory.buf is not None
        memory.buf[:4] = b"here"
        return memory

    with Pool(1) as pool:
        memory = pool.submit(fill).result()

    try:
        assert memory.buf is not None
        assert bytes(memory.buf[:4]) == b"here"
    finally:
        memory.close()
        memory.unlink()


def test_a_raw_array_comes_back_as_a_copy() -> None:
    """Its memory is the worker's, which uses it again."""
    arrays = parallel_map(_raw, range(4), max_workers=1)

    assert [array[0] for array in arrays] == [0, 1, 2, 3]


def _raw(n: int) -> Any:
    array = multiprocessing.RawArray("i", 1)
    array[0] = n
    return array


def test_arguments_may_be_dropped_by_their_maker_at_once() -> None:
    """The call keeps them: a semaphore's name goes with the object that made it."""
    spawn = multiprocessing.get_context("spawn")

    with Pool(1) as pool:
        futures = [pool.submit(_acquire, spawn.Lock()) for _ in range(20)]
        assert [future.result() for future in futures] == [True] * 20
    with WorkerGroup() as group:
        workers = [group.start(_acquire, spawn.Lock()) for _ in range(3)]
        assert [worker.result() for worker in workers] == [True] * 3
    with Pool(1, None, _acquire, (spawn.Lock(),), max_tasks_per_child=1) as pool:
        assert pool.submit(len, "ab").result() == 2


def _acquire(lock: Any) -> bool:
    with lock:
        return True
