"""Ctrl-C, SIGTERM, a killed parent, and every way to leave: clean, quick, and nobody stays behind."""

from __future__ import annotations

import os
import signal
import time

import pytest

from support.gates import Diary, Gate, alive, wait_until, wait_until_dead
from support.scripts import LIMIT, output_of, run_script, running

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")

# The contract says one second for Ctrl-C and two for a dead parent; a loaded machine gets one more.
SLACK = 1.0

# What a worker may be doing.
BUSY = {
    "sleeping": "__import__('time').sleep(600)",
    "in a Python loop": "exec('while True: pass')",
    "hashing": "[__import__('hashlib').sha256(b'x' * 50_000_000).digest() for _ in range(10**6)]",
    "in C for ever": "sum(range(10**12))",
    "waiting for a lock": "__import__('threading').Lock().acquire() and _two_locks()",
}

# In a forked child Python's own watchdog would wait for a thread that is not there.
# Python 3.12 and later warn of the fork itself, rightly, but that is not our matter here.
FORKING = (
    "_f.cancel_dump_traceback_later()\n"
    "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
)

PRELUDE = """
import os, sys, time, threading
from parmap import Pool, parallel_imap, parallel_map
from support.gates import Diary, Gate

pids = Diary("pids")

def _two_locks():
    lock = __import__("threading").Lock()
    lock.acquire()
    lock.acquire()
"""


def script(body):
    return PRELUDE + body


def busy(action, methods=""):
    """A program with two workers that are busy with this."""
    return script(f"""
def task(x):
    pids.write(os.getpid())
    {action}

parallel_map(task, range(4), max_workers=2, chunksize=1)
""")


def assert_one_clean_interrupt(code, err):
    assert code in (-signal.SIGINT, 130), (code, err)
    assert err.count("Traceback") == 1, err
    assert err.splitlines()[-1].startswith("KeyboardInterrupt")
    assert "script.py" in err
    for noise in ("During handling", "Exception ignored", "atexit", "parmap/_worker", "Process "):
        assert noise not in err, err


@pytest.mark.parametrize("action", BUSY.values(), ids=BUSY.keys())
@pytest.mark.parametrize("who", ["group", "parent"])
def test_ctrl_c_during_a_map_ends_it_cleanly_within_a_second(tmp_path, action, who):
    with running(busy(action), tmp_path) as program:
        workers = [int(line) for line in Diary(tmp_path / "pids").wait_for(2)]
        began = time.monotonic()
        if who == "group":
            program.interrupt()
        else:
            os.kill(program.pid, signal.SIGINT)
        code, out, err = program.finish()
        took = time.monotonic() - began

    assert_one_clean_interrupt(code, err)
    assert took < 1 + SLACK
    assert out == ""
    assert not any(map(alive, workers))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_ctrl_c_is_clean_under_every_start_method(tmp_path, method):
    source = script(f"""
def task(x):
    pids.write(os.getpid())
    time.sleep(600)

with Pool(2, start_method={method!r}) as pool:
    parallel_map(task, range(4), pool=pool, chunksize=1)
""")
    with running(source, tmp_path) as program:
        Diary(tmp_path / "pids").wait_for(2)
        program.interrupt()
        code, _, err = program.finish()
    assert_one_clean_interrupt(code, err)


@pytest.mark.parametrize("ordered", [True, False])
def test_ctrl_c_in_a_lazy_map_ends_it(tmp_path, ordered):
    source = script(f"""
def task(x):
    if x > 1:
        pids.write(os.getpid())
        time.sleep(600)
    return x

for result in parallel_imap(task, range(100), max_workers=2, chunksize=1, ordered={ordered}):
    pass
""")
    with running(source, tmp_path) as program:
        Diary(tmp_path / "pids").wait_for(2)
        began = time.monotonic()
        program.interrupt()
        code, _, err = program.finish()
        assert time.monotonic() - began < 1 + SLACK
    assert_one_clean_interrupt(code, err)


def test_ctrl_c_while_the_pool_is_idle_ends_the_program_and_its_workers(tmp_path):
    source = script("""
parallel_map(lambda x: pids.write(os.getpid()), range(2), max_workers=2)
pids.write(0)
time.sleep(600)
""")
    with running(source, tmp_path) as program:
        wait_until(lambda: "0" in Diary(tmp_path / "pids").lines())
        program.interrupt()
        code, _, err = program.finish()
    assert_one_clean_interrupt(code, err)


