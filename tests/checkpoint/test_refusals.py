"""What cannot be a checkpoint is refused at the door, with the cure; a full disk loses nothing."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from parmap import (
    Barrier,
    ParmapError,
    Pool,
    parallel_imap,
    parallel_map,
    parallel_starmap,
    run_workers,
)
from parmap._checkpoint.store import Store
from support.checkpoints import is_whole, rows, value_of
from support.scripts import environment
from support.tasks import double, identity

CALLS = [parallel_map, parallel_starmap, parallel_imap]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("given", "kind", "told"),
    [
        (5, TypeError, "checkpoint must be the path of a file (str or os.PathLike) or None, not 5"),
        (b"x", TypeError, "checkpoint must be the path of a file"),
        (True, TypeError, "checkpoint must be the path of a file"),
        ("", ValueError, "checkpoint must be the path of a file or None, not ''"),
        ("a\0b", ValueError, "checkpoint must be the path of a file or None"),
        ("/", IsADirectoryError, "is a folder: name a file in it, such as /results.sqlite"),
        ("/nowhere/at/all", FileNotFoundError, "make the folder /nowhere/at first"),
    ],
)
def test_a_wrong_path_is_refused_at_the_door(call, given, kind, told):
    with pytest.raises(kind, match=re.escape(told)):
        call(double, [(1,)], checkpoint=given, max_workers=2)


def test_a_file_of_somebody_else_is_refused_and_left_as_it_is(file):
    file.write_text("my thesis\n" * 200)
    with pytest.raises(ValueError, match="is none: give the checkpoint a file of its own"):
        parallel_map(double, [1], checkpoint=file)
    assert file.read_text() == "my thesis\n" * 200

    file.unlink()
    with sqlite3.connect(file) as base:
        base.execute("CREATE TABLE mine (x)")
    base.close()
    before = file.read_bytes()
    with pytest.raises(ValueError, match="is another program's database"):
        parallel_map(double, [1], checkpoint=file)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_an_empty_file_becomes_a_checkpoint(file):
    """As `tempfile` makes them."""
    file.touch()

    assert parallel_map(double, [1], checkpoint=file, max_workers=0) == [2]
    assert len(rows(file)) == 1


def test_a_damaged_file_is_refused(file):
    parallel_map(double, range(100), checkpoint=file, max_workers=0)
    data = bytearray(file.read_bytes())
    data[100:4000] = b"\xff" * 3900
    file.write_bytes(data)

    with pytest.raises(ValueError, match=r"is damaged .*move it away and start anew"):
        parallel_map(double, [1], checkpoint=file)


def test_a_file_of_a_newer_parmap_is_refused(file):
    parallel_map(double, [1], checkpoint=file, max_workers=0)
    with sqlite3.connect(file) as base:
        base.execute("PRAGMA user_version = 99")
    base.close()

    with pytest.raises(ValueError, match="was made by a newer parmap"):
        parallel_map(double, [1], checkpoint=file)


def test_a_file_that_cannot_be_written_is_refused(file):
    """Also for root, who may write to every file, but not to the kernel's."""
    with pytest.raises(OSError, match="this process must be able to write to the file and to its"):
        parallel_map(double, [1], checkpoint="/proc/version")


def test_a_relative_path_is_that_of_the_door(file, monkeypatch):
    """The program may go elsewhere before it takes the results."""
    monkeypatch.chdir(file.parent)
    results = parallel_imap(double, [1], checkpoint=file.name, max_workers=0)
    monkeypatch.chdir("/")

    assert list(results) == [2]
    assert len(rows(file)) == 1


