"""`pool=client.get_executor()`: a real Dask scheduler and real workers, in processes of their own on
loopback."""

from __future__ import annotations

import itertools
import logging
import os
import random
import signal
import subprocess
import sys
import traceback
import uuid
from pathlib import Path

import pytest

from parmap import (
    Channel,
    SerializationError,
    WorkerLostError,
    current_task,
    in_worker,
    parallel_imap,
    parallel_map,
)
from support.scripts import environment
from support.tasks import double, fail_if_odd, identity
from support.variables import read, request

dask = pytest.importorskip("dask", reason="make test-integrations installs it")
distributed = pytest.importorskip("distributed", reason="make test-integrations installs it")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Dask's own


@pytest.fixture(scope="module")
def cluster():
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    # A worker is restarted in seconds, and a poison item costs each of its runs so many of them.
    few = dask.config.set({"distributed.scheduler.allowed-failures": 1})
    with few, distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1",
        dashboard_address=None, silence_logs=logging.CRITICAL,
    ) as cluster:  # fmt: skip
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def engine(client):
    return client.get_executor()


def test_items_know_their_index_draw_by_seed_and_see_the_callers_context(client):
    def task(_):
        return current_task().index, random.random(), read(), in_worker()

    token = request.set("alice")
    try:
        there = parallel_map(task, range(40), seed=3, pool=client.get_executor())
        here = parallel_map(task, range(40), seed=3, max_workers=0)
    finally:
        request.reset(token)

    assert [row[:3] for row in there] == [row[:3] for row in here]
    assert all(row[3] for row in there)


def test_results_come_in_order_from_other_processes(engine):
    assert parallel_map(double, range(3000), pool=engine) == [2 * x for x in range(3000)]
    pids = set(parallel_map(lambda _: os.getpid(), range(200), pool=engine))
    assert os.getpid() not in pids


def test_lambdas_and_the_callers_classes_travel(engine):
    class Point:
        def __init__(self, x):
            self.x = x

    points = parallel_map(lambda x: Point(x + 1), range(3), pool=engine)

    assert [point.x for point in points] == [1, 2, 3]
    assert all(type(point) is Point for point in points)


def test_errors_have_real_frames_and_a_note(engine):
    with pytest.raises(ValueError, match="odd 1") as caught:
        parallel_map(fail_if_odd, [0, 1, 2], pool=engine)

    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail_if_odd"
    assert "item 1 (1)" in caught.value.__notes__[0]


def test_an_endless_input_is_read_only_as_far_as_it_is_needed(engine):
    read = itertools.count()
    with parallel_imap(double, read, pool=engine, buffersize=20) as results:
        assert list(itertools.islice(results, 60)) == [2 * x for x in range(60)]

    assert next(read) <= 80


def test_equal_items_are_run_each(engine):
    drawn = parallel_map(lambda _: uuid.uuid4().hex, [0] * 20, pool=engine, chunksize=1)

    assert len(set(drawn)) == 20


def test_progress_is_told(engine):
    told = []
    parallel_map(double, range(100), pool=engine, progress=told.append)

    assert told[-1].done == 100


def test_a_worker_killed_during_the_run_loses_nothing(client, engine, tmp_path):
    """Dask runs its chunk again elsewhere."""
    mark = str(tmp_path / "killed")

    def kill_once(x):
        if x == 50 and not os.path.exists(mark):
            os.close(os.open(mark, os.O_CREAT))
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    assert parallel_map(kill_once, range(100), pool=engine) == list(range(100))
    assert os.path.exists(mark)


def test_a_poison_item_fails_alone(engine):
    def die(x):
        if x == 5:
            os._exit(3)
        return x

    results = parallel_map(die, range(10), pool=engine, on_error="return")

    assert results[:5] + results[6:] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert isinstance(results[5].error, WorkerLostError)
    assert type(results[5].error.__cause__).__name__ == "KilledWorker"


def test_the_example_prints_what_stands_beside_it(tmp_path):
    """It starts a cluster of its own, without a guard."""
    source = Path(__file__).parents[2] / "examples" / "11_dask_cluster.py"

    done = subprocess.run(
        [sys.executable, str(source)],
        capture_output=True, text=True, check=False, timeout=50, cwd=tmp_path, env=environment(),
    )  # fmt: skip

    assert done.stdout == source.with_suffix(".out").read_text(encoding="utf-8"), done.stderr
    assert done.returncode == 0


def test_a_handle_of_this_machine_is_refused(engine):
    with pytest.raises(SerializationError, match=r"parmap's own workers"):
        parallel_map(identity, [Channel()], pool=engine)