def test_ctrl_c_while_a_lazy_map_is_open_but_nobody_waits(tmp_path):
    source = script("""
def task(x):
    pids.write(os.getpid())
    time.sleep(600 if x else 0)

results = parallel_imap(task, range(9), max_workers=2, chunksize=1)
next(results)
time.sleep(600)
""")
    with running(source, tmp_path) as program:
        Diary(tmp_path / "pids").wait_for(2)
        program.interrupt()
        code, _, err = program.finish()
    assert_one_clean_interrupt(code, err)


def test_a_second_ctrl_c_does_no_harm(tmp_path):
    with running(
        busy("exec('while True:\\n try: time.sleep(600)\\n except BaseException: pass')"), tmp_path
    ) as program:
        Diary(tmp_path / "pids").wait_for(2)
        began = time.monotonic()
        program.interrupt()
        try:
            while program.process.poll() is None and time.monotonic() - began < LIMIT:
                program.interrupt()
                time.sleep(0.1)  # a person's pace; nothing depends on it
        except ProcessLookupError:
            pass
        code, _, err = program.finish()
        assert time.monotonic() - began < 2 + SLACK
    assert code in (-signal.SIGINT, 130, 1)
    assert "KeyboardInterrupt" in err


def test_a_task_that_swallows_everything_is_killed_after_ctrl_c(tmp_path):
    source = busy("exec('while True:\\n try: time.sleep(600)\\n except BaseException: pass')")
    with running(source, tmp_path) as program:
        workers = [int(line) for line in Diary(tmp_path / "pids").wait_for(2)]
        began = time.monotonic()
        program.interrupt()
        code, _, err = program.finish()
        assert time.monotonic() - began < 1 + SLACK
    assert_one_clean_interrupt(code, err)
    assert not any(map(alive, workers))


def test_after_a_caught_ctrl_c_the_pool_goes_on(tmp_path):
    source = script("""
import signal
def task(x):
    pids.write(os.getpid())
    time.sleep(600)

def ctrl_c():
    pids.wait_for(2 * rounds)
    os.kill(os.getpid(), signal.SIGINT)

with Pool(2) as pool:
    for rounds in (1, 2):
        threading.Thread(target=ctrl_c).start()
        try:
            parallel_map(task, range(2), pool=pool, chunksize=1)
        except KeyboardInterrupt:
            print("caught", parallel_map(abs, [-1, -2], pool=pool))
    rounds = 3
    results = parallel_imap(task, range(2), pool=pool, chunksize=1)
    threading.Thread(target=ctrl_c).start()
    try:
        next(results)
    except KeyboardInterrupt:
        print("caught", list(results), pool.submit(abs, -3).result())
""")
    assert output_of(source, tmp_path) == "caught [1, 2]\ncaught [1, 2]\ncaught [] 3\n"


def test_finally_blocks_of_a_task_run_after_ctrl_c(tmp_path):
    source = script("""
def task(x):
    try:
        pids.write(os.getpid())
        time.sleep(600)
    finally:
        Diary("cleaned").write(x)

parallel_map(task, range(2), max_workers=2, chunksize=1)
""")
    with running(source, tmp_path) as program:
        Diary(tmp_path / "pids").wait_for(2)
        program.interrupt()
        code, _, err = program.finish()
    assert_one_clean_interrupt(code, err)
    assert sorted(Diary(tmp_path / "cleaned").numbers()) == [0, 1]


def test_ctrl_c_while_the_workers_start_is_clean(tmp_path):
    source = script("""
pids.write(os.getpid())
for _ in range(1000):
    parallel_map(abs, range(4), max_workers=2)
    import parmap
    parmap.shutdown()
""")
    with running(source, tmp_path) as program:
        Diary(tmp_path / "pids").wait_for(1)
        wait_until(program.children)
        program.interrupt()
        code, _, err = program.finish()
    assert_one_clean_interrupt(code, err)


@pytest.mark.parametrize("action", BUSY.values(), ids=BUSY.keys())
def test_a_killed_parent_takes_its_busy_workers_with_it(tmp_path, action):
    with running(busy(action), tmp_path) as program:
        workers = [int(line) for line in Diary(tmp_path / "pids").wait_for(2)]
        os.kill(program.pid, signal.SIGKILL)
        wait_until_dead(workers, 2 + SLACK)


@pytest.mark.parametrize("method", [None, "spawn", "forkserver", "fork"])
@pytest.mark.parametrize("action", ["pass", "sum(range(10**12))"], ids=["idle", "busy in C"])
def test_a_killed_parent_takes_its_workers_with_it_under_every_start_method(
    tmp_path, method, action
):
    source = script(f"""
def task(x):
    pids.write(os.getpid())
    pids.wait_for(2)
    {action}

with Pool(2, start_method={method!r}) as pool:
    parallel_map(task, range(2), pool=pool, chunksize=1)
    pids.write(0)
    time.sleep(600)
""")
    with running(source, tmp_path) as program:
        diary = Diary(tmp_path / "pids")
        workers = [int(line) for line in diary.wait_for(2 if action != "pass" else 3)]
        os.kill(program.pid, signal.SIGKILL)
        wait_until_dead([pid for pid in workers if pid], 2 + SLACK)


