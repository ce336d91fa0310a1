"""Machines that refuse things, and what others on the machine can see or reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from support.scripts import WATCHDOG, environment, output_of, run_script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

EVERYTHING = """
import threading
from parmap import *

def produce(out):
    for number in range(3):
        out.send(number)

def count(number):
    counter.add(number)
    with lock:
        seen[number] = number
    return number

counter, lock, seen = SharedCounter(), Lock(), SharedDict()
channel = Channel(4)
with Pool(2) as pool:
    assert parallel_map(count, range(8), pool=pool) == list(range(8))
    big = bytes(1_000_000)
    assert parallel_map(len, [big] * 3, pool=pool) == [len(big)] * 3
with channel.receiver as receiver, WorkerGroup() as group:
    group.start(produce, channel.sender)
    received = list(receiver)
print(counter.value, len(seen), received)
"""
ANSWER = "28 8 [0, 1, 2]\n"


def _can_unshare():
    tool = shutil.which("unshare")
    return (
        tool
        and subprocess.run([tool, "-m", "true"], capture_output=True, check=False).returncode == 0
    )


# In a mount namespace of its own, so nobody else sees it; "$DEV" is an empty folder.
HIDE = {
    "/dev/shm cannot be written": "mount -t tmpfs -o ro,size=4k none /dev/shm",
    "no /dev/shm": """
        for name in null zero urandom; do
            touch "$DEV/$name" && mount --bind "/dev/$name" "$DEV/$name"
        done
        ln -s /proc/self/fd "$DEV/fd"
        mount --rbind "$DEV" /dev && test ! -e /dev/shm
        """,
    "no folder for temporary files": """
        for folder in /tmp /var/tmp /dev/shm; do
            mount --bind "$folder" "$folder" && mount -o remount,ro,bind "$folder"
        done
        ! touch /tmp/x 2>/dev/null
        """,
}


@pytest.mark.parametrize("hide", HIDE.values(), ids=HIDE.keys())
def test_without_what_others_use_for_shared_memory(hide, tmp_path):
    if not _can_unshare():
        pytest.skip("may not hide folders here")
    source = WATCHDOG + EVERYTHING
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", f'{hide}\nexec "$0" -c "$1"', sys.executable, source],
        cwd=os.path.dirname(os.path.abspath(__file__)), capture_output=True, text=True, check=False,
        env=environment(TMPDIR="/nonexistent", PYTHONDONTWRITEBYTECODE="1", DEV=str(tmp_path)),
        stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == (ANSWER, "", 0)


@pytest.mark.parametrize("method", [None, "spawn"])
def test_a_variable_that_no_python_starts_with_is_an_error_and_no_hang(method, tmp_path):
    source = f"""
        import os, sys
        from parmap import Pool, WorkerStartError

        os.environ["PYTHONHOME"] = "/nonexistent"
        with Pool(1, start_method={method!r}) as pool:
            try:
                pool.submit(abs, 1).result()
            except WorkerStartError as error:
                print(error.exitcode, bool(error.hint))
            del os.environ["PYTHONHOME"]
            print(pool.submit(abs, -2).result())
        """
    done = run_script(source, tmp_path)  # on stderr is what Python itself says of it
    assert (done.stdout, done.returncode) == ("1 True\n2\n", 0)


@pytest.mark.parametrize("method", [None, pytest.param("spawn", marks=pytest.mark.stress)])
def test_32_workers_that_find_64_descriptors_are_fewer(method, tmp_path):
    """Those that could start serve the pool; a group, which needs all, says what is missing."""
    source = f"""
        import resource, time
        from parmap import Pool, WorkerStartError, parallel_map, run_workers

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

        def slow(number):
            time.sleep(0.02)
            return number

        with Pool(32, start_method={method!r}) as pool:
            print(parallel_map(slow, range(32), pool=pool, chunksize=1) == list(range(32)))
            print(pool.submit(slow, 1).result())
        try:
            run_workers(slow, 32)
        except WorkerStartError as error:
            print("Errno 24" in str(error))
        """
    assert output_of(source, tmp_path) == "True\n1\nTrue\n"


@pytest.mark.parametrize(
    "call",
    [
        "run_workers(give, 1, sender)",
        "parallel_map(abs, [1], max_workers=1)",
        "with Pool(1) as pool: pool.submit(abs, 1).result()",
        "with WorkerGroup() as group: group.start(abs, 1)",
    ],
)
def test_whatever_descriptor_is_the_one_too_many_the_error_names_the_cure(call, tmp_path):
    """At each number of free descriptors, from none to enough; and what was opened is closed."""
    source = f"""
        import gc, os, resource
        from parmap import *
        from support.scripts import only_with_free_descriptors

        def give(rank, sender):
            return rank

        def opened():
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        channel = Channel()
        sender = channel.sender
        import parmap._wire.culprit  # a module is a file, too, and these are loaded when needed
        {call}
        shutdown()
        before = opened()
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + 40, before + 40))
        for free in range(8):
            with only_with_free_descriptors(free):
                try:
                    {call}
                except (WorkerStartError, TaskErrorGroup) as error:
                    first, *_ = getattr(error, "exceptions", [error])
                    print("open files (ulimit" in first.hint, end=" ")
                except SerializationError as error:  # the sender needs one on its way
                    print("ulimit -n" in str(error), end=" ")
            shutdown()
            print(opened() - before)
    """
    told = set(output_of(source, tmp_path).splitlines())
    assert told == {"True 0"}


@pytest.mark.parametrize(
    "call",
    [
        "parallel_map(abs, [1], max_workers=1)",
        "with Pool(1) as pool: pool.submit(abs, 1).result()",
        "run_workers(give, 1)",
    ],
)
def test_without_a_free_thread_there_is_a_hint_and_nothing_stays_open(call, tmp_path):
    source = f"""
        import gc, os, threading
        from parmap import *

        def opened():
            return len(os.listdir("/proc/self/fd"))

        def give(rank):
            return rank

        {call}  # modules are files, too
        shutdown()
        gc.collect()
        gc.disable()

        def no_more(*_, **__):
            raise RuntimeError("can't start new thread")

        new = hasattr(threading, "_start_joinable_thread")  # since 3.13
        name = "_start_joinable_thread" if new else "_start_new_thread"
        start = getattr(threading, name)
        before = opened()
        setattr(threading, name, no_more)
        try:
            {call}
        except WorkerStartError as error:
            print("can't start new thread" in str(error), "ulimit -u" in error.hint)
        setattr(threading, name, start)
        print(opened() - before)
        {call}
        shutdown()
    """
    assert output_of(source, tmp_path) == "True True\n0\n"


def test_a_channel_without_a_descriptor_left_names_the_cure_and_loses_nothing(tmp_path):
    source = """
        import resource
        from parmap import *
        from support.scripts import only_with_free_descriptors

        def first_success(act):
            for free in range(8):
                with only_with_free_descriptors(free):
                    try:
                        return act()
                    except OSError as error:  # TimeoutError, too, without a number
                        if error.errno is None:
                            return "had to wait"
                        assert "ulimit -n" in str(error), error

        channel = Channel(1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        first_success(lambda: channel.send(1))
        print(first_success(lambda: channel.send(2, timeout=0.01)))
        print(first_success(lambda: select(channel, timeout=0)) == [channel])
        print(first_success(channel.receive))
        print(first_success(lambda: channel.receive(timeout=0.01)))
    """
    assert output_of(source, tmp_path) == "had to wait\nTrue\n1\nhad to wait\n"


def test_a_sentinel_without_a_descriptor_left_names_the_cure(tmp_path):
    """The worker is none the worse for it."""
    source = """
        import resource
        from parmap import *
        from support.gates import Gate
        from support.scripts import only_with_free_descriptors

        gate = Gate("gate")

        def wait():
            report_ready()
            gate.wait()

        with WorkerGroup() as group:
            worker = group.start(wait)
            group.ready(worker)  # it needs descriptors as well
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            with only_with_free_descriptors(1):
                try:
                    worker.sentinel
                except OSError as error:
                    print("ulimit -n" in str(error))
            gate.open()
            print(worker.sentinel > 2, worker.join())
    """
    assert output_of(source, tmp_path) == "True\nTrue True\n"


def test_nothing_listens_and_no_file_has_a_name(tmp_path):
    """What a running pool, a group, a channel and shared state have is private and unnamed."""
    source = """
        import os, tempfile
        from parmap import *
        from support.gates import Diary, Gate
        from support.scripts import descendants

        PLACES = [tempfile.gettempdir(), "/dev/shm", "/run", "."]

        def names():
            return {os.path.join(place, name) for place in PLACES if os.path.isdir(place)
                    for name in os.listdir(place)}

        def inodes(pid):
            for name in os.listdir(f"/proc/{pid}/fd"):
                try:
                    yield os.readlink(f"/proc/{pid}/fd/{name}")
                except OSError:
                    continue  # the one that lists

        def listening_or_named(sockets):
            for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
                try:
                    lines = open(f"/proc/net/{table}").read().splitlines()[1:]
                except OSError:
                    continue
                for line in lines:
                    if f"socket:[{line.split()[9]}]" in sockets:
                        yield table, line
            for line in open("/proc/net/unix").read().splitlines()[1:]:
                fields = line.split()
                if f"socket:[{fields[6]}]" in sockets:
                    accepts = int(fields[3], 16) & 0x10000
                    if accepts or len(fields) > 7:
                        yield "unix", line

        gate, met = Gate("gate"), Diary("met")
        own = {"gate", "met", "script.py"}
        counter, shared, lock, channel = SharedCounter(), SharedDict(), Lock(), Channel(4)

        def wait(number):
            counter.add()
            with lock:
                shared[number] = number
            channel.send(number)
            met.meet(3)
            gate.wait()

        before = names()
        with Pool(2) as pool, WorkerGroup() as group:
            futures = [pool.submit(wait, number) for number in range(2)]
            worker = group.start(wait, 2)
            met.wait_for(3)
            processes = [os.getpid(), *descendants(os.getpid())]
            sockets = {each for pid in processes for each in inodes(pid) if "socket:" in each}
            new = names() - before
            print(len(processes) >= 4, len(sockets) >= 4)
            print(sorted(listening_or_named(sockets)))
            mine = [each for each in new if "parmap" in each or os.path.basename(each) in
                    {str(pid) for pid in processes}]
            print([each for each in mine if os.path.basename(each) not in own])
            gate.open()
        """
    assert output_of(source, tmp_path) == "True True\n[]\n[]\n"


LARGE_NUMBERS = {
    "64 workers": """
        with Pool(64) as pool:
            pids = parallel_map(met.meet, [64] * 64, pool=pool, chunksize=1)
        assert len(set(pids)) == 64
        """,
    "2,000 short maps": """
        for _ in range(2_000):
            assert parallel_map(abs, [-1, -2], max_workers=2) == [1, 2]
        """,
    "200 pools": """
        for _ in range(200):
            with Pool(2) as pool:
                assert pool.submit(abs, -1).result() == 1
        """,
    "1,000,000 items": """
        assert parallel_map(abs, range(1_000_000), max_workers=2) == list(range(1_000_000))
        """,
}


@pytest.mark.stress
@pytest.mark.parametrize("body", LARGE_NUMBERS.values(), ids=LARGE_NUMBERS.keys())
def test_large_numbers_leave_nothing(body, tmp_path):
    prelude = """
from parmap import Pool, parallel_map
from parmap.testing import nothing_left_behind
from support.gates import Diary

met = Diary("met")
with nothing_left_behind():
"""
    (tmp_path / "large.py").write_text(prelude + textwrap.indent(textwrap.dedent(body), "    "))
    done = subprocess.run(
        [sys.executable, "large.py"], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, check=False, stdin=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
