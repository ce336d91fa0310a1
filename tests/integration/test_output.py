"""What tasks print is printed by their caller: all of it, in whole lines, before the results."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Pool, WorkerGroup, parallel_imap, parallel_map, run_workers
from parmap._calls import hearsay as hearsay_module
from parmap._calls.hearsay import TOO_MUCH, hearsay
from support.gates import Gate, kept_pool, wait_until
from support.scripts import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def _keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(_keeper: Any) -> Iterator[Pool]:
    with _keeper.lend() as pool:
        yield pool


def say(x: int) -> int:
    print("item", x)
    print("error", x, file=sys.stderr)
    return x


def test_a_map_prints_to_the_callers_streams_before_it_returns(pool, capsys):
    parallel_map(say, range(4), pool=pool)

    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == [f"item {x}" for x in range(4)]
    assert sorted(err.splitlines()) == [f"error {x}" for x in range(4)]


def test_one_worker_prints_as_the_loop_does(capsys):
    with Pool(1) as pool:
        parallel_map(lambda x: print(x, end="; "), range(5), pool=pool)

    assert capsys.readouterr().out == "0; 1; 2; 3; 4; "


def test_the_stream_is_the_one_that_is_there_at_that_time(pool):
    with contextlib.redirect_stdout(io.StringIO()) as first:
        parallel_map(say, [1], pool=pool)
    with contextlib.redirect_stdout(io.StringIO()) as second:
        parallel_map(say, [2], pool=pool)

    assert (first.getvalue(), second.getvalue()) == ("item 1\n", "item 2\n")


def test_what_an_item_printed_comes_before_its_result(pool, capsys):
    printed = ""
    with parallel_imap(say, range(50), pool=pool) as results:
        for x in results:
            printed += capsys.readouterr().out
            assert f"item {x}\n" in printed


def test_a_future_whose_result_was_asked_for_has_printed(pool, capsys):
    for x in range(20):
        pool.submit(say, x).result()
        assert capsys.readouterr().out == f"item {x}\n"


def test_leaving_a_pool_waits_for_what_its_tasks_have_printed(capsys):
    with Pool(2) as pool:
        for x in range(20):
            pool.submit(say, x)

    assert sorted(capsys.readouterr().out.splitlines()) == sorted(f"item {x}" for x in range(20))


def test_workers_of_a_group_print_too(capsys):
    run_workers(say, 2)
    assert sorted(capsys.readouterr().out.splitlines()) == ["item 0", "item 1"]

    with WorkerGroup() as group:
        group.start(say, 7).result()
        assert capsys.readouterr().out == "item 7\n"
        group.start(say, 8)
    assert capsys.readouterr().out == "item 8\n"


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_under_every_start_method(start_method, capsys):
    with Pool(1, start_method=start_method) as pool:
        assert parallel_map(say, [1], pool=pool) == [1]
        assert pool.submit(read_stdin).result() == ("", b"")

    assert capsys.readouterr().out == "item 1\n"


def read_stdin() -> tuple[str, bytes]:
    return sys.stdin.read(), os.read(0, 1)


def test_stdin_of_a_worker_is_empty():
    assert parallel_map(lambda x: read_stdin(), [0], max_workers=1) == [("", b"")]


def say_and_die(x: int) -> None:
    print("last words", x)
    os.kill(os.getpid(), signal.SIGKILL)


def test_nothing_is_lost_when_a_worker_is_killed_right_after_it_printed(capsys):
    parallel_map(say_and_die, range(3), max_workers=2, on_error="return")

    assert sorted(capsys.readouterr().out.splitlines()) == [f"last words {x}" for x in range(3)]


def say_in_a_finally(x: int, gate: Gate) -> None:
    try:
        if x:
            gate.wait()
            raise ValueError(x)
        gate.open()
        threading.Event().wait()
    finally:
        print("cleaned up", x)


def test_what_a_stopped_item_prints_in_its_finally_block_is_seen(tmp_path, capsys):
    gate = Gate(tmp_path / "gate")
    with pytest.raises(ValueError, match="1"):
        parallel_map(lambda x: say_in_a_finally(x, gate), range(2), max_workers=2)

    assert sorted(capsys.readouterr().out.splitlines()) == ["cleaned up 0", "cleaned up 1"]


def long_lines(x: int) -> None:
    for _ in range(50):
        print(str(x) * 9_000)


def test_long_lines_of_several_workers_stay_whole(pool, capsys):
    parallel_map(long_lines, range(4), pool=pool, chunksize=1)

    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted([str(x) * 9_000 for x in range(4)] * 50)


def in_threads(x: int) -> None:
    def talk(name: str) -> None:
        for _ in range(100):
            print(name, end="")
            print(name * 20)

    threads = [threading.Thread(target=talk, args=[name]) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_lines_of_a_tasks_threads_stay_whole(pool, capsys):
    parallel_map(in_threads, [0], pool=pool)

    assert set(capsys.readouterr().out.splitlines()) == {name * 21 for name in "abc"}


def in_a_forked_child(x: int) -> int:
    pid = os.fork()
    if pid == 0:
        print("child")
        os._exit(0)
    os.waitpid(pid, 0)
    print("parent")
    return x


def test_processes_that_a_task_forks_print_too(pool, capsys):
    parallel_map(in_a_forked_child, [0], pool=pool)

    assert capsys.readouterr().out == "child\nparent\n"


def unusual(x: int) -> None:
    sys.stdout.buffer.write("käse\n".encode())
    sys.stdout.buffer.write(b"\xe2\x82")
    sys.stdout.buffer.write(b"\xac\n")
    sys.stdout.writelines(["a", "b\n"])
    print("\ud800")
    print(sys.stdout.encoding, sys.stdout.writable(), sys.stdout.name, sys.stdout.isatty())
    with pytest.raises(TypeError, match="must be str"):
        sys.stdout.write(b"bytes")  # type: ignore[arg-type]


def test_streams_of_a_worker_can_what_streams_can(pool, capfd):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        parallel_map(unusual, [0], pool=pool)

    assert out.getvalue().splitlines() == [
        "käse", "€", "ab", "\\ud800", "utf-8 True <stdout> False",
    ]  # fmt: skip


def test_a_stream_that_cannot_encode_it_shows_it_escaped(pool):
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="ascii")) as out:
        parallel_map(lambda x: print("käse"), [0], pool=pool)

    assert out.buffer.getvalue() == b"k\\xe4se\n"


def below(x: int) -> None:
    os.write(1, b"from C\n")
    subprocess.run(["echo", "from a program"], check=True)
    subprocess.run(["echo", "and its stdout"], check=True, stdout=sys.stdout)


def test_what_is_written_to_the_descriptors_goes_where_they_lead(capfd):
    # Its worker inherits what capfd put there.
    with Pool(1) as pool, contextlib.redirect_stdout(io.StringIO()) as out:
        parallel_map(below, [0], pool=pool)

    assert out.getvalue() == ""
    assert capfd.readouterr().out == "from C\nfrom a program\nand its stdout\n"


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_stream_that_nobody_reads_fails_no_call(pool):
    with contextlib.redirect_stdout(Broken()), contextlib.redirect_stderr(None):
        assert parallel_map(say, range(4), pool=pool) == [0, 1, 2, 3]


def flood(x: int, lines: int = 2_000) -> int:
    for i in range(lines):
        print(x, i, "." * 80)
    return x


def test_a_flood_arrives_whole_and_in_order(pool):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        parallel_map(flood, range(10), pool=pool, chunksize=1)

    lines = [line.split() for line in out.getvalue().splitlines()]
    for x in range(10):
        assert [int(i) for number, i, _ in lines if number == str(x)] == list(range(2_000))


class Slow(io.StringIO):
    """Takes nothing until its gate opens."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate
        self.begun = threading.Event()

    def write(self, text: str) -> int:
        self.begun.set()
        self.gate.wait()
        return super().write(text)