def test_a_killed_parent_takes_nested_workers_with_it(tmp_path):
    source = script("""
def inner(x):
    pids.write(os.getpid())
    sum(range(10**12))

def task(x):
    pids.write(os.getpid())
    parallel_map(inner, [1], max_workers=1)

parallel_map(task, [1], max_workers=1)
""")
    with running(source, tmp_path) as program:
        workers = [int(line) for line in Diary(tmp_path / "pids").wait_for(2)]
        os.kill(program.pid, signal.SIGKILL)
        wait_until_dead(workers, 2 + SLACK)


def test_a_killed_parent_whose_forked_child_lives_on_takes_its_workers_with_it(tmp_path):
    """The child has copies of the parent's descriptors: they must not keep the workers."""
    source = script("""
def task(x):
    pids.write(os.getpid())
    pids.wait_for(2)

parallel_map(task, range(2), max_workers=2, chunksize=1)
if os.fork() == 0:
    pids.write(0)
    time.sleep(3)
    os._exit(0)
time.sleep(600)
""")
    with running(source, tmp_path) as program:
        workers = [int(line) for line in Diary(tmp_path / "pids").wait_for(3)]
        os.kill(program.pid, signal.SIGKILL)
        wait_until_dead([pid for pid in workers if pid], 2)


def test_a_terminated_parent_takes_its_workers_with_it(tmp_path):
    with running(busy("sum(range(10**12))"), tmp_path) as program:
        workers = [int(line) for line in Diary(tmp_path / "pids").wait_for(2)]
        os.kill(program.pid, signal.SIGTERM)
        code, _, err = program.finish()
        wait_until_dead(workers, 2 + SLACK)
    assert (code, err) == (-signal.SIGTERM, "")


def test_sigterm_to_the_whole_group_ends_everything_quietly(tmp_path):
    with running(busy("time.sleep(600)"), tmp_path) as program:
        workers = [int(line) for line in Diary(tmp_path / "pids").wait_for(2)]
        os.killpg(program.pid, signal.SIGTERM)
        code, _, err = program.finish()
        wait_until_dead(workers, 2 + SLACK)
    assert (code, err) == (-signal.SIGTERM, "")


def test_a_task_may_catch_signals_of_its_own(tmp_path):
    source = script("""
import signal
def task(x):
    got = []
    signal.signal(signal.SIGALRM, lambda *_: got.append(1))
    signal.alarm(1)
    signal.pause()
    return got
print(parallel_map(task, [1], max_workers=1))
""")
    assert output_of(source, tmp_path) == "[[1]]\n"


