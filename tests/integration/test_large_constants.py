"""What a function has bound goes to all workers at once: mapped, and yet each worker's own."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from parmap import Pool, Retry, WorkerLostError, parallel_imap, parallel_map  # noqa: E402
from parmap._memory.host import LINUX, portable_level  # noqa: E402
from support.gates import all_workers  # noqa: E402

SIZE = 4 << 20
only_linux = pytest.mark.skipif(portable_level() != LINUX, reason="elsewhere it is sent")


def look(data, place):
    return int(data[place]), len(data), data.flags.writeable


def scribble(data, place):
    """Write, and say what was there."""
    before = int(data[place])
    data[place] = 1
    return os.getpid(), before


def mapped_files(*_):
    with open("/proc/self/maps") as maps:
        return sum("memfd:parmap" in line for line in maps)


def files_with(data, _):
    return mapped_files()


@pytest.fixture
def data():
    return np.full(SIZE, 7, "u1")


@pytest.mark.parametrize("cap", [1, 2, 4])
def test_it_arrives_whole_and_writable_with_each_worker(data, cap):
    with Pool(cap) as pool:
        assert parallel_map(partial(look, data), range(50), pool=pool) == [(7, SIZE, True)] * 50
        assert list(parallel_imap(lambda x: look(data, x), range(50), pool=pool)) == (
            [(7, SIZE, True)] * 50
        )


def test_what_a_worker_writes_nobody_else_sees(data, tmp_path):
    with Pool(2) as pool:
        all_workers(pool, 2, tmp_path)
        first = parallel_map(partial(scribble, data), [5] * 40, pool=pool, chunksize=1)
        again = parallel_map(partial(scribble, data), [5] * 40, pool=pool, chunksize=1)
    for results in (first, again):
        for pid in {pid for pid, _ in results}:
            seen = [before for each, before in results if each == pid]
            assert sorted(seen) == [1] * (len(seen) - 1) + [7]  # in whatever order they were run
    assert data[5] == 7


@only_linux
def test_it_is_mapped_and_goes_with_its_call(data, tmp_path):
    with Pool(2) as pool:
        pids = all_workers(pool, 2, tmp_path)
        before = len(os.listdir("/proc/self/fd"))
        own = parallel_map(mapped_files, range(50), pool=pool)[0]
        assert set(parallel_map(partial(files_with, data), range(50), pool=pool)) == {own + 1}
        parallel_map(partial(files_with, data), range(50), pool=pool, retry=Retry(on=OSError))
        assert set(parallel_map(mapped_files, range(50), pool=pool, chunksize=1)) == {own}
        assert len(os.listdir("/proc/self/fd")) == before
        assert set(all_workers(pool, 2, tmp_path)) == set(pids)


kept: list[Any] = []


def keep(data):
    kept.append(data)


def look_at_kept(place):
    return look(kept[0], place)


@only_linux
def test_arguments_of_an_initializer_are_mapped_too(data):
    with Pool(2, initializer=keep, initargs=(data,)) as pool:
        assert parallel_map(look_at_kept, range(50), pool=pool) == [(7, SIZE, True)] * 50
        assert min(parallel_map(mapped_files, range(50), pool=pool)) >= 2  # that, and the control


def test_a_replaced_worker_has_it_too(data, tmp_path):
    def die_once(place):
        try:
            os.close(os.open(tmp_path / str(place), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return look(data, place)
        os._exit(1)

    assert parallel_map(die_once, range(3), max_workers=2, retry=Retry(on=WorkerLostError)) == (
        [(7, SIZE, True)] * 3
    )
