"""Threads and forked processes that hold ends of channels, and that a test can tell, stop and kill.

Nothing here knows how a channel works. A `Child` is forked, so its body may be a closure; it
inherits every end that is open in the test, which counts until the child closes it (that is the
contract): bodies take a neutral Channel and make ends of their own, or close what they inherited.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
import traceback
import warnings
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from support.gates import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LENGTH = struct.Struct("<q")
# So often must a thread be seen asleep, without a switch in between, to be called blocked.
_CALM = 4


class Child:
    """A forked process that runs ``body(self, *args)``; both sides have `say` and `hear`."""

    def __init__(self, body: Callable[..., object], *args: Any) -> None:
        up, down = os.pipe(), os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the test run may have threads
            self.pid = os.fork()
        self.exitcode: int | None = None
        if self.pid == 0:
            self._in, self._out = down[0], up[1]
            self._live(body, args)
        self._in, self._out = up[0], down[1]
        os.close(up[1])
        os.close(down[0])

    def _live(self, body: Callable[..., object], args: tuple[Any, ...]) -> None:
        status = 70
        try:
            self.pid = os.getpid()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            faulthandler.register(signal.SIGUSR1, all_threads=True)
            body(self, *args)
            status = 0
        except BaseException:
            self._write((False, traceback.format_exc()))
        finally:
            os._exit(status)

    def _write(self, message: object) -> None:
        data = pickle.dumps(message)
        os.write(self._out, _LENGTH.pack(len(data)) + data)

    def say(self, message: object = None) -> None:
        self._write((True, message))

    def hear(self, timeout: float = PATIENCE) -> Any:
        """Return what the other side says next; its failure is an AssertionError here."""
        deadline = time.monotonic() + timeout
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        fine, message = pickle.loads(self._read(length, deadline))
        assert fine, f"in the child:\n{message}"
        return message

    def _read(self, length: int, deadline: float) -> bytes:
        data = b""
        while len(data) < length:
            remaining = max(0.0, deadline - time.monotonic())
            if not select.select([self._in], [], [], remaining)[0]:
                self.dump_stacks()
                raise AssertionError(f"process {self.pid} said nothing; its stacks are on stderr")
            chunk = os.read(self._in, length - len(data))
            if not chunk:
                raise AssertionError(f"process {self.pid} ended without a word")
            data += chunk
        return data

    def dump_stacks(self) -> None:
        dump_stacks([self.pid])

    def stop(self) -> None:
        """SIGSTOP, and wait until it does not run any more."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: activity(self.pid).state in "TtZX", f"process {self.pid} to stop")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; afterwards everything that it held is closed."""
        if self.exitcode is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; the exit code is as multiprocessing has it."""
        if self.exitcode is None:
            pidfd = os.pidfd_open(self.pid)
            try:
                if not select.select([pidfd], [], [], timeout)[0]:
                    self.dump_stacks()
                    raise AssertionError(f"process {self.pid} hangs; its stacks are on stderr")
            finally:
                os.close(pidfd)
            self.exitcode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._in)
            os.close(self._out)
        return self.exitcode

    def end_well(self, timeout: float = PATIENCE) -> None:
        """Wait for its end, which must be a good one; else raise what it said of it."""
        reader = os.dup(self._in)
        try:
            if self.wait(timeout) != 0:
                self._in = reader
                self.hear(1.0)
                raise AssertionError(f"process {self.pid} ended with {self.exitcode}")
        finally:
            os.close(reader)

    def wait_until_blocked(self) -> None:
        wait_until_blocked(self.pid)


@contextmanager
def child(body: Callable[..., object], *args: Any) -> Iterator[Child]:
    """Give a child that is killed at the end of the block, if it lives then."""
    process = Child(body, *args)
    try:
        yield process
    finally:
        process.kill()


def dump_stacks(pids: list[int]) -> None:
    """Have children print their Python stacks on stderr."""
    for pid in pids:
        print(f"--- stacks of process {pid}, {activity(pid)}", file=sys.stderr, flush=True)
        try:
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGUSR1)
        except ProcessLookupError:
            continue
        select.select([], [], [], 0.3)  # only so that the stacks do not mix


class Activity(NamedTuple):
    state: str
    switches: int


def activity(pid: int, thread: int | None = None) -> Activity:
    """What the kernel says of a process's main thread, or of a thread."""
    try:
        with open(f"/proc/{pid}/task/{thread or pid}/status", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
    except (FileNotFoundError, ProcessLookupError):
        return Activity("X", 0)
    switches = int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"])
    return Activity(fields["State"].split()[0], switches)


def wait_until_blocked(pid: int, thread: int | None = None) -> None:
    """Wait until it sleeps in the kernel, and goes on sleeping: most probably where it should.

    If it sleeps somewhere else the test has less power, and is still right.
    """
    seen, calm = Activity("?", 0), 0

    def quiet() -> bool:
        nonlocal seen, calm
        now = activity(pid, thread)
        calm = calm + 1 if now == seen and now.state == "S" else 0
        seen = now
        return calm >= _CALM

    wait_until(quiet, f"process {pid} to block")


class Running(threading.Thread):
    """A thread whose result or error can be asked for."""

    def __init__(self, fn: Callable[..., Any], *args: Any) -> None:
        super().__init__(daemon=True)
        self._future: Future[Any] = Future()
        self._fn, self._args = fn, args
        self.start()

    def run(self) -> None:
        try:
            self._future.set_result(self._fn(*self._args))
        except BaseException as error:
            self._future.set_exception(error)
        del self._fn, self._args

    def result(self, timeout: float = PATIENCE) -> Any:
        self.settle(timeout)
        return self._future.result()

    def error(self, timeout: float = PATIENCE) -> BaseException | None:
        self.settle(timeout)
        return self._future.exception()

    def settle(self, timeout: float = PATIENCE) -> None:
        self.join(timeout)
        if self.is_alive():
            faulthandler.dump_traceback(all_threads=True)
            raise AssertionError("the thread hangs; its stack is on stderr")

    def wait_until_blocked(self) -> None:
        wait_until_blocked(os.getpid(), self.native_id)


def collect() -> None:
    """Collect garbage, cycles of cycles included."""
    for _ in range(2):
        gc.collect()


def open_files() -> dict[int, str]:
    """The descriptors of this process and what they lead to."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
    return found