def test_a_flood_that_nobody_takes_makes_workers_wait_and_fills_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(hearsay_module, "TOO_MUCH", 200_000)
    gate, deaf = Gate(tmp_path / "gate"), threading.Event()
    asked = hearsay.when_less

    def when_less(call: Callable[[], None]) -> None:
        deaf.set()
        asked(call)

    monkeypatch.setattr(hearsay, "when_less", when_less)
    slow = Slow(gate)
    with contextlib.redirect_stdout(slow), Pool(2) as pool:
        futures = [pool.submit(flood, x, 20_000) for x in range(2)]
        assert deaf.wait(20)
        held = hearsay._held
        assert not any(future.done() for future in futures)
        gate.open()
        assert [future.result() for future in futures] == [0, 1]

    assert 200_000 < held < 600_000 < TOO_MUCH
    assert slow.getvalue().count("\n") == 40_000


def test_a_lazy_map_that_nobody_takes_from_does_not_silence_others(pool, monkeypatch):
    monkeypatch.setattr(hearsay_module, "MUCH", 50_000)
    monkeypatch.setattr(hearsay_module, "TOO_MUCH", 100_000)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with parallel_imap(flood, range(4), pool=pool) as results:
        for _ in results:
            parallel_map(flood, range(2), pool=pool, chunksize=1)

    assert out.getvalue().count("\n") == (4 + 4 * 2) * 2_000


