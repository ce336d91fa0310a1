"""Programs that end, nest or fork in unusual ways: no hang, no noise, and nobody stays behind."""

from __future__ import annotations

import os
import signal

import pytest

from support.gates import Diary, wait_until_dead
from support.scripts import output_of, running

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")

LEAVES = {
    "from the block of a pool": "os._exit(7)",
    "from a thread": "threading.Thread(target=os._exit, args=(7,)).start(); time.sleep(60)",
}


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES.keys())
def test_a_parent_that_leaves_by_os_exit_takes_its_busy_workers_with_it(leave, tmp_path):
    source = f"""
        import os, threading, time
        from parmap import Pool
        from support.gates import Diary

        pids = Diary("pids")

        def busy(number):
            pids.write(os.getpid())
            sum(range(10**12))  # in C, for ever

        with Pool(2) as pool:
            for number in range(2):
                pool.submit(busy, number)
            pids.wait_for(2)
            {leave}
        """
    with running(source, tmp_path) as script:
        assert script.finish() == (7, "", "")
        wait_until_dead(Diary(tmp_path / "pids").numbers(), timeout=5)


def test_a_generator_that_is_dropped_in_a_loop_that_breaks_leaves_the_pool_usable(tmp_path):
    source = """
        from parmap import Pool, parallel_imap, parallel_map

        def consume(pool):
            for result in parallel_imap(abs, range(10**9), pool=pool):
                if result == 5:
                    raise LookupError(result)

        with Pool(2) as pool:
            for _ in range(3):
                try:
                    consume(pool)
                except LookupError as error:
                    print(error)
            print(parallel_map(abs, [-1], pool=pool))
        """
    assert output_of(source, tmp_path) == "5\n5\n5\n[1]\n"


def test_a_map_in_a_daemonic_process_of_multiprocessing(tmp_path):
    """multiprocessing forbids a daemonic process to have children; ours are not of its making."""
    source = """
        import multiprocessing
        from parmap import Pool, WorkerGroup, parallel_map

        def body(queue):
            queue.put(parallel_map(lambda x: x * x, range(4), max_workers=2))
            with Pool(2) as pool:
                queue.put(pool.submit(abs, -1).result())
            with WorkerGroup() as group:
                worker = group.start(abs, -2)
            queue.put(worker.result())

        if __name__ == "__main__":
            for method in ("fork", "spawn"):
                context = multiprocessing.get_context(method)
                queue = context.SimpleQueue()
                process = context.Process(target=body, args=(queue,), daemon=True)
                process.start()
                print(queue.get(), queue.get(), queue.get())
                process.join()
                print(process.exitcode)
        """
    answer = "[0, 1, 4, 9] 1 2\n0\n"
    assert output_of(source, tmp_path, PYTHONWARNINGS="ignore::DeprecationWarning") == answer * 2


def test_a_map_in_a_logging_handler(tmp_path):
    """Also where parmap itself logs, and the handler is called in a thread of ours."""
    source = """
        import logging, os
        from parmap import Restart, WorkerGroup, parallel_map
        from support.gates import Diary

        class Handler(logging.Handler):
            def emit(self, record):
                print(parallel_map(len, [record.getMessage()], max_workers=1), flush=True)

        logging.getLogger().addHandler(Handler())
        logging.warning("four")
        starts = Diary("starts")

        def fail_once():
            starts.write(1)
            if len(starts.lines()) == 1:
                os._exit(1)

        with WorkerGroup() as group:
            group.start(fail_once, name="w", restart=Restart())
        print(parallel_map(len, ["abc"], max_workers=1))
        """
    first, restarted, last = output_of(source, tmp_path).splitlines()
    assert (first, last) == ("[4]", "[3]")
    assert restarted.startswith("[")


def test_a_fork_while_other_threads_hold_locks_of_every_kind(tmp_path):
    """The child's maps work although threads that are not there held locks at the fork."""
    source = """
        import logging, os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        _f.cancel_dump_traceback_later()
        from parmap import Channel, Lock, Pool, parallel_map, SharedCounter

        parallel_map(abs, [1, 2], max_workers=2)
        over = threading.Event()
        log, lock, counter = logging.getLogger("x"), Lock(), SharedCounter()

        def busy():
            channel = Channel(4)
            while not over.is_set():
                with lock:
                    counter.add()
                channel.send(1)
                channel.receive()
                parallel_map(abs, range(3), max_workers=2)
                log.error("")

        log.addHandler(logging.NullHandler())
        log.propagate = False
        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                assert parallel_map(abs, [-1, -2], max_workers=2) == [1, 2]
                with Pool(1) as pool:
                    assert pool.submit(abs, -3).result() == 3
                counter.add()
                import parmap
                parmap.shutdown()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        over.set()
        for thread in threads:
            thread.join()
        print("done")
        """
    assert output_of(source, tmp_path) == "done\n"


def test_sigterm_to_the_parent_alone_while_a_group_and_a_map_run(tmp_path):
    source = """
        import os, time
        from parmap import WorkerGroup, parallel_map
        from support.gates import Diary

        pids = Diary("pids")

        def busy(*_):
            pids.write(os.getpid())
            time.sleep(600)

        with WorkerGroup() as group:
            group.start(busy)
            parallel_map(busy, range(2), max_workers=2)
        """
    with running(source, tmp_path) as script:
        Diary(tmp_path / "pids").wait_for(3)
        os.kill(script.pid, signal.SIGTERM)
        assert script.finish() == (-signal.SIGTERM, "", "")
        wait_until_dead(Diary(tmp_path / "pids").numbers(), timeout=5)
