"""The engine as it runs where Linux's own ways are missing, chosen by PARMAP_PORTABLE.

1: no pidfd, no signal on hang-up, no memory files (macOS); 2: no descriptors over sockets either,
so workers start through multiprocessing's spawn (Windows).
"""

from __future__ import annotations

import os
import signal

import pytest

from support.gates import Diary, wait_until_dead
from support.scripts import output_of, running

levels = pytest.mark.parametrize("level", ["1", "2"])


@levels
def test_results_errors_and_crashes_are_the_same(tmp_path, level):
    """The way a worker starts and dies is hidden from the caller."""
    source = """
        import itertools, os
        from parmap import Pool, WorkerGroup, failure_of, parallel_imap, parallel_map

        class Point:
            pass

        def work(x):
            if x == 3:
                raise ValueError("three", x)
            if x == 5:
                os._exit(7)
            return x * x

        results = parallel_map(work, range(8), max_workers=2, on_error="return")
        print([r if isinstance(r, int) else type(r.error).__name__ for r in results])
        print(results[5].error.exitcode, results[3].error.args)
        print(type(parallel_map(lambda x: Point(), [1], max_workers=1)[0]) is Point)
        with parallel_imap(lambda x: -x, itertools.count(), max_workers=2) as numbers:
            print(list(itertools.islice(numbers, 4)))
        with Pool(2, start_method="forkserver") as pool:
            print(pool.submit(pow, 2, 10).result())
        with WorkerGroup() as group:
            print(group.start(pow, 2, 5).result())
        """
    assert output_of(source, tmp_path, PARMAP_PORTABLE=level).splitlines() == [
        "[0, 1, 4, 'ValueError', 16, 'WorkerLostError', 36, 49]",
        "7 ('three', 3)",
        "True",
        "[0, -1, -2, -3]",
        "1024",
        "32",
    ]


@levels
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_takes_its_busy_workers_with_it(tmp_path, level, signal_number):
    """Without the kernel's help a thread of the worker watches."""
    source = f"""
        import os
        from parmap import parallel_map
        from support.gates import Diary

        pids = Diary({str(tmp_path / "pids")!r})

        def task(x):
            pids.write(os.getpid())
            while True:
                pass

        parallel_map(task, range(2), max_workers=2)
        """
    with running(source, tmp_path, PARMAP_PORTABLE=level) as program:
        workers = [int(line) for line in Diary(tmp_path / "pids").wait_for(2)]
        os.kill(program.pid, signal_number)
        wait_until_dead(workers, 3)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_pool_of_multiprocessings_workers_that_is_left_open_does_not_hold_the_exit_up(
    tmp_path, method
):
    """Multiprocessing joins its children at exit: ours must have been told to go before."""
    source = f"""
        from parmap import Pool, parallel_map

        pool = Pool(1, start_method={method!r})
        print(parallel_map(abs, [-1], pool=pool))
        future = pool.submit(pow, 2, 3)
        future.add_done_callback(lambda done: print(done.result(), flush=True))
        """
    assert output_of(source, tmp_path).splitlines() == ["[1]", "8"]