def test_names_that_sqlite_has_a_meaning_for_are_files_like_others(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name in (":memory:", "file:x?mode=memory", "ünï %41 ?#"):
        parallel_map(double, [1], checkpoint=name, max_workers=0)
        assert len(rows(folder / name)) == 1


# ---------------------------------------------------------------------- one call at a time

SECOND = """
import sys
from parmap import parallel_map
from support.tasks import double
try:
    print(parallel_map(double, [1], checkpoint=sys.argv[1], max_workers=0))
except Exception as error:
    print(type(error).__name__, error)
"""


def second_process(file):
    return subprocess.run(
        [sys.executable, "-c", SECOND, str(file)], env=environment(), capture_output=True, text=True,
        check=True, timeout=60,
    ).stdout  # fmt: skip


def test_a_second_process_is_refused_and_told_who_has_the_file(file):
    with parallel_imap(double, [1], checkpoint=file, max_workers=0) as results:
        told = second_process(file)
        assert told.startswith(f"ParmapError checkpoint {file} is in use by another process (pid")
        assert f"(pid {os.getpid()})" in told
        assert "give this call a file of its own" in told
        assert list(results) == [2]
    assert second_process(file) == "[2]\n"


def test_a_second_call_of_the_same_process_is_refused(file):
    """And the first one does not lose its file by that: closing a descriptor would break its lock."""
    link = file.with_name("link")
    with parallel_imap(double, [1, 2], checkpoint=file, max_workers=0) as results:
        assert next(results) == 2
        link.symlink_to(file)
        for path in (file, link):
            with pytest.raises(ParmapError, match=rf"this process \(pid {os.getpid()}\)"):
                parallel_map(identity, [1], checkpoint=path)
        assert "ParmapError" in second_process(file)
        assert next(results) == 4
    assert parallel_map(identity, [1], checkpoint=file, max_workers=0) == [1]


def test_of_calls_that_begin_at_the_same_time_one_gets_the_file(file):
    barrier, got = threading.Barrier(4), []

    def open_it():
        barrier.wait()
        try:
            got.append(Store(file, double, None))
        except ParmapError:
            got.append(None)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (store,) = [each for each in got if each is not None]
    store.close()


def test_of_processes_that_come_at_the_same_time_one_gets_each_file(folder):
    """Not none: SQLite's own lock is taken in several steps."""
    rounds = 8
    got = run_workers(claim_each, 3, str(folder), Barrier(3), rounds)

    assert list(map(sum, zip(*got, strict=True))) == [1] * rounds


def claim_each(rank, folder, barrier, rounds):
    got = []
    for number in range(rounds):
        barrier.wait()
        try:
            store = Store(Path(folder, str(number)), double, None)
        except ParmapError:
            store = None
        barrier.wait()
        got.append(store is not None)
        if store is not None:
            store.close()
    return got


def test_an_item_of_the_call_cannot_use_its_file(file):
    with pytest.raises(ParmapError, match="is in use by another process"):
        parallel_map(map_with, [str(file)], checkpoint=file, max_workers=1)
    with pytest.raises(ParmapError, match="is in use by another call of this process"):
        parallel_map(map_with, [str(file)], checkpoint=file, max_workers=0)


def map_with(file):
    return parallel_map(double, [1], checkpoint=file, max_workers=0)


def test_a_call_that_is_refused_elsewhere_lets_the_file_go(file):
    """Nothing has run, and the next call may have it."""
    for _ in range(2):
        with pytest.raises(TypeError, match="either pool or max_workers"), Pool(1) as pool:
            parallel_map(double, [1], checkpoint=file, pool=pool, max_workers=2)
    with pytest.raises(ValueError, match="chunksize"):
        parallel_map(double, [1], checkpoint=file, chunksize=0)
    assert not descriptors_of(file)
    assert parallel_map(double, [1], checkpoint=file, max_workers=0) == [2]


def test_a_closed_call_leaves_one_file_and_no_descriptor(file):
    parallel_map(double, range(10), checkpoint=file, max_workers=0)
    with pytest.raises(ZeroDivisionError):
        list(parallel_imap(divide, [1, 0], checkpoint=file, max_workers=0))
    assert not descriptors_of(file)
    assert os.listdir(file.parent) == [file.name]


def descriptors_of(file):
    """Those of this process that lead to it, or to what SQLite puts beside it."""
    found = []
    for fd in os.listdir("/proc/self/fd") if sys.platform == "linux" else []:
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return [path for path in found if path.startswith(str(file))]


def divide(x):
    return 1 / x


# ---------------------------------------------------------------------- forks

FORKING = """
import os, sys
from parmap import parallel_imap
from parmap._checkpoint.store import Store
from support.tasks import double

file = sys.argv[1]
results = parallel_imap(double, range(6), checkpoint=file, max_workers=0)
assert [next(results), next(results)] == [0, 2]
pid = os.fork()
if pid == 0:
    # An exit that cleans everything up, half-way through the parent's call.
    import warnings
    warnings.simplefilter("ignore")
    assert next(results) == 4  # inline, it can even go on; it only stores nothing
    results.close()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert next(results) == 4
print(os.path.exists(file + "-wal"))
os._exit(0)  # as if killed
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_its_parents_file_alone(file):
    """SQLite would clear up behind the parent's back, and what the parent stores would be lost."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, str(file)],
        env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert (done.returncode, done.stderr, done.stdout) == (0, "", "True\n")
    assert is_whole(file)
    assert len(rows(file)) == 3


# ---------------------------------------------------------------------- a disk that is full


def refuse_writes(store, monkeypatch):
    """From now on the file must not grow: SQLite says what it says of a full disk."""
    (pages,) = store._base.execute("PRAGMA page_count").fetchone()
    store._base.execute(f"PRAGMA max_page_count = {pages}")


@pytest.mark.parametrize("engine", ["workers", "inline"])
def test_a_full_disk_is_said_once_and_loses_no_result(engine, file, monkeypatch):
    """The computation goes on: its results are what it was run for."""
    stores = []
    enter = Store._enter

    def remember(store, fn):
        enter(store, fn)
        stores.append(store)

    monkeypatch.setattr(Store, "_enter", remember)

    def items():
        yield from range(3)
        refuse_writes(stores[0], monkeypatch)
        yield from range(3, 12)

    with pytest.warns(
        UserWarning, match=r"cannot be stored: database or disk is full.*make"
    ) as told:
        results = parallel_map(
            large, items(), checkpoint=file, max_workers=0 if engine == "inline" else 2
        )
    assert results == [large(x) for x in range(12)]
    assert len(told) == 1
    assert is_whole(file)
    assert len(rows(file)) < 12
    assert parallel_map(large, range(12), checkpoint=file, max_workers=0) == results
    assert len(rows(file)) == 12


def large(x):
    return bytes([x]) * 20_000


LIMITED = """
import resource, signal, sys
from parmap import parallel_map
from support.checkpoints import value_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    parallel_map(value_of, [1], checkpoint=sys.argv[1], max_workers=0)
except OSError as error:
    print(error)
"""


def test_a_disk_that_is_full_from_the_start_is_said_at_the_door(file):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(file)], env=environment(), capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip

    assert re.search("checkpoint .* disk", done.stdout), done.stdout
    assert Path(file).stat().st_size == 0
    assert parallel_map(value_of, [1], checkpoint=file, max_workers=0) == [value_of(1)]