# Ways for a program to end while a lazy map is open and its workers are busy.
ENDINGS = {
    "normal end": ("", 0, ""),
    "sys.exit(3)": ("sys.exit(3)", 3, ""),
    "sys.exit with a text": ("sys.exit('text')", 1, "text\n"),
    "exception": ("raise ValueError('mine')", 1, "ValueError: mine"),
    "os._exit(4)": ("os._exit(4)", 4, ""),
    "del": ("del results", 0, ""),
    "break and end": ("results.close()", 0, ""),
    "sys.exit inside with": ("with results: sys.exit(3)", 3, ""),
    "reference cycle": ("cycle = [results]; cycle.append(cycle); del cycle, results", 0, ""),
    "a thread holds it": (
        "threading.Thread(target=lambda: list(results), daemon=True).start()", 0, "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_cleanly_with_a_lazy_map_open(tmp_path, ending):
    statement, expected, text = ENDINGS[ending]
    source = script(f"""
def task(x):
    pids.write(os.getpid())
    if x:
        time.sleep(600)

results = parallel_imap(task, range(100), max_workers=2, chunksize=1)
next(results)
pids.wait_for(3)
{statement}
""")
    with running(source, tmp_path) as program:
        code, _, err = program.finish()
        wait_until_dead(Diary(tmp_path / "pids").numbers(), 2 + SLACK)
    assert code == expected
    if ending == "exception":
        assert err.count("Traceback") == 1
        assert err.rstrip().endswith(text)
    else:
        assert err == text


def test_a_program_ends_cleanly_while_a_daemon_thread_is_in_a_map(tmp_path):
    source = script("""
def task(x):
    pids.write(os.getpid())
    time.sleep(600)

threading.Thread(target=lambda: parallel_map(task, range(2), max_workers=2), daemon=True).start()
pids.wait_for(2)
""")
    done = run_script(source, tmp_path)
    assert done.returncode == 0
    wait_until_dead(Diary(tmp_path / "pids").numbers(), 2 + SLACK)


def test_a_program_that_leaves_a_pool_open_finishes_what_was_submitted(tmp_path):
    source = script("""
def task(x):
    time.sleep(0.2)
    print("done", x, flush=True)

pool = Pool(1)
for x in range(3):
    pool.submit(task, x)
""")
    assert output_of(source, tmp_path) == "done 0\ndone 1\ndone 2\n"


def test_parmap_may_be_used_in_an_atexit_function(tmp_path):
    source = script("""
import atexit
atexit.register(lambda: print(parallel_map(abs, [-1], max_workers=1)))
parallel_map(abs, [-1], max_workers=1)
""")
    done = run_script(source, tmp_path)
    assert done.returncode == 0
    assert done.stdout == "[1]\n" or "Traceback" in done.stderr  # an answer or an error: no hang


def test_a_forked_child_has_a_shared_pool_of_its_own(tmp_path):
    source = FORKING + script("""
print(parallel_map(abs, [-1], max_workers=2), flush=True)
before = set(parallel_map(lambda x: os.getpid(), range(20), max_workers=2))
pid = os.fork()
if pid == 0:
    after = set(parallel_map(lambda x: os.getpid(), range(20), max_workers=2))
    print(parallel_map(abs, [-2], max_workers=2), not after & before, flush=True)
    sys.exit(0)
print(os.waitpid(pid, 0)[1], flush=True)
now = set(parallel_map(lambda x: os.getpid(), range(20), max_workers=2))
print(bool(now & before), parallel_map(abs, [-3], max_workers=2))
""")
    assert output_of(source, tmp_path) == "[1]\n[2] True\n0\nTrue [3]\n"


def test_a_pool_that_a_forked_child_inherits_is_closed_there(tmp_path):
    source = FORKING + script("""
from parmap import PoolClosedError
pool = Pool(2)
print(pool.submit(abs, -1).result(), flush=True)
results = parallel_imap(abs, range(100), pool=pool)
next(results)
pid = os.fork()
if pid == 0:
    for call in (lambda: pool.submit(abs, -1), lambda: parallel_map(abs, [1], pool=pool)):
        try:
            call()
        except PoolClosedError as error:
            print("closed", flush=True)
    pool.shutdown()
    del results, pool
    sys.exit(0)
print(os.waitpid(pid, 0)[1], flush=True)
print(pool.submit(abs, -2).result(), len(list(results)))
pool.shutdown()
""")
    assert output_of(source, tmp_path) == "1\nclosed\nclosed\n0\n2 99\n"


def test_a_fork_while_threads_are_in_calls_does_no_harm(tmp_path):
    source = FORKING + script("""
parallel_map(abs, [-1], max_workers=2)  # everything is imported: no fork in the midst of that
stop = threading.Event()
def keep_busy():
    while not stop.is_set():
        parallel_map(abs, range(50), max_workers=2)
thread = threading.Thread(target=keep_busy)
thread.start()
codes = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        ok = parallel_map(abs, [-2], max_workers=1) == [2]
        import parmap
        parmap.shutdown()
        os._exit(0 if ok else 1)
    codes.append(os.waitpid(pid, 0)[1])
stop.set()
thread.join()
print(codes)
""")
    assert output_of(source, tmp_path) == "[0, 0, 0, 0, 0]\n"


def test_the_default_handler_of_sigint_is_not_changed_by_parmap(tmp_path):
    source = script("""
import signal
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD)
parallel_map(abs, [-1], max_workers=1)
print((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD)) == before)
""")
    assert output_of(source, tmp_path) == "True\n"


def test_a_program_that_a_task_starts_can_be_interrupted(tmp_path):
    source = script("""
import signal, subprocess
def task(x):
    child = subprocess.Popen([sys.executable, "-c",
        "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, "
        "signal.pthread_sigmask(signal.SIG_BLOCK, []))"], stdout=subprocess.PIPE, text=True)
    return child.communicate()[0]
print(parallel_map(task, [1], max_workers=1)[0].strip())
""")
    assert output_of(source, tmp_path) == "True set()\n"


def test_gates_are_gates(tmp_path):
    gate = Gate(tmp_path / "gate")
    assert not gate.is_open
    gate.open()
    gate.wait()
