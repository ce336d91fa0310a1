"""Nothing is left open, nothing is printed, nothing is removed before its time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Pool, WorkerLostError, parallel_map
from support.scripts import output_of
from support.stdlib_kinds import EXPECTED, HEARD, Ours, everything, look_at_each, use_each

if TYPE_CHECKING:
    from pathlib import Path

SPAWN = multiprocessing.get_context("spawn")


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _touch(_: int, objects: dict[str, Any]) -> int:
    for name, obj in objects.items():
        if name in HEARD:
            obj.close()
    return _open_files()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts the files in /proc")
@pytest.mark.parametrize("start_method", [None, "spawn"], ids=str)
def test_two_hundred_passes_leave_no_descriptor(start_method: str | None) -> None:
    with everything(SPAWN) as (objects, _), Pool(1, start_method=start_method) as pool:
        few = parallel_map(_touch, range(3), [objects] * 3, pool=pool, chunksize=1)[-1]
        here = _open_files()

        many = parallel_map(_touch, range(200), [objects] * 200, pool=pool, chunksize=1)[-1]

        assert (many, _open_files()) == (few, here)


def test_a_connection_dropped_in_the_worker_closes_its_own_descriptor(tmp_path: Path) -> None:
    """It went by its number once, which is another file's there: the worker's lifeline, say."""
    script = """
        import multiprocessing
        from parmap import Pool

        ours, theirs = multiprocessing.Pipe()
        for method in (None, "spawn", "fork"):
            with Pool(1, start_method=method) as pool:
                for _ in range(3):
                    pool.submit(lambda end: end.send("there"), theirs).result()
                    print(ours.recv())
                pool.submit(len, "alive").result()
    """

    assert output_of(script, tmp_path) == "there\n" * 9


@pytest.mark.parametrize("start_method", [None, "spawn", "fork"], ids=str)
def test_nobody_hears_of_the_resource_tracker(tmp_path: Path, start_method: str | None) -> None:
    """Workers end, and what the parent made stays; it is the parent that removes it."""
    script = f"""
        import gc, multiprocessing
        from multiprocessing import shared_memory
        from parmap import Pool

        def use(lock, value, memory, listed):
            with lock:
                value.value += 1
                memory.buf[0] += 1
                listed[0] += 1

        def attach(name):
            again = shared_memory.SharedMemory(name=name)
            again.buf[0] += 1
            again.close()

        def make():
            return shared_memory.SharedMemory(create=True, size=8)

        if __name__ == "__main__":
            spawn = multiprocessing.get_context("spawn")
            with Pool(1, start_method={start_method!r}) as early:
                made = early.submit(make).result()
                lock, value = spawn.Lock(), spawn.Value("i", 0)
                memory = shared_memory.SharedMemory(create=True, size=8)
                listed = shared_memory.ShareableList([0])
                early.submit(use, lock, value, memory, listed).result()
                early.submit(attach, memory.name).result()
            with Pool(1, start_method={start_method!r}) as later:
                later.submit(use, lock, value, memory, listed).result()
                later.submit(attach, memory.name).result()
                later.submit(attach, made.name).result()
            print(value.value, memory.buf[0], listed[0], made.buf[0])
            for each in (memory, listed.shm, made):
                each.close()
                each.unlink()
    """

    assert output_of(script, tmp_path) == "2 4 2 1\n"


def test_memory_that_nobody_removed_is_reported_once_by_its_makers_tracker(tmp_path: Path) -> None:
    """The tracker still does its work: the workers have not told it that all is well."""
    from support.scripts import run_script

    script = """
        from multiprocessing import shared_memory
        from parmap import parallel_map

        memory = shared_memory.SharedMemory(create=True, size=8)
        parallel_map(lambda each: each.buf[0], [memory])
        print(memory.name, flush=True)
        memory.close()
    """

    done = run_script(script, tmp_path)

    assert "1 leaked shared_memory objects" in done.stderr
    assert not os.path.exists(f"/dev/shm/{done.stdout.strip()}")


def test_what_a_task_has_put_into_a_queue_gets_there_though_its_worker_ends() -> None:
    """A thread of the queue sends it, after the task."""
    queue = SPAWN.Queue()

    with Pool(1, max_tasks_per_child=1) as pool:
        for n in range(3):
            pool.submit(_put_much, queue, n).result()
            assert queue.get() == n
            assert len(queue.get()) == 1 << 20

    queue.close()


def _put_much(queue: Any, n: int) -> None:
    queue.put(n)
    queue.put(bytes(1 << 20))


def test_what_a_killed_worker_held_stays_usable() -> None:
    """As in multiprocessing: what it has taken is gone, and the object works."""
    with everything(SPAWN) as (objects, ours):
        with Pool(1) as pool:
            with pytest.raises(WorkerLostError):
                pool.submit(_die_with, objects).result()
            pool.submit(use_each, objects).result()

        assert look_at_each(objects, ours) == EXPECTED


def _die_with(objects: dict[str, Any]) -> None:
    assert set(objects) == set(EXPECTED)
    os.kill(os.getpid(), signal.SIGKILL)


def test_our_ends_see_the_end_of_a_pipe_when_its_last_holder_is_gone() -> None:
    """No copy stays in the parent once the call is over."""
    ours = Ours(SPAWN)
    try:
        with Pool(1) as pool:
            pool.submit(_close, ours.theirs["Connection"]).result()
            ours.theirs["Connection"].close()
            with pytest.raises(EOFError):
                ours.pipe.recv()
    finally:
        ours.close()


def _close(end: Any) -> None:
    end.close()