def test_what_a_dropped_iterators_items_printed_is_seen(pool, capsys):
    results = parallel_imap(say, range(2), pool=pool)
    next(results)
    del results

    seen = ""

    def both() -> bool:
        nonlocal seen
        seen += capsys.readouterr().out
        return "item 0" in seen

    wait_until(both)


def print_later(x: int, gate: Gate) -> None:
    def later() -> None:
        gate.wait()
        print("after the call")

    threading.Thread(target=later, daemon=True).start()


def test_a_thread_that_prints_after_the_call_is_heard(tmp_path):
    gate = Gate(tmp_path / "gate")
    with contextlib.redirect_stdout(io.StringIO()) as out, Pool(1) as pool:
        parallel_map(lambda x: print_later(x, gate), [0], pool=pool)
        assert out.getvalue() == ""
        gate.open()
        wait_until(out.getvalue)

    assert out.getvalue() == "after the call\n"


def fail_in_a_thread(x: int) -> None:
    thread = threading.Thread(target=lambda: 1 / x, name="the thread")
    thread.start()
    thread.join()


def test_an_uncaught_error_of_a_thread_is_seen_once_and_marked(pool, capsys):
    parallel_map(fail_in_a_thread, [0], pool=pool)

    err = capsys.readouterr().err
    assert err.startswith("Exception in thread the thread of worker pool-")
    assert err.endswith("ZeroDivisionError: division by zero\n")
    assert err.count("Traceback") == 1


def test_an_initializer_prints(capsys):
    with Pool(1, initializer=print, initargs=("ready",)) as pool:
        parallel_map(abs, [1], pool=pool)

    assert capsys.readouterr().out == "ready\n"


def test_a_worker_of_a_worker_prints_through_both(capsys):
    with Pool(1) as pool:
        pool.submit(lambda: parallel_map(say, range(2), max_workers=2)).result()

    assert sorted(capsys.readouterr().out.splitlines()) == ["item 0", "item 1"]


def test_a_program_without_streams_runs(tmp_path):
    source = """
        import os, sys
        from parmap import parallel_map
        def f(x):
            print("lost", x)
            return x
        sys.stdout = sys.stderr = None
        open("results", "w").write(repr(parallel_map(f, range(3), max_workers=2)))
    """
    run_script(source, tmp_path)

    assert (tmp_path / "results").read_text() == "[0, 1, 2]"


def test_the_last_words_of_futures_that_nobody_asked_are_heard_at_exit(tmp_path):
    source = """
        from parmap import Pool
        pool = Pool(2)
        for x in range(5):
            pool.submit(print, "future", x)
    """
    done = run_script(source, tmp_path)

    assert sorted(done.stdout.splitlines()) == [f"future {x}" for x in range(5)]


def test_a_bar_makes_room_for_what_tasks_print(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.delenv("PARMAP_PROGRESS", raising=False)

    parallel_map(say, range(3), max_workers=1, progress="work")

    lines = terminal.getvalue().replace("\r", "\n").splitlines()
    assert {"item 0", "item 1", "item 2", "error 0", "error 1", "error 2"} <= set(lines)
    assert "3/3" in lines[-1]
